// The request as code, in step with the form.

import { byId, tabs } from "../shared/dom.js";
import { snippet } from "./snippets.js";

export class CodeView {
  #language = "curl";
  #request = null;
  #keyed = false;

  constructor() {
    tabs(byId("languages"), (id) => {
      this.#language = id.replace("code-", "");
      this.#render();
    });
    byId("copy-code").addEventListener("click", () => this.#copy());
  }

  /** `request`: as `readRequest` returns it. `keyed`: the server needs a key. */
  show(request, keyed) {
    this.#request = request;
    this.#keyed = keyed;
    this.#render();
  }

  #render() {
    if (this.#request === null) return;
    byId("code").textContent = snippet(this.#language, new URL(".", location.href).href, this.#request, this.#keyed);
    byId("code").setAttribute("aria-labelledby", `code-${this.#language}`);
  }

  async #copy() {
    const button = byId("copy-code");
    try {
      await navigator.clipboard.writeText(byId("code").textContent);
      button.textContent = "Copied";
    } catch {
      // Without HTTPS a browser may refuse: then it is selected, to be copied by hand.
      getSelection().selectAllChildren(byId("code"));
      button.textContent = "Selected";
    }
    setTimeout(() => (button.textContent = "Copy"), 1500);
  }
}
