// The server's API.

export async function modelName(key) {
  const response = await fetch("/v1/models", { headers: headers(key) });
  if (!response.ok) return "";
  return (await response.json()).data[0].id;
}

function headers(key) {
  const all = { "Content-Type": "application/json" };
  if (key) all.Authorization = `Bearer ${key}`;
  return all;
}

// Streams a reply: onPiece is given { thinking, words }. Returns { usage, finish }. Throws an Error
// with the server's message, or an AbortError when `signal` stops it.
export async function streamChat(body, key, signal, onPiece) {
  const response = await fetch("/v1/chat/completions", {
    method: "POST",
    headers: headers(key),
    body: JSON.stringify({ ...body, stream: true, stream_options: { include_usage: true } }),
    signal,
  });
  if (!response.ok) {
    const problem = await response.json().catch(() => null);
    throw new Error(problem?.error?.message ?? `the server answered ${response.status}`);
  }
  const result = { usage: null, finish: "" };
  for await (const data of eventData(response.body)) {
    if (data === "[DONE]") return result;
    const chunk = JSON.parse(data);
    if (chunk.error) throw new Error(chunk.error.message);
    if (chunk.usage) result.usage = chunk.usage;
    const choice = chunk.choices[0];
    if (!choice) continue;
    if (choice.finish_reason) result.finish = choice.finish_reason;
    onPiece({
      thinking: choice.delta.reasoning_content ?? "",
      words: choice.delta.content ?? "",
    });
  }
  throw new Error("the connection was lost before the reply ended");
}

// The data of server-sent events, one by one.
async function* eventData(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = "";
  try {
    while (true) {
      const { value, done } = await reader.read();
      if (done) return;
      buffer += value;
      for (let end; (end = buffer.indexOf("\n\n")) >= 0;) {
        const event = buffer.slice(0, end);
        buffer = buffer.slice(end + 2);
        if (event.startsWith("data: ")) yield event.slice(6);
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
