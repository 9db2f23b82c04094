// The web page in a headless Chromium: what a person does with it.
import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { chromium } from "playwright-core";
import { startServer } from "./server.js";

const screenshots = process.env.GANDER_SCREENSHOTS;  // a folder; none: no pictures
let server;
let browser;
let page;
const complaints = [];

before(async () => {
  server = await startServer("--slots", "4");
  browser = await chromium.launchPersistentContext(mkdtempSync(join(tmpdir(), "gander-page-")), {
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
      "--disable-background-networking", "--disable-component-update", "--disable-sync"],
    colorScheme: "light",
    viewport: { width: 1100, height: 800 },
  });
  page = browser.pages()[0] ?? await browser.newPage();
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) complaints.push(message.text());
  });
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("request", (request) => {
    if (!request.url().startsWith(server.url)) complaints.push(`external: ${request.url()}`);
  });
  await page.goto(server.url);
});
after(async () => {
  await browser?.close();
  assert.equal(await server.stop(), 0);
});

const turn = (n) => page.locator("#messages article").nth(n);
const complete = () => page.waitForSelector("#stop", { state: "hidden" });

async function say(text) {
  await page.getByLabel("Message", { exact: true }).fill(text);
  await page.keyboard.press("Enter");
}

async function picture(name) {
  if (!screenshots) return;
  mkdirSync(screenshots, { recursive: true });
  await page.screenshot({ path: join(screenshots, `${name}.png`) });
}

test("a message and its reply, with its numbers", async () => {
  assert.equal(await page.title(), "gander");
  await page.waitForFunction(() => document.getElementById("model").textContent !== "");
  assert.equal(await page.locator("#model").textContent(), "gander-demo-25m");
  await picture("empty");
  await page.getByRole("button", { name: "Settings" }).click();
  await page.getByLabel("Most tokens").fill("60");
  await page.getByLabel("Seed").fill("1");
  await page.getByRole("button", { name: "Close" }).click();
  await say("Tell me a story about a cat.");
  await complete();
  assert.equal(await page.locator("#messages article").count(), 2);
  assert.ok((await turn(1).locator(".text").textContent()).length > 40);
  assert.match(await turn(1).locator(".numbers").textContent(),
    /^60 tokens · \d+ tokens\/s · 0 of \d+ prompt tokens remembered/);
});

test("the second turn is read from where the first ended", async () => {
  await say("And then?");
  await complete();
  const [, cached, prompt] = (await turn(3).locator(".numbers").textContent())
    .match(/(\d+) of (\d+) prompt tokens/).map(Number);
  assert.ok(cached > 60, `${cached} of ${prompt}`);
  await picture("light");
});

test("retry and edit keep what was there", async () => {
  const first = await turn(3).locator(".text").textContent();
  await page.getByRole("button", { name: "Settings" }).click();
  await page.getByLabel("Seed").fill("2");
  await page.keyboard.press("Escape");
  await turn(3).getByRole("button", { name: "Retry" }).click();
  await complete();
  assert.equal(await turn(3).locator(".which").textContent(), "2 of 2");
  assert.notEqual(await turn(3).locator(".text").textContent(), first);
  await turn(3).getByRole("button", { name: "Previous version" }).click();
  assert.equal(await turn(3).locator(".text").textContent(), first);

  await turn(0).getByRole("button", { name: "Edit" }).click();
  await say("Tell me a story about a dog.");
  await complete();
  assert.equal(await page.locator("#messages article").count(), 2);
  assert.equal(await turn(0).locator(".which").textContent(), "2 of 2");
  await turn(0).getByRole("button", { name: "Previous version" }).click();
  assert.equal(await turn(3).locator(".text").textContent(), first);
});

test("a reload shows the conversation again", async () => {
  const before = await page.locator("#messages").innerText();
  await page.reload();
  await page.waitForSelector("#messages article");
  assert.equal(await page.locator("#messages").innerText(), before);
});

