// The service's API, as the page uses it.

const KEY = "router.key";

/** An answer of the service that is not a success; `retryAfter` in seconds where it names one. */
export class ApiError extends Error {
  constructor(message, status = 0, retryAfter = null) {
    super(message);
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

export const hasKey = () => sessionStorage.getItem(KEY) !== null;

/** Remember the API key until the tab is closed. */
export function setKey(key) {
  sessionStorage.setItem(KEY, key);
}

export const models = () => json("v1/models");
export const table = () => json("v1/table");

/**
 * Solve a problem: every event of the search, in order, then `{event: "text", text}` with the
 * winning solution. Aborting `signal` closes the connection, which cancels the search.
 */
export async function* solve({ model, problem, budget, strategy }, signal) {
  const response = await call("v1/chat/completions", {
    signal,
    method: "POST",
    body: JSON.stringify({
      model,
      messages: [{ role: "user", content: problem }],
      stream: true,
      stream_options: { include_usage: true },
      router: { budget, strategy, tolerance: 0, trace: true },
    }),
  });
  let text = "";
  for await (const data of serverSentEvents(response.body)) {
    if (data === "[DONE]") {
      yield { event: "text", text };
      return;
    }
    const chunk = JSON.parse(data);
    if (chunk.error) throw new ApiError(chunk.error.message, response.status);
    if (chunk.router) yield chunk.router;
    text += chunk.choices[0]?.delta.content ?? "";
  }
  throw new ApiError("The connection ended before the answer did.");
}

/** The data of each server-sent event (WHATWG HTML, sec. 9.2); comments are skipped. */
async function* serverSentEvents(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let data = [];
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const lines = (rest + value).split(/\r?\n/);
      rest = lines.pop();
      for (const line of lines) {
        if (line.startsWith("data:")) data.push(line.slice(5).replace(/^ /, ""));
        else if (line === "" && data.length) {
          yield data.join("\n");
          data = [];
        }
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

async function json(path) {
  return (await call(path)).json();
}

async function call(path, { headers, ...options } = {}) {
  const key = sessionStorage.getItem(KEY);
  let response;
  try {
    response = await fetch(path, {
      ...options,
      headers: {
        ...headers,
        ...(options.body && { "Content-Type": "application/json" }),
        ...(key && { Authorization: `Bearer ${key}` }),
      },
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("The service cannot be reached. Is it still running?");
  }
  if (response.ok) return response;
  const body = await response.json().catch(() => null);
  const message = body?.error?.message ?? `The service answered ${response.status}.`;
  throw new ApiError(message, response.status, Number(response.headers.get("Retry-After")) || null);
}
