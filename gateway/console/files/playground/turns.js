// The conversation: what was said, and the messages of the next request.

import { byId, element } from "../shared/dom.js";
import { visible } from "../shared/visible_text.js";
import { errorCard, explanation, summaryOf } from "./explanation.js";

/** One answer on the page, while it comes and afterwards. */
class AnswerTurn {
  #answer;
  #text = element("div", { class: "text", dir: "auto" });
  #thought = element("div", { class: "text", dir: "auto" });
  #reasoning = element("details", { class: "reasoning", hidden: true, open: true },
    element("summary", {}, "Reasoning"), this.#thought);
  #calls = element("div", { class: "calls" });
  #foot = element("p", { class: "note summary" });
  #shown = { text: 0, thought: 0 };

  constructor(model, answer) {
    this.#answer = answer;
    this.node = element("article", { class: "turn assistant", "aria-busy": "true", "aria-live": "polite" },
      element("h3", {}, visible(model)), this.#reasoning, this.#text, this.#calls, this.#foot);
  }

  /** Show what has come since the last time. */
  show() {
    const { content, reasoning } = this.#answer;
    this.#thought.append(visible(reasoning.slice(this.#shown.thought)));
    this.#text.append(visible(content.slice(this.#shown.text)));
    this.#shown = { text: content.length, thought: reasoning.length };
    this.#reasoning.hidden = reasoning === "";
  }

  end() {
    const answer = this.#answer;
    this.show();
    this.#reasoning.open = false;
    const shares = sharesOf(answer);
    if (shares) this.#text.replaceChildren(...shares);
    this.#calls.append(...answer.calls.filter(Boolean).map(callView));
    this.#foot.textContent = summaryOf(answer);
    if (answer.error) this.node.append(errorCard(answer.error));
    if (answer.firstAt !== null || answer.served) {
      const summary = element("summary", {}, "How it was answered");
      this.node.append(element("details", { class: "why", open: true }, summary, explanation(answer)));
    }
    this.node.setAttribute("aria-busy", "false");
  }
}

/** The text by the model that wrote it, if a cascade has moved within it; null: it is of one model. */
function sharesOf({ content, served }) {
  const trace = served?.cascade;
  if (!trace?.steps || !trace.shown || trace.shown === trace.steps.length) return null;
  const begin = trace.steps.slice(0, trace.shown).map((step) => step.text).join("");
  if (!begin || !content.startsWith(begin)) return null;
  const part = (stage, name, text) =>
    element("span", { class: `by ${stage}`, title: `written by ${visible(name)}` }, visible(text));
  return [part("small", trace.small, begin), part("large", trace.large, content.slice(begin.length))];
}

function callView(call) {
  return element("div", { class: "call" },
    element("b", {}, visible(call.function.name)), element("pre", { dir: "ltr" }, visible(call.function.arguments)));
}

export class Turns {
  #list = byId("turns");
  #messages = [];

  get messages() {
    return this.#messages;
  }

  /** The calls of the last answer that wait for results. */
  get openCalls() {
    return this.#messages.at(-1)?.tool_calls ?? [];
  }

  say(message) {
    this.#messages.push(message);
    const name = message.role === "tool" ? `Result of ${message.tool_call_id}` : "You";
    this.#list.append(element("article", { class: `turn ${message.role}` },
      element("h3", {}, visible(name)), element("div", { class: "text", dir: "auto" }, visible(message.content))));
  }

  /** Begin an answer; the older ones' explanations close. */
  answer(model, answer) {
    for (const each of this.#list.querySelectorAll("details.why[open]")) each.open = false;
    const turn = new AnswerTurn(model, answer);
    this.#list.append(turn.node);
    turn.node.scrollIntoView({ block: "nearest" });
    return turn;
  }

  /** An answer without content is no message: what was asked stays, to be sent again. */
  keep(answer) {
    if (answer.content || answer.calls.length) this.#messages.push(answer.message);
    else while (this.#messages.length && this.#messages.at(-1).role !== "assistant") this.#messages.pop();
  }

  clear() {
    this.#messages = [];
    this.#list.replaceChildren();
  }
}
