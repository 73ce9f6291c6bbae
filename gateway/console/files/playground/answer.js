// One answer as it comes: its parts, and its times by this browser's clock in milliseconds.

import { ApiError } from "../shared/api.js";

const FEWEST_TOKENS = 8;
const SHORTEST_MS = 50;

export class Answer {
  /** `sentAt`: when the request was sent. */
  constructor(sentAt) {
    this.sentAt = sentAt;
    this.content = "";
    this.reasoning = "";
    this.calls = [];
    this.finish = null;
    this.usage = null;
    this.served = null;
    this.error = null;
    this.stopped = false;
    this.ended = false;
    this.firstAt = null;
    this.lastAt = null;
    this.headers = {};
    this.requestId = "";
    this.status = 0;
  }

  /** The head has come. */
  begin(response) {
    this.status = response.status;
    this.requestId = response.headers.get("x-request-id") ?? "";
    for (const [name, value] of response.headers) {
      if (name.startsWith("x-penstock-") || name.startsWith("x-ratelimit-")) this.headers[name] = value;
    }
  }

  /** One event's data. */
  take(data, now) {
    if (data === "[DONE]") {
      this.ended = true;
      return;
    }
    const chunk = JSON.parse(data);
    if (chunk.error) {
      this.error = new ApiError(chunk.error, this.status, this.requestId);
      return;
    }
    this.usage = chunk.usage ?? this.usage;
    this.served = chunk.penstock ?? this.served;
    for (const choice of chunk.choices ?? []) this.#takeChoice(choice, now);
  }

  #takeChoice({ delta = {}, finish_reason: finish }, now) {
    this.finish = finish ?? this.finish;
    const reasoning = delta.reasoning_content ?? delta.reasoning ?? "";
    const calls = delta.tool_calls ?? [];
    if (!(delta.content || reasoning || calls.length)) return;
    this.firstAt ??= now;
    this.lastAt = now;
    this.content += delta.content ?? "";
    this.reasoning += reasoning;
    for (const call of calls) this.#takeCall(call);
  }

  /** Complete ones come from Penstock, pieces from others. */
  #takeCall({ index = 0, id, function: part = {} }) {
    const call = (this.calls[index] ??= { id: "", type: "function", function: { name: "", arguments: "" } });
    call.id = id ?? call.id;
    call.function.name += part.name ?? "";
    call.function.arguments += part.arguments ?? "";
  }

  /** From sending to the first content; null: there was none. */
  get ttftMs() {
    return this.firstAt === null ? null : this.firstAt - this.sentAt;
  }

  /** After the first token, by the server's count and this browser's clock; null: too few, or all at once. */
  get tokensPerS() {
    const tokens = (this.usage?.completion_tokens ?? 0) - 1;
    const milliseconds = this.lastAt - this.firstAt;
    return tokens >= FEWEST_TOKENS && milliseconds >= SHORTEST_MS ? (1000 * tokens) / milliseconds : null;
  }

  /** As a message of the next turn. */
  get message() {
    const message = { role: "assistant", content: this.content || (this.calls.length ? null : "") };
    if (this.reasoning) message.reasoning_content = this.reasoning;
    if (this.calls.length) message.tool_calls = this.calls;
    return message;
  }
}
