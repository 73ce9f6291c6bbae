// The console's beginning: tabs, keys, and the state of the server.

import { LiveView } from "./live/live.js";
import { Playground } from "./playground/playground.js";
import { byId, tabs } from "./shared/dom.js";
import { readKey, writeKey } from "./shared/keys.js";
import { visible } from "./shared/visible_text.js";

const playground = new Playground();
const live = new LiveView();
const AGAIN_MS = 2000;

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

/** The server's version and state; while it is not ready and this page is seen, again after a moment. */
async function showState() {
  const state = byId("server-state");
  let kind = "bad";
  let words = "not reached";
  try {
    const { version } = await (await fetch("version")).json();
    const ready = await (await fetch("readyz", { cache: "no-store" })).json();
    [kind, words] = [ready.status === "ready" ? "good" : "warn", visible(`${version}, ${ready.state}`)];
  } catch {
    // Shown as it is.
  }
  state.className = `state ${kind}`;
  if (state.textContent !== words) state.textContent = words;
  if (kind !== "good" && document.visibilityState === "visible") setTimeout(showState, AGAIN_MS);
}

/** The models, and whether the server needs a key. */
async function connect() {
  try {
    await playground.loadModels();
    // Without a key only a server that has none answers.
    const keyed = readKey("api") !== "";
    byId("keyless-note").hidden = keyed;
    playground.keyed = keyed;
    byId("progress").textContent = "";
    showKeys(false);
  } catch (error) {
    showKeys(true);
    playground.keyed = true;
    byId("progress").textContent = visible(`The models could not be listed: ${error.message} ${error.advice ?? ""}`);
  }
}

for (const name of ["api", "admin"]) byId(`${name}-key`).value = readKey(name);
document.addEventListener("visibilitychange", () => {
  if (document.visibilityState === "visible") showState();
});
showState();
connect();
