// A request as code in three languages. Pure: strings in, strings out.

import { plainJson } from "../shared/visible_text.js";

const PATH = "v1/chat/completions";
const VARIABLE = "PENSTOCK_KEY";
/** What the official client takes as arguments of its own; everything else goes into `extra_body`. */
const OPENAI_ARGUMENTS = new Set([
  "model", "messages", "stream", "stream_options", "temperature", "max_tokens", "top_p", "seed", "stop", "tools",
  "tool_choice", "response_format", "presence_penalty", "frequency_penalty", "reasoning_effort", "service_tier",
]);

/** `keyed`: the server needs a key. `base`: this server's address, with a slash at its end. */
export function snippet(language, base, { body, headers }, keyed) {
  return { curl, python, javascript }[language](base, body, headers, keyed);
}

const quoted = (text) => `'${text.replaceAll("'", `'\\''`)}'`;

function curl(base, body, headers, keyed) {
  const lines = [`curl -N ${quoted(base + PATH)}`, "-H 'content-type: application/json'"];
  if (keyed) lines.push(`-H "authorization: Bearer $${VARIABLE}"`);
  for (const [name, text] of Object.entries(headers)) lines.push(`-H ${quoted(`${name}: ${text}`)}`);
  lines.push(`--data-raw ${quoted(plainJson(body, 2))}`);
  return lines.join(" \\\n  ");
}

/** A Python expression. JSON's strings are Python's, too. */
function literal(value, indent) {
  if (value === null) return "None";
  if (value === true) return "True";
  if (value === false) return "False";
  if (typeof value !== "object") return plainJson(value);
  const items = Array.isArray(value)
    ? value.map((item) => literal(item, indent + 4))
    : Object.entries(value).map(([name, item]) => `${plainJson(name)}: ${literal(item, indent + 4)}`);
  const [open, close] = Array.isArray(value) ? "[]" : "{}";
  if (!items.length) return open + close;
  const inline = `${open}${items.join(", ")}${close}`;
  if (!inline.includes("\n") && inline.length + indent < 100) return inline;
  const pad = " ".repeat(indent);
  return `${open}\n${items.map((item) => `${pad}    ${item},\n`).join("")}${pad}${close}`;
}

function python(base, body, headers, keyed) {
  const names = Object.keys(body);
  const given = names.filter((name) => OPENAI_ARGUMENTS.has(name)).map((name) => [name, body[name]]);
  const others = names.filter((name) => !OPENAI_ARGUMENTS.has(name)).map((name) => [name, body[name]]);
  if (others.length) given.push(["extra_body", Object.fromEntries(others)]);
  if (Object.keys(headers).length) given.push(["extra_headers", headers]);
  const lines = given.map(([name, value]) => `    ${name}=${literal(value, 4)},\n`).join("");
  const key = keyed ? `os.environ["${VARIABLE}"]` : `"not needed on loopback"`;
  return `${keyed ? "import os\n\n" : ""}from openai import OpenAI

client = OpenAI(base_url=${plainJson(`${base}v1`)}, api_key=${key})
stream = client.chat.completions.create(
${lines})
for chunk in stream:
    if chunk.choices:
        print(chunk.choices[0].delta.content or "", end="", flush=True)
print()
`;
}

function javascript(base, body, headers, keyed) {
  const all = { "content-type": "application/json", ...headers };
  const lines = Object.entries(all).map(([name, text]) => `    ${plainJson(name)}: ${plainJson(text)},\n`);
  if (keyed) lines.push(`    authorization: \`Bearer \${process.env.${VARIABLE}}\`,\n`);
  return `const response = await fetch(${plainJson(base + PATH)}, {
  method: "POST",
  headers: {
${lines.join("")}  },
  body: JSON.stringify(${plainJson(body, 2).replaceAll("\n", "\n  ")}),
});
let rest = "";
let answer = "";
for await (const part of response.body.pipeThrough(new TextDecoderStream())) {
  const events = (rest + part).split("\\n\\n");
  rest = events.pop();
  for (const event of events) {
    if (!event.startsWith("data: {")) continue;
    const chunk = JSON.parse(event.slice(6));
    if (chunk.error) throw new Error(chunk.error.message);
    answer += chunk.choices[0]?.delta.content ?? "";
  }
}
if (!response.ok) throw new Error(rest);
console.log(answer);
`;
}
