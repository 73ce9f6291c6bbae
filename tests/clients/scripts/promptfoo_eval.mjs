// The evaluator promptfoo: its tests of prompts against chat, responses, messages and embeddings, by its command line.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { KEY, URL, run } from "./features.mjs";

const quiet = { PROMPTFOO_DISABLE_TELEMETRY: "1", PROMPTFOO_DISABLE_UPDATE: "1", PROMPTFOO_DISABLE_SHARING: "1" };
const openai = { apiBaseUrl: `${URL}/v1`, apiKey: KEY, max_tokens: 20, temperature: 0 };
const prompts = ["What is {{a}} + {{b}}?"];
const numbers = { a: 17, b: 25 };
const answered = [{ type: "javascript", value: "output.length > 0" }];

function evaluated(config) {
  const folder = mkdtempSync(join(tmpdir(), "promptfoo-"));
  const [file, out] = [join(folder, "promptfooconfig.json"), join(folder, "out.json")];
  writeFileSync(file, JSON.stringify({ prompts, ...config }));
  const command = ["node_modules/promptfoo/dist/src/entrypoint.js", "eval", "-c", file, "-o", out, "--no-cache"];
  const env = { ...process.env, ...quiet, PROMPTFOO_CONFIG_DIR: folder };
  spawnSync(process.execPath, command, { env, stdio: ["ignore", process.stderr, process.stderr] });
  const { results } = JSON.parse(readFileSync(out, "utf8"));
  for (const { success, error, response } of results.results) assert.ok(success, `${error} ${JSON.stringify(response)}`);
  return results;
}

const provider = (id, more = {}) => [{ id, config: { ...openai, ...more } }];

await run({
  chat: () => {
    const made = evaluated({ providers: provider("openai:chat:large"), tests: [{ vars: numbers, assert: answered }] });
    assert.ok(made.stats.tokenUsage.total > 0);
  },
  "chat, a JSON schema": () => {
    const schema = { type: "object", properties: { right: { type: "boolean" } }, required: ["right"], additionalProperties: false };
    const response_format = { type: "json_schema", json_schema: { name: "answer", strict: true, schema } };
    const test = { vars: numbers, assert: [{ type: "is-json", value: schema }] };
    evaluated({ providers: provider("openai:chat:small", { response_format, max_tokens: 200 }), tests: [test] });
  },
  "chat, a model that grades": () => {
    const test = { vars: numbers, assert: [{ type: "similar", value: "17 + 25", threshold: -1, provider: { id: "openai:embeddings:mini", config: openai } }] };
    evaluated({ providers: provider("openai:chat:large"), tests: [test] });
  },
  completions: () => {
    // The model may find nothing to add to a question.
    const more = { passthrough: { min_tokens: 5 } };
    evaluated({ providers: provider("openai:completion:large", more), tests: [{ vars: numbers, assert: answered }] });
  },
  responses: () => {
    evaluated({ providers: provider("openai:responses:large", { max_output_tokens: 20 }), tests: [{ vars: numbers, assert: answered }] });
  },
  messages: () => {
    const config = { apiBaseUrl: URL, apiKey: KEY, max_tokens: 20 };
    evaluated({ providers: [{ id: "anthropic:messages:large", config }], tests: [{ vars: numbers, assert: answered }] });
  },
});
