// The official client, unmodified, against gander-server with the built-in model.
import assert from "node:assert/strict";
import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import OpenAI from "openai";
import { metric, startServer, until } from "./server.js";

const key = "a-key-for-the-tests";
const model = "gander-demo-25m";
const story = [{ role: "user", content: "Tell me a story about a cat." }];
let server;
let client;

before(async () => {
  const keys = join(mkdtempSync(join(tmpdir(), "gander-")), "keys");
  writeFileSync(keys, `# those who may\n${key}\n`);
  server = await startServer("--api-key-file", keys, "--slots", "8");
  client = new OpenAI({ apiKey: key, baseURL: `${server.url}/v1`, maxRetries: 0 });
});
after(async () => assert.equal(await server.stop(), 0));

test("models", async () => {
  const page = await client.models.list();
  assert.deepEqual(page.data.map((each) => each.id), [model]);
  assert.equal((await client.models.retrieve(model)).id, model);
});

test("chat", async () => {
  const completion = await client.chat.completions.create({
    model, messages: story, max_tokens: 24, seed: 1,
  });
  const [choice] = completion.choices;
  assert.equal(completion.object, "chat.completion");
  assert.equal(choice.message.role, "assistant");
  assert.ok(choice.message.content.length > 20);
  assert.equal(choice.finish_reason, "length");
  assert.equal(completion.usage.completion_tokens, 24);
  assert.equal(completion.usage.total_tokens, completion.usage.prompt_tokens + 24);
});

test("the same seed, the same text; streamed or not", async () => {
  const request = { model, messages: story, max_tokens: 60, seed: 7, temperature: 0.9 };
  const whole = await client.chat.completions.create(request);
  const stream = await client.chat.completions.create({
    ...request, stream: true, stream_options: { include_usage: true },
  });
  let text = "";
  let usage;
  let finish;
  for await (const chunk of stream) {
    assert.equal(chunk.object, "chat.completion.chunk");
    text += chunk.choices[0]?.delta.content ?? "";
    finish = chunk.choices[0]?.finish_reason ?? finish;
    usage = chunk.usage ?? usage;
  }
  assert.equal(text, whole.choices[0].message.content);
  assert.equal(finish, whole.choices[0].finish_reason);
  assert.equal(usage.completion_tokens, whole.usage.completion_tokens);
});

test("the stream helper puts the pieces together", async () => {
  const runner = client.chat.completions.stream({ model, messages: story, max_tokens: 16 });
  let pieces = "";
  runner.on("content", (piece) => { pieces += piece; });
  const message = (await runner.finalChatCompletion()).choices[0].message;
  assert.equal(message.content, pieces);
});

test("several choices, stops, log-probabilities, biases", async () => {
  const several = await client.chat.completions.create({
    model, messages: story, max_tokens: 8, n: 3, seed: 5, logprobs: true, top_logprobs: 2,
  });
  assert.equal(several.choices.length, 3);
  assert.deepEqual(several.choices.map((each) => each.index), [0, 1, 2]);
  const { content } = several.choices[0].logprobs;
  assert.equal(content.length, 8);
  assert.equal(content[0].top_logprobs.length, 2);
  assert.ok(content.every((each) => each.logprob <= 0 && each.bytes.length > 0));

  const stopped = await client.chat.completions.create({
    model, messages: story, max_tokens: 200, stop: ["."], temperature: 0,
  });
  assert.equal(stopped.choices[0].finish_reason, "stop");
  assert.ok(!stopped.choices[0].message.content.includes("."));

  const first = content[0].bytes;
  const token = await client.completions.create({
    model, prompt: "Once", max_tokens: 5, temperature: 0, logprobs: 1,
  });
  assert.equal(token.choices[0].logprobs.tokens.length, 5);
  assert.ok(first.length > 0);
});

test("completions, of several prompts", async () => {
  const completion = await client.completions.create({
    model, prompt: ["One day,", "Once upon a time"], max_tokens: 6, temperature: 0,
  });
  assert.equal(completion.choices.length, 2);
  const alone = await client.completions.create({
    model, prompt: "Once upon a time", max_tokens: 6, temperature: 0,
  });
  assert.equal(completion.choices[1].text, alone.choices[0].text);
  let streamed = "";
  for await (const chunk of await client.completions.create({
    model, prompt: "Once upon a time", max_tokens: 6, temperature: 0, stream: true,
  })) streamed += chunk.choices[0].text;
  assert.equal(streamed, alone.choices[0].text);
});

