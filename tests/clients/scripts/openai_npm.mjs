// OpenAI's client for JavaScript.

import assert from "node:assert/strict";
import OpenAI from "openai";
import { KEY, URL, run } from "./features.mjs";

const client = new OpenAI({ baseURL: `${URL}/v1`, apiKey: KEY, maxRetries: 0 });
const messages = [{ role: "user", content: "What is 17 + 25?" }];
const ask = { model: "large", messages, max_tokens: 12, temperature: 0 };
const respond = { model: "large", input: "What is 17 + 25?", max_output_tokens: 30, temperature: 0 };
const parameters = {
  type: "object",
  properties: { city: { type: "string" } },
  required: ["city"],
  additionalProperties: false,
};

await run({
  "chat, whole and streamed": async () => {
    const whole = await client.chat.completions.create(ask);
    let said = "";
    for await (const chunk of await client.chat.completions.create({ ...ask, stream: true })) {
      said += chunk.choices[0]?.delta?.content ?? "";
    }
    assert.ok(said);
    assert.equal(said, whole.choices[0].message.content);
  },
  "chat, `runTools`": async () => {
    const asked = [];
    const tool = {
      type: "function",
      function: {
        name: "get_weather",
        parameters,
        parse: JSON.parse,
        function: ({ city }) => (asked.push(city), "sunny"),
      },
    };
    for (const stream of [false, true]) {
      const runner = client.chat.completions.runTools({
        model: "tools",
        messages: [{ role: "user", content: "Weather in Paris?" }],
        tools: [tool],
        stream,
      });
      assert.equal(await runner.finalContent(), "The tool said: sunny");
    }
    assert.deepEqual(asked, ["Paris", "Paris"]);
  },
  completions: async () => {
    const made = await client.completions.create({ model: "large", prompt: "17 + 25 =", max_tokens: 4 });
    assert.ok(made.choices[0].text);
  },
  embeddings: async () => {
    const made = await client.embeddings.create({ model: "mini", input: "hello" });
    assert.ok(made.data[0].embedding.every(Number.isFinite));
  },
  "responses, whole and streamed": async () => {
    const whole = await client.responses.create(respond);
    assert.ok(whole.output_text);
    const stream = client.responses.stream(respond);
    assert.equal((await stream.finalResponse()).output_text, whole.output_text);
  },
  "responses, a loop with a tool": async () => {
    const tools = [{ type: "function", name: "get_weather", parameters, strict: true }];
    const first = await client.responses.create({ model: "tools", input: "Weather in Paris?", tools });
    const [call] = first.output;
    const input = [{ type: "function_call_output", call_id: call.call_id, output: "sunny" }];
    const final = await client.responses.create({ model: "tools", input, tools, previous_response_id: first.id });
    assert.equal(final.output_text, "The tool said: sunny");
  },
  "responses that are stored, in the background": async () => {
    const begun = await client.responses.create({ ...respond, background: true });
    let found = begun;
    while (["queued", "in_progress"].includes(found.status)) found = await client.responses.retrieve(begun.id);
    assert.ok(found.output_text);
    await client.responses.delete(begun.id);
    await assert.rejects(client.responses.retrieve(begun.id), OpenAI.NotFoundError);
  },
  "errors have the client's types": async () => {
    await assert.rejects(client.chat.completions.create({ ...ask, model: "larg" }), OpenAI.NotFoundError);
    await assert.rejects(client.responses.create({ ...respond, temperature: 3 }), OpenAI.BadRequestError);
  },
});
