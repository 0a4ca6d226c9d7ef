// Taking a search elsewhere: the answer, a link, and the same request for a terminal or a program.

import { body } from "./api.js";
import { h } from "./dom.js";

const FIELDS = ["task", "deadline"];

/** A request as the fragment of a link, which browsers do not send to any server. */
export function toFragment({ problem, searches, ...further }) {
  const query = new URLSearchParams({ problem });
  for (const { budget, strategy } of searches) query.append("search", `${budget} ${strategy}`);
  for (const field of FIELDS) if (further[field]) query.set(field, further[field]);
  return `#solve?${query}`;
}

/** What a link asks for; null if it holds no problem. */
export function fromFragment(fragment) {
  const query = new URLSearchParams(fragment.split("?").slice(1).join("?"));
  const problem = query.get("problem");
  if (!problem) return null;
  const searches = query.getAll("search").flatMap((text) => {
    const found = /^(\d{1,6}) (.{1,300})$/s.exec(text);
    return found ? [{ budget: Number(found[1]), strategy: found[2] }] : [];
  });
  const deadline = Number(query.get("deadline")) || null;
  return { problem, searches: searches.slice(0, 2), task: query.get("task"), deadline };
}

/** The request as a command. */
function curl(ask, guarded) {
  const quoted = JSON.stringify(body(ask), null, 1).replaceAll("'", String.raw`'\''`);
  const key = guarded ? ` \\\n  -H "Authorization: Bearer $ROUTER_API_KEY"` : "";
  return `curl ${base()}/chat/completions \\\n  -H 'Content-Type: application/json'${key} \\\n  -d '${quoted}'\n`;
}

/** The request as a program with OpenAI's client. */
function python(ask, guarded) {
  const { model, messages, router } = body(ask);
  const key = guarded ? 'os.environ["ROUTER_API_KEY"]' : '"none"';
  return `${guarded ? "import os\n\n" : ""}from openai import OpenAI

client = OpenAI(base_url=${JSON.stringify(base())}, api_key=${key})
completion = client.chat.completions.create(
    model=${JSON.stringify(model)},
    messages=[{"role": "user", "content": ${JSON.stringify(messages[0].content)}}],
    extra_body={"router": ${JSON.stringify(router)}},
)
print(completion.router["answer"])
print(completion.choices[0].message.content)
`;
}

const base = () => new URL("v1", location.href.split("#")[0]).href;

/** Buttons that copy what came of a search, and how to ask for it again. */
export function copyButtons(ask, solution, text, session) {
  const guarded = session.limits?.keys;
  const named = { ...ask, model: session.limits?.model };
  return [
    copyButton("Copy answer", () => solution.answer ?? text),
    copyButton("Copy solution", () => text),
    copyButton("curl", () => curl(named, guarded)),
    copyButton("Python", () => python(named, guarded)),
  ];
}

/** A button that copies what `make` returns, and says so. */
export function copyButton(label, make) {
  const button = h("button", { type: "button", class: "quiet copy" }, label);
  button.addEventListener("click", async () => {
    const text = make();
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      prompt("Copy this:", text); // the browser lets no page write to the clipboard here
    }
    setTimeout(() => (button.textContent = label), 1500);
  });
  return button;
}
