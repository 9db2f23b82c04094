import { modelName, streamChat } from "/client.js";
import {
  addNode, emptyConversation, messagesUpTo, readConversation, shownPath, showSibling, siblings,
} from "/conversation.js";
import { showText } from "/text.js";

const byId = (id) => document.getElementById(id);
const messages = byId("messages");
const field = byId("message");
const options = byId("options");

let conversation = readConversation(recall("conversation"));
let running = null;  // { abort, id } while a reply comes
let editing = 0;     // the message whose new version is being written

// What the browser keeps; it may refuse to.
function recall(name) {
  try { return localStorage.getItem(name); } catch { return null; }
}
function keep(name, value) {
  try { localStorage.setItem(name, value); } catch { /* the page works without */ }
}
const save = () => keep("conversation", JSON.stringify(conversation));

// ---- Turns ----

function buildTurn(id) {
  const node = conversation.nodes[id];
  const turn = byId("turn").content.firstElementChild.cloneNode(true);
  const find = (name) => turn.querySelector(name);
  turn.dataset.id = id;
  turn.className = node.role;
  find(".who").textContent = node.role === "user" ? "You" : "Reply";
  const { count, at } = siblings(conversation, id);
  find(".branches").hidden = count < 2;
  find(".which").textContent = `${at + 1} of ${count}`;
  find(".previous").disabled = at === 0;
  find(".next").disabled = at === count - 1;
  find(".previous").onclick = () => turnTo(id, -1);
  find(".next").onclick = () => turnTo(id, 1);
  find(".edit").hidden = node.role !== "user";
  find(".edit").onclick = () => edit(id);
  find(".retry").hidden = node.role !== "assistant";
  find(".retry").onclick = () => reply(node.parent);
  find(".copy").onclick = (event) => copy(node.text, event.target);
  fillTurn(turn, node);
  return turn;
}

// What changes while a reply comes.
function fillTurn(turn, node) {
  showText(turn.querySelector(".text"), node.text);
  const thinking = turn.querySelector(".thinking");
  thinking.hidden = node.thinking === "";
  showText(turn.querySelector(".thought"), node.thinking);
  turn.querySelector(".numbers").textContent = node.numbers ?? "";
}

function render() {
  const path = shownPath(conversation);
  messages.replaceChildren(...path.map(buildTurn));
  byId("empty").hidden = path.length > 0;
}

function turnTo(id, step) {
  if (running) return;
  const other = showSibling(conversation, id, step);
  save();
  render();
  const turn = messages.querySelector(`[data-id="${other}"]`);
  const button = turn.querySelector(step < 0 ? ".previous" : ".next");
  (button.disabled ? turn.querySelector(step < 0 ? ".next" : ".previous") : button).focus();
  say(`Version ${turn.querySelector(".which").textContent}`);
}

async function copy(text, button) {
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    button.textContent = "Not allowed";
  }
  setTimeout(() => { button.textContent = "Copy"; }, 1500);
}

// ---- Writing and replies ----

function edit(id) {
  if (running) return;
  editing = id;
  field.value = conversation.nodes[id].text;
  grow();
  field.focus();
  say("Editing: send to ask again, Escape to leave it");
  byId("send").textContent = "Ask again";
}

function endEditing() {
  editing = 0;
  byId("send").textContent = "Send";
}

function send() {
  const text = field.value.trim();
  if (text === "" || running) return;
  const path = shownPath(conversation);
  const parent = editing ? conversation.nodes[editing].parent : (path.at(-1) ?? 0);
  const id = addNode(conversation, parent, "user", text);
  endEditing();
  field.value = "";
  grow();
  reply(id);
}

// Generates a reply to a message, beside those it already has.
async function reply(parent) {
  if (running) return;
  const id = addNode(conversation, parent, "assistant");
  const node = conversation.nodes[id];
  running = { abort: new AbortController(), id };
  showError("");
  render();
  setRunning(true);
  const turn = messages.querySelector(`[data-id="${id}"]`);
  turn.setAttribute("aria-busy", "true");
  const start = performance.now();
  let frame = 0;
  const show = () => {
    frame = 0;
    const follow = isAtEnd();
    fillTurn(turn, node);
    if (follow) scrollToEnd();
  };
  scrollToEnd();
  try {
    const { key, ...body } = readOptions();
    const { system, ...sampling } = body;
    const result = await streamChat(
      { ...sampling, messages: messagesUpTo(conversation, parent, system) }, key,
      running.abort.signal, (piece) => {
        node.thinking += piece.thinking;
        node.text += piece.words;
        frame ||= requestAnimationFrame(show);
      });
    node.numbers = numbersText(result);
    say("The reply is complete");
  } catch (error) {
    if (error.name === "AbortError") {
      node.numbers = `stopped after ${((performance.now() - start) / 1000).toFixed(1)} s`;
      say("Stopped");
    } else {
      showError(error.message);
    }
  }
  cancelAnimationFrame(frame);
  show();
  turn.removeAttribute("aria-busy");
  running = null;
  setRunning(false);
  save();
}

