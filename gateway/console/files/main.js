// The console's beginning: tabs, keys, and the state of the server.

import { LiveView } from "./live/live.js";
import { Playground } from "./playground/playground.js";
import { byId, tabs } from "./shared/dom.js";
import { readKey, writeKey } from "./shared/keys.js";
import { visible } from "./shared/visible_text.js";

const playground = new Playground();
const live = new LiveView();

tabs(document.querySelector("header [role=tablist]"), (id) => {
  byId("playground").hidden = id !== "tab-playground";
  byId("live").hidden = id !== "tab-live";
  live.shown = id === "tab-live";
});

function showKeys(shown) {
  byId("keys").hidden = !shown;
  byId("show-keys").setAttribute("aria-expanded", String(shown));
}

byId("show-keys").addEventListener("click", () => {
  showKeys(byId("keys").hidden);
  if (!byId("keys").hidden) byId("api-key").focus();
});
byId("keys").addEventListener("submit", (event) => {
  event.preventDefault();
  for (const name of ["api", "admin"]) writeKey(name, byId(`${name}-key`).value.trim());
  keysChanged();
});
byId("forget-keys").addEventListener("click", () => {
  for (const name of ["api", "admin"]) writeKey(name, (byId(`${name}-key`).value = ""));
  keysChanged();
});

function keysChanged() {
  live.keysChanged();
  connect();
}

/** The header's state, the models, and whether the server needs a key. */
async function connect() {
  const state = byId("server-state");
  try {
    const { version } = await (await fetch("version")).json();
    const ready = await (await fetch("readyz", { cache: "no-store" })).json();
    state.textContent = visible(`${version}, ${ready.state}`);
    state.className = `state ${ready.status === "ready" ? "good" : "warn"}`;
  } catch {
    state.textContent = "not reached";
    state.className = "state bad";
  }
  try {
    await playground.loadModels();
    // Without a key only a server that has none answers.
    const keyed = readKey("api") !== "";
    byId("keyless-note").hidden = keyed;
    playground.keyed = keyed;
    showKeys(false);
  } catch (error) {
    showKeys(true);
    playground.keyed = true;
    byId("progress").textContent = visible(`The models could not be listed: ${error.message} ${error.advice ?? ""}`);
  }
}

for (const name of ["api", "admin"]) byId(`${name}-key`).value = readKey(name);
connect();