const weather = {
  type: "function",
  function: {
    name: "get_weather",
    description: "The weather somewhere.",
    parameters: {
      type: "object",
      properties: {
        place: { type: "string", maxLength: 20 },
        unit: { enum: ["celsius", "fahrenheit"] },
      },
      required: ["place", "unit"],
      additionalProperties: false,
    },
  },
};

test("tools: a call that must be made, then its result", async () => {
  const messages = [{ role: "user", content: "How is the weather in Oslo?" }];
  const asked = await client.chat.completions.create({
    model, messages, tools: [weather], tool_choice: "required", max_tokens: 200, seed: 3,
  });
  const [choice] = asked.choices;
  assert.equal(choice.finish_reason, "tool_calls");
  const [call] = choice.message.tool_calls;
  assert.equal(call.function.name, "get_weather");
  const found = JSON.parse(call.function.arguments);
  assert.equal(typeof found.place, "string");
  assert.ok(["celsius", "fahrenheit"].includes(found.unit));

  messages.push(choice.message, { role: "tool", tool_call_id: call.id, content: "{\"sky\":\"blue\"}" });
  const answered = await client.chat.completions.create({
    model, messages, tools: [weather], max_tokens: 10,
  });
  assert.equal(answered.choices[0].message.role, "assistant");
});

test("tools: a call that is streamed", async () => {
  const runner = client.chat.completions.stream({
    model, messages: [{ role: "user", content: "How is the weather in Oslo?" }], tools: [weather],
    tool_choice: { type: "function", function: { name: "get_weather" } }, max_tokens: 200, seed: 4,
  });
  const { choices: [choice] } = await runner.finalChatCompletion();
  assert.equal(choice.finish_reason, "tool_calls");
  JSON.parse(choice.message.tool_calls[0].function.arguments);
});

test("response_format: JSON by a schema, or any object", async () => {
  const schema = {
    type: "object",
    properties: {
      name: { type: "string", maxLength: 12 },
      age: { type: "integer", minimum: 0, maximum: 99 },
      likes: { type: "array", items: { enum: ["fish", "milk"] }, maxItems: 3 },
    },
    required: ["name", "age", "likes"],
    additionalProperties: false,
  };
  for (let seed = 0; seed < 3; ++seed) {
    const completion = await client.chat.completions.create({
      model, messages: story, max_tokens: 300, seed,
      response_format: { type: "json_schema", json_schema: { name: "cat", schema, strict: true } },
    });
    assert.equal(completion.choices[0].finish_reason, "stop");
    const cat = JSON.parse(completion.choices[0].message.content);
    assert.deepEqual(Object.keys(cat), ["name", "age", "likes"]);
    assert.ok(Number.isInteger(cat.age) && cat.age >= 0 && cat.age <= 99);
    assert.ok(cat.likes.every((each) => ["fish", "milk"].includes(each)));
  }
});

test("errors are those of OpenAI's API", async () => {
  const wrong = async (request, kind, param) => {
    const error = await client.chat.completions.create({ model, messages: story, ...request })
      .then(() => assert.fail("no error"), (each) => each);
    assert.ok(error instanceof kind, `${error}`);
    assert.equal(error.param ?? null, param);
    return error;
  };
  await wrong({ temperature: 3 }, OpenAI.BadRequestError, "temperature");
  await wrong({ messages: [] }, OpenAI.BadRequestError, "messages");
  await wrong({ messages: [{ role: "judge", content: "" }] }, OpenAI.BadRequestError,
    "messages[0].role");
  await wrong({
    messages: [{ role: "user", content: [{ type: "image_url", image_url: { url: "data:," } }] }],
  }, OpenAI.BadRequestError, "messages[0].content[0].type");
  await wrong({ max_tokens: -1 }, OpenAI.BadRequestError, "max_tokens");
  const unknown = await wrong({ model: "gpt-4o" }, OpenAI.NotFoundError, "model");
  assert.equal(unknown.code, "model_not_found");
  const stranger = new OpenAI({ apiKey: "wrong-key", baseURL: `${server.url}/v1`, maxRetries: 0 });
  await assert.rejects(stranger.models.list(), OpenAI.AuthenticationError);
  await assert.rejects(client.embeddings.create({ model, input: "x" }),
    (error) => error.status === 501);
  assert.ok(server.lines.every((line) => !line.includes(key) && !line.includes("wrong-key")));
});

test("a stream that is cancelled frees its slot within a second", async () => {
  const stream = await client.chat.completions.create({
    model, messages: story, max_tokens: 100000, logit_bias: { 0: -100 }, stream: true,
  });
  for await (const chunk of stream) {
    if (chunk.choices[0].delta.content) break;  // which aborts the request
  }
  await until(async () => (await metric(server.url, "gander_slots_running", key)) === 0, 1000);
});
