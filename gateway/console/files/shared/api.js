// Requests to the server of this page, and what its errors mean for the one who sees them.

import { readKey } from "./keys.js";

/** An error with what the server says of it. */
export class ApiError extends Error {
  constructor(fields, status = 0, requestId = "", retryAfterS = null) {
    super(fields.message || "The server said no more.");
    Object.assign(this, { code: fields.code || "", type: fields.type || "", param: fields.param || "" });
    Object.assign(this, { status, requestId, retryAfterS });
  }

  /** What to do, in words; the server's own message often says more. */
  get advice() {
    if (this.status === 401) return "Enter a valid key under Keys, or ask the operator for one.";
    if (this.code === "origin_not_allowed" || this.code === "host_not_allowed") {
      return "Open the console by the address that the server printed when it started.";
    }
    if (this.status === 403) return "This key does not permit it. Use another key, or ask the operator.";
    if (this.code === "model_not_found") return "Choose a model of the list.";
    if (this.code === "context_length_exceeded") return "Lower Max tokens, or begin a new conversation.";
    if (this.param) return `Change the field ${this.param} and send again.`;
    if (this.retryAfterS !== null) return `Try again in ${this.retryAfterS} s.`;
    if (this.code === "unreachable") return "See whether the server still runs, then send again.";
    if (this.status >= 500 || this.status === 0) return "Send it again; if it stays, the server’s log says why.";
    return "";
  }
}

/** The error of an answer that is not 2xx. */
export async function errorOf(response) {
  const text = await response.text();
  let fields = { message: text.slice(0, 2000) || response.statusText };
  try {
    fields = JSON.parse(text).error ?? fields;
  } catch {
    // Not from Penstock: a proxy's page, perhaps.
  }
  const retry = response.headers.get("retry-after");
  return new ApiError(
    fields, response.status, response.headers.get("x-request-id") ?? "", retry === null ? null : Number(retry),
  );
}

/** Fetch with the key of this name ("api", "admin" or "" for none). Raises ApiError. */
export async function send(path, { key = "api", body, headers = {}, signal } = {}) {
  const all = { ...headers };
  const raw = key ? readKey(key) : "";
  if (!/^[\x21-\x7e]*$/.test(raw)) {
    throw new ApiError({ code: "invalid_api_key", message: "The key that was entered has characters of no key." }, 401);
  }
  if (raw) all.authorization = `Bearer ${raw}`;
  if (body !== undefined) all["content-type"] = "application/json";
  let response;
  try {
    response = await fetch(path, {
      method: body === undefined ? "GET" : "POST", headers: all, body, signal, credentials: "omit", cache: "no-store",
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError({ code: "unreachable", message: "The server cannot be reached." });
  }
  if (!response.ok) throw await errorOf(response);
  return response;
}
