// The service's API, as the page uses it.

const KEY = "router.key";

/**
 * An answer of the service that is not a success. `code` as the service names it, or `unreachable`
 * and `lost` for connections that failed; `retryAfter` in seconds where it names one.
 */
export class ApiError extends Error {
  constructor(message, { status = 0, code = null, param = null, retryAfter = null } = {}) {
    super(message);
    Object.assign(this, { status, code, param, retryAfter });
  }
}

export const hasKey = () => sessionStorage.getItem(KEY) !== null;

/** Remember the API key until the tab is closed; null forgets it. */
export function setKey(key) {
  if (key === null) sessionStorage.removeItem(KEY);
  else sessionStorage.setItem(KEY, key);
}

/** What is wrong with a key that no header can carry; null for one that can be tried. */
export function keyTrouble(key) {
  const odd = [...key].find((character) => !/[!-~]/.test(character));
  if (odd === undefined) return null;
  return odd.trim() === ""
    ? "A key holds no spaces; look whether more than the key was copied."
    : `A key is of plain letters, digits and signs; this one holds “${odd}”.`;
}

export const limits = () => json("v1/router/limits");
export const table = () => json("v1/table");

/** The body of a request that solves a problem. */
export function body({ model, problem, task, deadline, budget, strategy }, trace = {}) {
  return {
    model,
    messages: [{ role: "user", content: problem }],
    ...(trace.stream && { stream: true }),
    router: { budget, strategy, ...(task && { task }), ...(deadline && { deadline }), ...trace.own },
  };
}

/**
 * Solve a problem: every event of the search, in order, then `{event: "text", text}` with the
 * winning solution. Aborting `signal` closes the connection, which cancels the search.
 */
export async function* solve(ask, signal) {
  const asked = body(ask, { stream: true, own: { trace: true } });
  const response = await call("v1/chat/completions", {
    signal,
    method: "POST",
    body: JSON.stringify(asked),
  });
  let text = "";
  let parts = ""; // of an event that is too long for one
  for await (const data of serverSentEvents(response.body)) {
    if (data === "[DONE]") {
      yield { event: "text", text };
      return;
    }
    const chunk = JSON.parse(data);
    if (chunk.error) throw new ApiError(chunk.error.message, chunk.error);
    if (chunk.router?.event === "part") {
      parts += chunk.router.text;
      if (!chunk.router.last) continue;
      yield JSON.parse(parts);
      parts = "";
    } else if (chunk.router) yield chunk.router;
    text += chunk.choices[0]?.delta.content ?? "";
  }
  throw lost();
}

/** The data of each server-sent event (WHATWG HTML, sec. 9.2); comments are skipped. */
async function* serverSentEvents(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let data = [];
  try {
    for (;;) {
      const { done, value } = await reader.read().catch((error) => {
        throw error.name === "AbortError" ? error : lost();
      });
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

const lost = () => new ApiError("The connection ended before the answer did.", { code: "lost" });

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
    throw new ApiError("The service cannot be reached.", { code: "unreachable" });
  }
  if (response.ok) return response;
  const told = (await response.json().catch(() => null))?.error;
  throw new ApiError(told?.message ?? `The service answered ${response.status}.`, {
    status: response.status,
    code: told?.code,
    param: told?.param,
    retryAfter: Number(response.headers.get("Retry-After")) || null,
  });
}
