// Anthropic's client for JavaScript.

import assert from "node:assert/strict";
import Anthropic from "@anthropic-ai/sdk";
import { KEY, URL, run } from "./features.mjs";

const client = new Anthropic({ baseURL: URL, apiKey: KEY, maxRetries: 0 });
const messages = [{ role: "user", content: "What is 17 + 25?" }];
const ask = { model: "large", messages, max_tokens: 20, system: "Be brief." };
const weather = { role: "user", content: "Weather in Paris?" };
const schema = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
const tools = [{ name: "get_weather", description: "The weather in a city", input_schema: schema }];

await run({
  "messages, whole and streamed": async () => {
    const whole = await client.messages.create(ask);
    assert.ok(whole.content[0].text);
    const final = await client.messages.stream(ask).finalMessage();
    assert.ok(final.content[0].text);
    assert.equal(final.stop_reason, whole.stop_reason);
  },
  "a loop with a tool": async () => {
    const asked = { model: "tools", max_tokens: 100, tools };
    const first = await client.messages.create({ ...asked, messages: [weather] });
    assert.equal(first.stop_reason, "tool_use");
    const [call] = first.content;
    assert.deepEqual(call.input, { city: "Paris" });
    const result = { type: "tool_result", tool_use_id: call.id, content: "sunny" };
    const turns = [weather, { role: "assistant", content: first.content }, { role: "user", content: [result] }];
    const final = client.messages.stream({ ...asked, messages: turns });
    assert.equal(await final.finalText(), "The tool said: sunny");
  },
  thinking: async () => {
    const made = await client.messages.create({ model: "thinks", messages, max_tokens: 100 });
    assert.deepEqual(made.content.map((each) => each.type), ["thinking", "text"]);
  },
  "`countTokens`": async () => {
    assert.ok((await client.messages.countTokens({ model: "large", messages })).input_tokens);
  },
  "errors have the client's types": async () => {
    await assert.rejects(client.messages.create({ ...ask, model: "larg" }), Anthropic.NotFoundError);
  },
});
