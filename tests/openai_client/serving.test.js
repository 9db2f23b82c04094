// Many clients at once, clients that misbehave, and servers that end: what must not be lost or
// mixed up.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import http from "node:http";
import net from "node:net";
import { test } from "node:test";
import { executable, metric, post, startServer, until } from "./server.js";

const forever = { max_tokens: 100000, logit_bias: { 0: -100 }, stream: true };

function textOf(events) {
  const all = events.split("\n\n").filter((each) => each.startsWith("data: "));
  assert.equal(all.at(-1), "data: [DONE]");
  return all.slice(0, -1).map((each) => JSON.parse(each.slice(6)))
    .map((chunk) => chunk.choices[0].text).join("");
}

test("a shell completes its options", () => {
  const bash = execFileSync(executable, ["--completion", "bash"]).toString();
  const complete = (...words) => execFileSync("/bin/bash", {
    input: `${bash}compopt() { :; }; COMP_WORDS=(gander-server ${words.join(" ")})
      COMP_CWORD=${words.length}; _gander_server; echo "\${COMPREPLY[*]}"`,
  }).toString().trim();
  assert.equal(complete("model.gguf", "--state-f"), "--state-folder");
  assert.equal(complete("--log-level", "w"), "warn");
  assert.equal(complete("--completion", ""), "bash zsh fish");
  assert.equal(complete("tests/openai_client/serving.te"), "tests/openai_client/serving.test.js");
  const zsh = execFileSync(executable, ["--completion", "zsh"]).toString();
  assert.match(zsh, /^#compdef gander-server\n[^]*'--state-folder\[.*:FOLDER:_files -\/'/);
  const fish = execFileSync(executable, ["--completion", "fish"]).toString();
  assert.match(fish, /^complete -c gander-server -l log-level -x -a 'debug info warn error off'/m);
});

test("1,000 streams at once: none lost, none mixed up", async () => {
  const server = await startServer("--slots", "64");
  const animals = ["cat", "dog", "goose", "bear", "frog", "mouse", "fox"];
  const request = (i) => ({
    prompt: `One day, a ${animals[i % animals.length]} found ${i} apples.`, max_tokens: 6, seed: i,
    stream: true,
  });
  const ask = async (i) => {
    const { status, text } = await post(server.url, "/v1/completions", request(i));
    assert.equal(status, 200, text);
    return textOf(text);
  };
  const together = await Promise.all(Array.from({ length: 1000 }, (_, i) => ask(i)));
  assert.ok(together.every((text) => text.length > 0));
  for (let i = 0; i < 1000; i += 29) assert.equal(together[i], await ask(i), `stream ${i}`);
  assert.equal(await metric(server.url, "gander_slots_running"), 0);
  assert.equal(await server.stop(), 0);
});

test("a full queue is said to be full", async () => {
  const server = await startServer("--slots", "1", "--queue", "2", "--drain-seconds", "0",
    );
  const all = Array.from({ length: 8 }, () =>
    post(server.url, "/v1/completions", { prompt: "One day", max_tokens: 400, logit_bias: { 0: -100 } }));
  const answers = await Promise.all(all);
  const refused = answers.filter((each) => each.status === 503);
  assert.ok(refused.length >= 4 && refused.length <= 6, `${refused.length}`);
  assert.equal(JSON.parse(refused[0].text).error.code, "queue_full");
  assert.equal(await server.stop(), 0);
});

test("a client that reads nothing, or goes away, frees its slot within a second", async () => {
  const server = await startServer("--slots", "2", "--outbox", "64");
  const body = JSON.stringify({ prompt: "One day", ...forever });
  const open = () => new Promise((resolve) => {
    const socket = net.connect(new URL(server.url).port, "127.0.0.1", () => {
      socket.pause();
      socket.write("POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\n" +
        `Content-Length: ${body.length}\r\n\r\n${body}`);
      resolve(socket);
    });
    socket.on("error", () => {});
  });
  const running = () => metric(server.url, "gander_slots_running");
  const gone = await open();
  await until(async () => (await running()) === 1, 2000);
  gone.destroy();
  await until(async () => (await running()) === 0, 1000);
  // Ended half: it sends no more and is taken to be gone too.
  const half = await open();
  await until(async () => (await running()) === 1, 2000);
  half.end();
  await until(async () => (await running()) === 0, 1000);
  half.destroy();
  const slow = await open();
  await until(async () => (await running()) === 1, 2000);
  await until(async () => (await metric(server.url, "gander_clients_too_slow_total")) === 1, 5000);
  await until(async () => (await running()) === 0, 1000);
  slow.destroy();
  assert.equal(await server.stop(), 0);
});

test("a server that is stopped lets replies end, then cuts them", async () => {
  const server = await startServer("--slots", "2", "--drain-seconds", "1");
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  const status = (path) => new Promise((resolve, reject) => {
    http.get(server.url + path, { agent }, (response) => {
      response.resume();
      response.on("end", () => resolve(response.statusCode));
    }).on("error", reject);
  });
  assert.equal(await status("/ready"), 200);
  const short = post(server.url, "/v1/completions",
    { prompt: "One day", max_tokens: 200, logit_bias: { 0: -100 } });
  const long = post(server.url, "/v1/completions", { prompt: "One day", ...forever })
    .catch((error) => error);
  await until(async () => (await metric(server.url, "gander_slots_running")) === 2, 2000);
  const start = performance.now();
  const over = server.stop();
  assert.equal((await short).status, 200);
  assert.ok((await long) instanceof Error);
  assert.equal(await over, 0);
  assert.ok(performance.now() - start < 3000);
  await assert.rejects(status("/health"));
});

test("states are kept under names, exported, imported, forked and deleted", async () => {
  const server = await startServer("--slots", "2");
  const call = async (method, path, body) => {
    const response = await fetch(`${server.url}/v1/states${path}`, { method, body });
    return { status: response.status, bytes: Buffer.from(await response.arrayBuffer()) };
  };
  const json = async (...request) => JSON.parse((await call(...request)).bytes);
  const go = async (state, prompt) => JSON.parse((await post(server.url, "/v1/completions",
    { prompt, state, max_tokens: 12, temperature: 0 })).text).choices[0].text;

  const whole = JSON.parse((await post(server.url, "/v1/completions",
    { prompt: "One day, a cat", max_tokens: 24, temperature: 0 })).text).choices[0].text;
  const begun = await go("a b", "One day, a cat");
  assert.ok((await json("GET", "")).data.some((each) => each.id === "a b" && each.tokens > 12));
  assert.equal((await json("POST", "/a%20b/fork", JSON.stringify({ to: "c" }))).id, "c");
  const exported = await call("GET", "/c");
  assert.equal(exported.status, 200);
  assert.equal(begun + await go("a b", ""), whole);
  assert.equal(begun + await go("c", ""), whole);
  assert.equal((await call("PUT", "/d", exported.bytes)).status, 200);
  assert.equal(begun + await go("d", ""), whole);
  assert.equal((await json("DELETE", "/d")).deleted, true);
  assert.equal((await call("GET", "/d")).status, 404);
  exported.bytes[exported.bytes.length >> 1] ^= 1;
  assert.equal((await call("PUT", "/d", exported.bytes)).status, 400);
  assert.equal(await server.stop(), 0);
});

test("pages of other origins, and names that were made to point here, are refused", async () => {
  const server = await startServer();
  const { port } = new URL(server.url);
  const status = (headers) => new Promise((resolve, reject) => {
    http.get({ port, host: "127.0.0.1", path: "/v1/models", headers }, (response) => {
      response.resume();
      resolve(response.statusCode);
    }).on("error", reject);
  });
  assert.equal(await status({}), 200);
  assert.equal(await status({ Origin: server.url }), 200);
  assert.equal(await status({ Origin: "http://evil.example" }), 403);
  assert.equal(await status({ Host: "evil.example" }), 403);
  assert.equal(await server.stop(), 0);
});
