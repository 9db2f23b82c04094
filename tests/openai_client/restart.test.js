// States on disk: a conversation goes on where it was after its server was stopped, or killed at
// any moment.
import assert from "node:assert/strict";
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync }
  from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { setTimeout } from "node:timers/promises";
import { metric, post, startServer } from "./server.js";

const work = mkdtempSync(join(tmpdir(), "gander-states-"));
after(() => rmSync(work, { recursive: true }));
const folder = join(work, "states");
const start = (states = folder) => startServer("--slots", "16", "--state-folder", states);

// States are written under another name, and get theirs when they are whole.
const isWhole = (name) => name.endsWith(".state");
const whole = () => readdirSync(folder).filter(isWhole);
const halves = () => readdirSync(folder).filter((name) => !isWhole(name));

// A reply, with the tokens of the prompt, those of them that were read, and those written.
async function ask(url, messages) {
  const { status, text } = await post(url, "/v1/chat/completions",
    { messages, max_tokens: 24, seed: 1 });
  assert.equal(status, 200, text);
  const { choices: [{ message }], usage } = JSON.parse(text);
  const { prompt_tokens: all, completion_tokens: written } = usage;
  return { message, all, written, read: all - usage.prompt_tokens_details.cached_tokens };
}

const user = (content) => ({ role: "user", content });
const messages = [user(Array.from({ length: 190 }, (_, i) =>
  `The cat saw ${i} birds in the old garden.`).join(" "))];
let last;  // reply

// What is new to the model: what the client adds, and the end of the last reply, which the model has
// written but not read: a token, or the parts of one that stand before what ended the reply.
function assertReadsOnlyWhatIsNew(next) {
  const added = next.all - last.all - last.written;
  assert.ok(next.read > 0 && next.read <= added + 2, JSON.stringify({ last, next }));
}

async function turn(url) {
  const reply = await ask(url, messages);
  if (last) assertReadsOnlyWhatIsNew(reply);
  last = reply;
  messages.push(reply.message, user("And then?"));
}

test("a turn of a conversation reads only what is new, also after a restart", async () => {
  let server = await start();
  await turn(server.url);
  assert.ok(last.all > 2000 && last.read === last.all, JSON.stringify(last));
  await turn(server.url);
  await turn(server.url);
  assert.equal(await server.stop(), 0);
  server = await start();
  await turn(server.url);
  assert.equal(await server.stop(), 0);
});

// Sixteen replies to a question, which end together: as many states are written then, one after
// the other.
const question = (i) => [...messages.slice(0, -1), user(`What did they do at ${i} o'clock?`)];
async function replies(url, i) {
  const { status, text } = await post(url, "/v1/chat/completions",
    { messages: question(i), n: 16, max_tokens: 8, seed: 1, logit_bias: { 0: -100 } });
  assert.equal(status, 200, text);
  return JSON.parse(text).choices.map((choice) => choice.message);
}

// Asks until a state is half-written, and kills the server then. Returns the last question, and how
// many of its states were whole.
async function killWhileItWrites(server, first) {
  for (let i = first; i < first + 40; ++i) {
    const before = whole().length;
    let isOver = false;
    const asked = replies(server.url, i).catch(() => {}).then(() => { isOver = true; });
    while (!isOver && halves().length === 0) await new Promise(setImmediate);
    if (isOver) {  // all was written between two looks
      await setTimeout(100);
      continue;
    }
    await server.stop("SIGKILL");
    await asked;
    return { asked: i, written: whole().length - before };
  }
  assert.fail("no half-written state was seen");
}

test("a server that is killed while it writes a state uses what was whole, no more", async () => {
  cpSync(folder, join(work, "other"), { recursive: true });
  const other = await start(join(work, "other"));  // which nobody kills
  let server = await start();
  let wereHalf = 0;
  let next = 0;
  for (let rounds = 0; rounds < 2 || wereHalf === 0; ++rounds) {
    assert.ok(rounds < 20, "no state was left half-written");
    const { asked, written } = await killWhileItWrites(server, next);
    wereHalf += halves().length;
    next = asked + 1;

    server = await start();
    assert.deepEqual(halves(), []);
    // What follows one of the replies is read alone where its state was written; else this question
    // is read too, no more.
    const goOn = (url, reply) => ask(url, [...question(asked), reply, user("And then?")]);
    const all = await Promise.all((await replies(other.url, asked)).map(async (reply) =>
      ({ expected: await goOn(other.url, reply), found: await goOn(server.url, reply) })));
    const kept = all.filter(({ expected, found }) => found.read === expected.read);
    for (const { expected, found } of kept) assert.deepEqual(found, expected);
    for (const { expected, found } of all) assert.ok(found.read <= expected.read + 30);
    assert.ok(kept.length >= written, `${kept.length} of ${written}`);
    assert.equal(await metric(server.url, "gander_cache_corrupt_total"), 0);
  }
  await turn(server.url);
  assert.equal(await server.stop(), 0);
  assert.equal(await other.stop(), 0);
});

test("states whose files are damaged are read again", async () => {
  whole().forEach((name, i) => {
    const bytes = readFileSync(join(folder, name));
    bytes[bytes.length >> 1] ^= 1;
    writeFileSync(join(folder, name), i % 2 === 0 ? bytes : bytes.subarray(0, -1));
  });
  const server = await start();
  const next = await ask(server.url, messages);
  assert.equal(next.read, next.all);
  assert.ok(await metric(server.url, "gander_cache_corrupt_total") >= 5);
  await turn(server.url);
  assert.equal(await server.stop(), 0);
});
