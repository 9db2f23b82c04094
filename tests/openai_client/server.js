// Starts gander-server for a test, and stops it.
import { spawn } from "node:child_process";
import { once } from "node:events";
import http from "node:http";
import { createInterface } from "node:readline";

export const executable = process.env.GANDER_SERVER ?? "build/gander-server";

// Resolves to { url, pid, stop(), kill(), lines } when it listens.
export async function startServer(...options) {
  const child = spawn(executable, ["--port", "0", ...options], {
    stdio: ["ignore", "ignore", "pipe"],
    env: { ...process.env, GANDER_API_KEYS: "" },
  });
  const over = once(child, "exit");
  const lines = [];
  const url = await new Promise((resolve, reject) => {
    createInterface({ input: child.stderr }).on("line", (line) => {
      lines.push(line);
      const found = line.match(/listening at (http:\S+)/);
      if (found) resolve(found[1]);
    });
    setTimeout(() => reject(new Error("the server did not start within 20 s")), 20000).unref();
    over.then(([code]) => reject(new Error(`the server ended with ${code}: ${lines.join("\n")}`)));
  });
  over.catch(() => {});
  return {
    url,
    lines,
    pid: child.pid,
    // The exit code of a server that is asked to end.
    async stop(signal = "SIGTERM") {
      child.kill(signal);
      return (await over)[0];
    },
  };
}

// POSTs JSON over a connection of its own; resolves to the whole body.
export function post(url, path, body) {
  return new Promise((resolve, reject) => {
    const request = http.request(url + path, {
      method: "POST", agent: false, headers: { "Content-Type": "application/json" },
    }, (response) => {
      let text = "";
      response.setEncoding("utf8");
      response.on("data", (piece) => { text += piece; });
      response.on("end", () => resolve({ status: response.statusCode, text }));
      response.on("error", reject);
    });
    request.on("error", reject);
    request.end(JSON.stringify(body));
  });
}

// The value of a metric.
export async function metric(url, name, key) {
  const headers = key ? { Authorization: `Bearer ${key}` } : {};
  const text = await (await fetch(`${url}/metrics`, { headers })).text();
  const line = text.split("\n").find((each) => each.startsWith(`${name} `));
  return Number(line?.split(" ")[1]);
}

// Waits until `condition` holds, for at most so many milliseconds; returns how long it took.
export async function until(condition, milliseconds) {
  const start = performance.now();
  while (!(await condition())) {
    if (performance.now() - start > milliseconds) throw new Error(`not within ${milliseconds} ms`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  return performance.now() - start;
}
