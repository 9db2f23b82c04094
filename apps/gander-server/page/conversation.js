// A conversation as a tree: editing a message or retrying a reply adds a sibling, and nothing is
// lost. Each node remembers which of its children is shown.

export function emptyConversation() {
  return { nodes: [{ role: "root", children: [], shown: 0 }] };
}

// A node: { role, text, thinking, parent, children, shown, numbers, end }.
export function addNode(conversation, parent, role, text = "") {
  const id = conversation.nodes.length;
  conversation.nodes.push({ role, text, thinking: "", parent, children: [], shown: 0 });
  const above = conversation.nodes[parent];
  above.children.push(id);
  above.shown = above.children.length - 1;
  return id;
}

// The ids of the turns that are shown, the first first.
export function shownPath(conversation) {
  const path = [];
  for (let node = conversation.nodes[0]; node.children.length > 0;) {
    const id = node.children[node.shown];
    path.push(id);
    node = conversation.nodes[id];
  }
  return path;
}

// What the API is to be sent for a reply to node `id`.
export function messagesUpTo(conversation, id, system) {
  const messages = [];
  for (let at = id; at > 0; at = conversation.nodes[at].parent) {
    const { role, text } = conversation.nodes[at];
    messages.unshift({ role, content: text });
  }
  if (system.trim() !== "") messages.unshift({ role: "system", content: system });
  return messages;
}

export function siblings(conversation, id) {
  const above = conversation.nodes[conversation.nodes[id].parent];
  return { count: above.children.length, at: above.children.indexOf(id) };
}

export function showSibling(conversation, id, step) {
  const above = conversation.nodes[conversation.nodes[id].parent];
  const { count, at } = siblings(conversation, id);
  above.shown = Math.min(Math.max(at + step, 0), count - 1);
  return above.children[above.shown];
}

// A conversation that was stored, or an empty one when it is none.
export function readConversation(text) {
  try {
    const conversation = JSON.parse(text);
    const isNode = (node) => Array.isArray(node.children) && typeof node.shown === "number";
    if (conversation.nodes.length > 0 && conversation.nodes.every(isNode)) return conversation;
  } catch {
    // not stored, or by another version
  }
  return emptyConversation();
}
