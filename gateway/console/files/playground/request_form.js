// The form as a request, and what is wrong with it. Pure but for reading the fields.

import { byId } from "../shared/dom.js";

const NUMBERS = [
  ["temperature", "temperature", 0, 2], ["max-tokens", "max_tokens", 1, 2 ** 31 - 1, "whole"],
  ["top-p", "top_p", 0, 1], ["top-k", "top_k", -1, 2 ** 31 - 1, "whole"], ["min-p", "min_p", 0, 1],
  ["seed", "seed", -(2 ** 53 - 1), 2 ** 53 - 1, "whole"], ["presence-penalty", "presence_penalty", -2, 2],
  ["frequency-penalty", "frequency_penalty", -2, 2], ["repetition-penalty", "repetition_penalty", 0, 100],
];

/** A field's value that cannot be sent. */
export class FieldProblem extends Error {
  constructor(field, message) {
    super(message);
    this.field = field;
  }
}

const value = (id) => byId(id).value.trim();

function number(field, name, low, high, whole) {
  const text = value(field);
  if (text === "") return undefined;
  const read = Number(text);
  const kind = whole ? "a whole number" : "a number";
  if (!Number.isFinite(read) || (whole && !Number.isInteger(read)) || read < low || read > high) {
    throw new FieldProblem(field, `${name} must be ${kind} from ${low} to ${high}, or empty.`);
  }
  return read;
}

function json(field, name, fits, kind) {
  const text = value(field);
  if (text === "") return undefined;
  let read;
  try {
    read = JSON.parse(text);
  } catch (error) {
    throw new FieldProblem(field, `${name} is no JSON: ${error.message}.`);
  }
  if (!fits(read)) throw new FieldProblem(field, `${name} must be ${kind}.`);
  return read;
}

const isObject = (read) => typeof read === "object" && read !== null && !Array.isArray(read);

function format() {
  const kind = value("format");
  if (kind === "") return undefined;
  if (kind === "json_object") return { type: kind };
  const schema = json("schema", "The schema", isObject, "an object");
  if (schema === undefined) throw new FieldProblem("schema", "Write a JSON Schema, or choose another kind of answer.");
  return { type: kind, json_schema: { name: "answer", strict: true, schema } };
}

/** The request's body and headers for these messages. Raises FieldProblem. */
export function readRequest(messages) {
  const system = byId("system").value;
  const body = { model: byId("model").value || "MODEL", stream: true, stream_options: { include_usage: true } };
  body.messages = system.trim() ? [{ role: "system", content: system }, ...messages] : messages;
  for (const [field, name, ...bounds] of NUMBERS) body[name] = number(field, name, ...bounds);
  const stops = byId("stops").value.split("\n").filter((line) => line !== "");
  if (stops.length) body.stop = stops;
  const reasoning = value("reasoning");
  if (reasoning === "on") body.chat_template_kwargs = { enable_thinking: true };
  else if (reasoning) body.reasoning_effort = reasoning;
  body.response_format = format();
  body.tools = json("tools", "Tools", Array.isArray, "a list");
  if (body.tools && value("tool-choice")) body.tool_choice = value("tool-choice");
  body.service_tier = value("service-tier") || undefined;
  if (byId("explain").checked) body.penstock = { explain: true };
  const tags = value("tags");
  if (!/^[\x20-\x7e]*$/.test(tags)) throw new FieldProblem("tags", "Tags must be printable ASCII.");
  // Without the fields that are not given.
  return { body: JSON.parse(JSON.stringify(body)), headers: tags ? { "x-penstock-tags": tags } : {} };
}
