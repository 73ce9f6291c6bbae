// The live view: reads /metrics and /readyz each second while it is seen, and only then.

import { send } from "../shared/api.js";
import { byId, element, scrolled } from "../shared/dom.js";
import { readKey } from "../shared/keys.js";
import { visible } from "../shared/visible_text.js";
import { samplesOf } from "./exposition.js";
import { History } from "./history.js";
import { tables, tiles } from "./sections.js";
import { sparkline } from "./sparkline.js";

const PERIOD_MS = 1000;

export class LiveView {
  #history = new History();
  #shown = false;
  #refused = false;
  #timer = null;
  #reading = false;
  #tables = new Map();

  constructor() {
    document.addEventListener("visibilitychange", () => this.#wake());
  }

  /** Whether its tab is open. */
  set shown(shown) {
    this.#shown = shown;
    this.#wake();
  }

  /** Another key, perhaps one that may read. */
  keysChanged() {
    this.#refused = false;
    this.#history.clear();
    this.#wake();
  }

  get #seen() {
    return this.#shown && document.visibilityState === "visible" && !this.#refused;
  }

  #wake() {
    clearTimeout(this.#timer);
    if (this.#seen && !this.#reading) this.#read();
  }

  async #read() {
    this.#reading = true;
    try {
      const text = await (await send("metrics", { key: "admin" })).text();
      const ready = await (await fetch("readyz", { cache: "no-store" })).json();
      this.#history.add(performance.now(), samplesOf(text));
      this.#render(ready);
      byId("live-state").textContent = "Read each second while this page is seen; lines show the last minute.";
    } catch (error) {
      this.#refused = error.status === 401 || error.status === 403;
      const words = this.#refused ? missing(error) : [visible(`${error.message} Trying again.`)];
      byId("live-state").replaceChildren(...words);
      if (this.#refused) this.#empty();
    }
    this.#reading = false;
    if (this.#seen) this.#timer = setTimeout(() => this.#wake(), PERIOD_MS);
  }

  #empty() {
    byId("live-figures").replaceChildren();
    this.#tables.clear();
  }

  #render(ready) {
    const place = byId("live-figures");
    const cards = tiles(this.#history, ready).map(([name, text, line]) =>
      element("div", { class: "tile" },
        element("dt", {}, name),
        element("dd", {}, visible(text)),
        line === null ? null : element("dd", {}, sparkline(line)),
      ),
    );
    if (!place.firstChild) place.append(element("dl", { class: "tiles" }));
    place.firstChild.replaceChildren(...cards);
    for (const [title, names, rows] of tables(this.#history, ready)) {
      if (!this.#tables.has(title)) this.#tables.set(title, begin(place, title, names));
      this.#tables.get(title).replaceChildren(...rows.map((cells) => element("tr", {}, ...cells.map(cell))));
    }
  }
}

function cell(content) {
  if (typeof content === "string") return element("td", {}, visible(content));
  return element("td", { class: "drawn" }, content);
}

/** A table without rows; returns its body. */
function begin(place, title, names) {
  const body = element("tbody");
  const head = element("tr", {}, ...names.map((name) => element("th", { scope: "col" }, name)));
  const table = element("table", {}, element("thead", {}, head), body);
  place.append(element("section", {}, element("h2", {}, title), scrolled(title, table)));
  return body;
}

function missing(error) {
  return [
    readKey("admin") ? "The admin key that was entered does not open it. " : "The live view needs an admin key. ",
    "A key of the admin API with the role read, or one for metrics, goes under Keys; an operator makes one with ",
    element("code", {}, "penstock keys new --admin --id console --roles read"),
    ". The server says: ",
    visible(error.message),
  ];
}
