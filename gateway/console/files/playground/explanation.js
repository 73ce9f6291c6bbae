// Who answered and why, how fast, and what it cost.

import { element } from "../shared/dom.js";
import { visible } from "../shared/visible_text.js";
import { figure, milliseconds, reason } from "../shared/words.js";
import { marginView } from "./margins.js";

/** The rungs that were tried, in words: "small → large". */
function way(served) {
  const rungs = served.attempts.map((attempt) => attempt.rung);
  return (rungs.length ? rungs : [served.rung]).map(visible).join(" → ");
}

/** One line about an answer. */
export function summaryOf(answer) {
  const { served, usage } = answer;
  return [
    served ? `${way(served)}: ${reason(served.why)}` : answer.headers["x-penstock-rung"],
    usage && `${usage.completion_tokens} tokens`,
    answer.ttftMs !== null && `first after ${milliseconds(answer.ttftMs)}`,
    answer.tokensPerS !== null && `${figure(answer.tokensPerS)} tokens/s`,
    typeof served?.cost === "number" && `cost ${figure(served.cost)}`,
    answer.stopped && "stopped",
    answer.finish && answer.finish !== "stop" && `ended by ${answer.finish}`,
  ].filter(Boolean).join(" · ");
}

export function explanation(answer) {
  const { served } = answer;
  return element("div", { class: "explanation" },
    tiles(answer),
    served?.attempts.length ? attempts(served) : null,
    served?.cascade?.steps ? marginView(served.cascade) : null,
    facts(answer),
  );
}

function tiles({ ttftMs, tokensPerS, usage, served }) {
  const unpriced = served?.cost === null ? "the policy has no prices" : "";
  const cached = usage?.prompt_tokens_details?.cached_tokens;
  const thought = usage?.completion_tokens_details?.reasoning_tokens;
  return element("dl", { class: "tiles" }, ...[
    ["First token", milliseconds(ttftMs), "", "from sending to the first content, by this browser’s clock"],
    ["Speed", tokensPerS === null ? "–" : `${figure(tokensPerS)} tokens/s`, "", "after it, by this browser’s clock"],
    ["Prompt", usage ? `${usage.prompt_tokens} tokens` : "–", cached ? `${cached} from the prefix cache` : ""],
    ["Answer", usage ? `${usage.completion_tokens} tokens` : "–", thought ? `${thought} of them reasoning` : ""],
    ["Cost", typeof served?.cost === "number" ? figure(served.cost) : "–", unpriced],
  ].map(([name, text, more, title = ""]) => element("div", { class: "tile", title },
    element("dt", {}, name), element("dd", {}, text), more ? element("dd", { class: "note" }, more) : null)));
}

function attempts(served) {
  const rows = served.attempts.map((attempt) => element("li", { class: attempt.outcome },
    element("b", {}, visible(attempt.rung)), ` ${attempt.outcome}: ${reason(attempt.why)} `,
    element("code", {}, visible(attempt.why))));
  return element("ol", { class: "attempts", "aria-label": "Attempts" }, ...rows);
}

function facts({ served, headers, requestId, finish }) {
  const timings = served?.timings ?? {};
  const known = [
    ["route", served?.route], ["rung", served?.rung], ["mark", served?.mark],
    ["degraded", served?.degraded?.join(", ")],
    ["model asked", served?.model_asked], ["model that answered", served?.model_served], ["adapter", served?.adapter],
    ["tier", served?.tier], ["experiment", served?.experiment && `${served.experiment}, arm ${served.arm}`],
    ["queue, prefill, decode at the server", timings.decode_ms === undefined ? "" :
      [timings.queue_ms, timings.prefill_ms, timings.decode_ms].map(milliseconds).join(", ")],
    ["draft tokens, accepted", served?.drafted_tokens ? `${served.drafted_tokens}, ${served.accepted_tokens}` : ""],
    ["finish reason", finish], ["request id", requestId], ...Object.entries(headers),
  ].filter(([, value]) => value);
  return element("details", {}, element("summary", {}, "All it says of itself"),
    element("dl", { class: "facts" }, ...known.flatMap(([name, value]) =>
      [element("dt", {}, visible(name)), element("dd", {}, visible(value))])));
}

/** An error, in full. */
export function errorCard(error) {
  const named = [
    error.status ? `HTTP ${error.status}` : "", error.code, error.param ? `field ${error.param}` : "",
    error.requestId ? `request ${error.requestId}` : "",
  ].filter(Boolean).map(visible).join(" · ");
  return element("div", { class: "error", role: "alert" },
    element("p", { class: "error-message", dir: "auto" }, visible(error.message)),
    error.advice ? element("p", {}, visible(error.advice)) : null,
    element("p", { class: "note mono" }, named));
}
