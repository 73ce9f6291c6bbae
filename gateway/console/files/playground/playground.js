// Sends what the form says, and shows the answer as it comes.

import { ApiError, send } from "../shared/api.js";
import { byId, element } from "../shared/dom.js";
import { visible } from "../shared/visible_text.js";
import { Answer } from "./answer.js";
import { CodeView } from "./code_view.js";
import { eventData } from "./event_stream.js";
import { FieldProblem, readRequest } from "./request_form.js";
import { Turns } from "./turns.js";

const EXAMPLE_TOOL = [{
  type: "function",
  function: {
    name: "get_weather",
    description: "The weather of a city.",
    parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
  },
}];
const EXAMPLE_SCHEMA = {
  type: "object", properties: { result: { type: "integer" } }, required: ["result"], additionalProperties: false,
};

const broken = (message, answer) => new ApiError({ code: "stream_broken", message }, answer.status, answer.requestId);

export class Playground {
  #turns = new Turns();
  #code = new CodeView();
  #running = null;
  #keyed = false;
  #cards = new Map();

  constructor() {
    byId("composer").addEventListener("submit", (event) => {
      event.preventDefault();
      if (this.#running === null) this.#ask();
    });
    byId("prompt").addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      byId("composer").requestSubmit();
    });
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.#running?.abort();
    });
    byId("stop").addEventListener("click", () => this.#running?.abort());
    byId("clear").addEventListener("click", () => this.#clear());
    byId("settings").addEventListener("submit", (event) => event.preventDefault());
    for (const form of ["settings", "composer"]) byId(form).addEventListener("input", () => this.#changed());
    byId("example-tool").addEventListener("click", () => {
      byId("tools").value = JSON.stringify(EXAMPLE_TOOL, null, 2);
      this.#changed();
    });
    byId("schema").value = JSON.stringify(EXAMPLE_SCHEMA, null, 2);
  }

  /** Fetch the models that the key may use. Raises ApiError. */
  async loadModels() {
    const { data } = await (await send("v1/models")).json();
    const chosen = byId("model").value;
    this.#cards = new Map(data.map((card) => [card.id, card]));
    byId("model").replaceChildren(...data.map((card) => element("option", { value: card.id }, visible(card.id))));
    if (this.#cards.has(chosen)) byId("model").value = chosen;
    this.#changed();
  }

  /** `keyed`: the server needs a key. */
  set keyed(keyed) {
    this.#keyed = keyed;
    this.#changed();
  }

  #messages() {
    const draft = byId("prompt").value.trim() === "" ? [] : [{ role: "user", content: byId("prompt").value }];
    const all = [...this.#turns.messages, ...(this.#turns.openCalls.length ? this.#results() : draft)];
    // With nothing new it is the request that got the last answer.
    while (all.at(-1)?.role === "assistant") all.pop();
    return all;
  }

  #results() {
    return this.#turns.openCalls.map((call, at) => (
      { role: "tool", tool_call_id: call.id, content: byId(`result-${at}`)?.value ?? "" }
    ));
  }

  #changed() {
    byId("schema-part").hidden = byId("format").value !== "json_schema";
    const card = this.#cards.get(byId("model").value);
    const length = card?.max_model_len && `${card.max_model_len.toLocaleString("en")} tokens of context`;
    const notes = card ? [card.description, length, card.available === false && "not available now"] : [];
    byId("model-note").textContent = visible(notes.filter(Boolean).join("; "));
    const request = this.#read();
    if (request !== null) this.#code.show(request, this.#keyed);
  }

  /** The request, or null with the problem shown. */
  #read() {
    const problem = byId("form-problem");
    for (const field of document.querySelectorAll("[aria-invalid]")) field.removeAttribute("aria-invalid");
    try {
      const request = readRequest(this.#messages());
      problem.hidden = true;
      return request;
    } catch (error) {
      if (!(error instanceof FieldProblem)) throw error;
      byId(error.field).setAttribute("aria-invalid", "true");
      problem.textContent = visible(error.message);
      problem.hidden = false;
      return null;
    }
  }

  async #ask() {
    const request = this.#read();
    if (request === null) {
      const wrong = document.querySelector("[aria-invalid]");
      wrong.closest("details")?.setAttribute("open", "");
      wrong.focus();
      return;
    }
    const calls = this.#turns.openCalls;
    const said = calls.length ? this.#results() : request.body.messages.slice(-1);
    if (!calls.length && byId("prompt").value.trim() === "") return;
    const written = byId("prompt").value;
    for (const message of said) this.#turns.say(message);
    byId("prompt").value = "";
    this.#code.show(request, this.#keyed);
    const answer = await this.#stream(request);
    this.#turns.keep(answer);
    if (!answer.content && !answer.calls.length && !calls.length) byId("prompt").value = written;
    this.#showCalls();
    this.#changed();
    if (document.activeElement === document.body) byId("prompt").focus();
  }

  async #stream({ body, headers }) {
    const answer = new Answer(performance.now());
    const turn = this.#turns.answer(body.model, answer);
    this.#busy(true, "Waiting for the first token");
    this.#running = new AbortController();
    let drawn = false;
    const draw = () => {
      drawn = false;
      if (this.#running === null) return;
      turn.show();
      byId("progress").textContent = "Streaming";
    };
    try {
      const signal = this.#running.signal;
      const response = await send("v1/chat/completions", { body: JSON.stringify(body), headers, signal });
      answer.begin(response);
      for await (const data of eventData(response.body)) {
        answer.take(data, performance.now());
        if (!drawn) {
          drawn = true;
          requestAnimationFrame(draw);
        }
      }
      if (!answer.ended && !answer.error) throw broken("The stream ended before the answer did.", answer);
    } catch (error) {
      if (error.name === "AbortError") answer.stopped = true;
      else answer.error = error instanceof ApiError ? error : broken("The connection broke.", answer);
    }
    this.#running = null;
    turn.end();
    this.#busy(false, answer.error ? "Failed" : answer.stopped ? "Stopped" : "Done");
    return answer;
  }

  #busy(busy, words) {
    const [send, stop] = [byId("send"), byId("stop")];
    const focused = document.activeElement === send;
    send.hidden = busy;
    stop.hidden = !busy;
    if (busy && focused) stop.focus();
    byId("clear").disabled = busy;
    byId("progress").textContent = words;
  }

  /** Fields for the results of the tools that the model has called. */
  #showCalls() {
    const calls = this.#turns.openCalls;
    const place = byId("tool-results");
    place.hidden = !calls.length;
    byId("prompt").hidden = calls.length > 0;
    place.replaceChildren(...calls.flatMap((call, at) => [
      element("label", { htmlFor: `result-${at}` }, `Result of ${visible(call.function.name)}`),
      element("textarea", { id: `result-${at}`, rows: 2, class: "mono" }),
    ]));
  }

  #clear() {
    this.#turns.clear();
    this.#showCalls();
    byId("progress").textContent = "";
    this.#changed();
    byId("prompt").focus();
  }
}