test("stopping keeps what was said", async () => {
  await page.getByRole("button", { name: "Settings" }).click();
  await page.getByLabel("Most tokens").fill("5000");
  await page.getByRole("button", { name: "Close" }).click();
  await page.getByRole("button", { name: "New chat" }).click();
  assert.equal(await page.locator("#messages article").count(), 0);
  // Held back until it was stopped, so that it cannot end by itself.
  await page.route("**/v1/chat/completions", async (route) => {
    const body = { ...route.request().postDataJSON(), logit_bias: { 0: -100 } };
    await route.continue({ postData: JSON.stringify(body) });
  });
  await say("Tell me a long story.");
  await page.waitForFunction(() => document.querySelector(".assistant .text")?.textContent.length > 100);
  assert.equal(await page.locator("#send").isVisible(), false);
  await page.keyboard.press("Escape");
  await complete();
  await page.unroute("**/v1/chat/completions");
  assert.match(await turn(1).locator(".numbers").textContent(), /^stopped after/);
  assert.ok((await turn(1).locator(".text").textContent()).length > 100);
});

test("an error is shown and spoken", async () => {
  await page.route("**/v1/chat/completions", (route) => route.fulfill({
    status: 503, contentType: "application/json", body: "{\"error\":{\"message\":\"the queue is full\"}}",
  }));
  await say("Hello");
  await complete();
  assert.equal(await page.getByRole("alert").textContent(), "the queue is full");
  await page.unroute("**/v1/chat/completions");
  complaints.length = 0;  // Chromium's own line about the 503
});

test("what a model writes is text, never markup", async () => {
  await page.route("**/v1/chat/completions", (route) => {
    const chunk = (delta, finish) =>
      `data: ${JSON.stringify({ choices: [{ index: 0, delta, finish_reason: finish }] })}\n\n`;
    route.fulfill({
      contentType: "text/event-stream",
      body: `${chunk({ reasoning_content: "Hm." }, null)}${chunk({
        content: "<img src=x onerror=alert(1)> **bold** and `code`:\n```js\nlet a;\n```" }, "stop")}data: [DONE]\n\n`,
    });
  });
  await say("Markup");
  await complete();
  await page.unroute("**/v1/chat/completions");
  const last = page.locator("#messages article").last();
  assert.equal(await last.locator("img").count(), 0);
  assert.equal(await last.locator("strong").textContent(), "bold");
  assert.equal(await last.locator("pre code").textContent(), "let a;");
  assert.equal(await last.locator(".thought").textContent(), "Hm.");
});

test("everything can be reached by keyboard and has a name", async () => {
  const unnamed = await page.evaluate(() => [...document.querySelectorAll(
    "button, input, textarea, select")].filter((each) =>
    !each.closest("template") && !(each.textContent.trim() || each.getAttribute("aria-label") ||
      each.labels?.length)).map((each) => each.outerHTML));
  assert.deepEqual(unnamed, []);
  await page.reload();  // which focuses the message field
  const order = [];
  for (let i = 0; i < 6; ++i) {
    await page.keyboard.press("Shift+Tab");
    order.push(await page.evaluate(() => document.activeElement.className || document.activeElement.id));
  }
  assert.ok(order.includes("copy"), `${order}`);
  await page.locator(".skip").focus();
  await page.keyboard.press("Enter");
  assert.equal(await page.evaluate(() => document.activeElement.id), "message");
});

test("dark, and a phone", async () => {
  await page.getByRole("button", { name: "New chat" }).click();
  await page.getByRole("button", { name: "Settings" }).click();
  await page.getByLabel("Most tokens").fill("90");
  await page.getByLabel("Seed").fill("1");
  await page.getByLabel("System prompt").fill("You tell stories.");
  await say("Tell me a story about a goose.");
  await complete();
  const background = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const light = await background();
  await page.emulateMedia({ colorScheme: "dark" });
  assert.notEqual(await background(), light);
  await picture("dark");
  await page.getByRole("button", { name: "Close" }).click();
  await page.setViewportSize({ width: 390, height: 780 });
  const overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  assert.ok(overflow <= 0, `${overflow} px too wide`);
  await picture("phone");
  await page.emulateMedia({ colorScheme: "light" });
  await page.getByRole("button", { name: "Settings" }).click();
  await picture("phone-settings");
  await page.getByRole("button", { name: "Close" }).click();
});

test("the browser had nothing to complain about", () => assert.deepEqual(complaints, []));