function numbersText({ usage, finish }) {
  if (!usage) return "";
  const { completion_tokens: tokens, prompt_tokens: prompt, timings } = usage;
  const cached = usage.prompt_tokens_details.cached_tokens;
  const speed = timings.seconds > 0 ? `${(tokens / timings.seconds).toFixed(0)} tokens/s` : "";
  const parts = [`${tokens} tokens`, speed, `${cached} of ${prompt} prompt tokens remembered`];
  if (finish === "length") parts.push("stopped at the limit");
  return parts.filter((part) => part !== "").join(" · ");
}

function readOptions() {
  const values = {};
  for (const [name, value] of new FormData(options)) {
    const input = options.elements[name];
    if (input.type === "number") {
      if (value !== "") values[name] = Number(value);
    } else if (value !== "" || name === "system") {
      values[name] = value;
    }
  }
  return values;
}

// ---- The page ----

function setRunning(isRunning) {
  byId("send").hidden = isRunning;
  byId("stop").hidden = !isRunning;
  for (const button of messages.querySelectorAll("button:not(.copy)")) {
    if (isRunning) button.disabled = true;
  }
  if (!isRunning) {
    render();
    if (document.activeElement === document.body) field.focus();
  }
}

function showError(message) {
  byId("error").hidden = message === "";
  byId("error").textContent = message;
}

const say = (text) => { byId("status").textContent = text; };
const isAtEnd = () => innerHeight + scrollY >= document.documentElement.scrollHeight - 80;
const scrollToEnd = () => scrollTo({ top: document.documentElement.scrollHeight });

function grow() {
  field.style.height = "auto";
  field.style.height = `${Math.min(field.scrollHeight + 2, innerHeight * 0.4)}px`;
}

function showSettings(isShown) {
  byId("settings").hidden = !isShown;
  byId("show-settings").setAttribute("aria-expanded", String(isShown));
  document.body.classList.toggle("with-settings", isShown);
  (isShown ? options.elements.system : byId("show-settings")).focus();
}

const themes = { system: ["◐", "as the system"], light: ["○", "light"], dark: ["●", "dark"] };
function setTheme(name) {
  const [sign, words] = themes[name] ?? themes.system;
  if (name === "light" || name === "dark") document.documentElement.dataset.theme = name;
  else delete document.documentElement.dataset.theme;
  byId("theme").textContent = sign;
  byId("theme").setAttribute("aria-label", `Colours: ${words}`);
  byId("theme").title = `Colours: ${words}`;
  keep("theme", name);
}

byId("write").onsubmit = (event) => { event.preventDefault(); send(); };
byId("stop").onclick = () => running?.abort.abort();
field.oninput = grow;
field.onkeydown = (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    send();
  }
};
document.onkeydown = (event) => {
  if (event.key !== "Escape") return;
  if (running) running.abort.abort();
  else if (editing) { endEditing(); field.value = ""; grow(); }
  else if (!byId("settings").hidden) showSettings(false);
};
byId("new").onclick = () => {
  running?.abort.abort();
  conversation = emptyConversation();
  endEditing();
  save();
  showError("");
  render();
  field.focus();
};
byId("show-settings").onclick = () => showSettings(byId("settings").hidden);
byId("hide-settings").onclick = () => showSettings(false);
byId("theme").onclick = () => {
  const names = Object.keys(themes);
  const now = document.documentElement.dataset.theme ?? "system";
  setTheme(names[(names.indexOf(now) + 1) % names.length]);
};

// Settings outlive the page, the key does not.
options.oninput = () => {
  const { key, ...kept } = readOptions();
  keep("options", JSON.stringify(kept));
};
options.onsubmit = (event) => event.preventDefault();
options.onreset = () => keep("options", "{}");
options.elements.key.onchange = showModel;
try {
  for (const [name, value] of Object.entries(JSON.parse(recall("options") ?? "{}"))) {
    if (options.elements[name]) options.elements[name].value = value;
  }
} catch { /* the defaults */ }

async function showModel() {
  const name = await modelName(options.elements.key.value).catch(() => "");
  byId("model").textContent = name;
}

setTheme(recall("theme") ?? "system");
render();
scrollToEnd();
showModel();
