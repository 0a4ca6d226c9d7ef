// Solutions as models write them, in Markdown with mathematics. Marked only takes the text apart;
// the elements are made here, so that nothing a model wrote ever passes through an HTML parser.

import { h } from "./dom.js";
import { LONGEST, mathematicsAt, typeset } from "./math.js";
import { Marked } from "./vendor/marked/marked.esm.js";

const extension = (level, start) => ({
  name: `mathematics-${level}`,
  level,
  start: (text) => start.exec(text)?.index,
  tokenizer(text) {
    const found = mathematicsAt(text);
    if (!found || (level === "block" && !found.display)) return undefined;
    return { type: "mathematics", raw: found.raw, node: found.node };
  },
});

const marked = new Marked({
  breaks: true, // models end lines on purpose
  extensions: [
    extension("block", /^(?:\\\[|\$\$)/m), // a paragraph ends where one starts
    extension("inline", /\\[([]|\$|\\boxed\{/),
  ],
});

/** `text` as nodes. */
export function markdown(text) {
  const nodes = document.createDocumentFragment();
  try {
    nodes.append(...all(marked.lexer(text.slice(0, LONGEST))));
  } catch {
    nodes.replaceChildren(typeset(text)); // nested too deep to be taken apart
    return nodes;
  }
  if (text.length > LONGEST) nodes.append(h("em", {}, ` … cut at ${LONGEST} characters`));
  return nodes;
}

const all = (tokens) => tokens.map(node).filter((made) => made !== null);
const inside = (token) => (token.tokens ? all(token.tokens) : [token.text ?? token.raw]);

const MADE = {
  space: () => null,
  hr: () => h("hr"),
  br: () => h("br"),
  heading: (token) => h("p", {}, h("strong", {}, inside(token))),
  paragraph: (token) => h("p", {}, inside(token)),
  blockquote: (token) => h("blockquote", {}, inside(token)),
  strong: (token) => h("strong", {}, inside(token)),
  em: (token) => h("em", {}, inside(token)),
  del: (token) => h("del", {}, inside(token)),
  code: (token) => h("pre", {}, h("code", {}, token.text)),
  codespan: (token) => h("code", {}, token.text),
  list: (token) =>
    h(
      token.ordered ? "ol" : "ul",
      { start: token.ordered ? token.start : null },
      token.items.map((item) => h("li", {}, inside(item))),
    ),
  table: (token) =>
    h(
      "div",
      { class: "scroller" },
      h(
        "table",
        {},
        h("tr", {}, token.header.map((cell) => h("th", {}, inside(cell)))),
        token.rows.map((row) => h("tr", {}, row.map((cell) => h("td", {}, inside(cell))))),
      ),
    ),
  // Nobody is led, and nothing loaded, to where a model points.
  link: (token) =>
    h("span", {}, inside(token), token.href === token.text ? null : ` (${token.href})`),
  image: (token) => document.createTextNode(token.raw),
  html: (token) => document.createTextNode(token.raw),
  escape: (token) => document.createTextNode(token.text),
  mathematics: (token) => token.node,
};

function node(token) {
  const made = MADE[token.type];
  if (made) return made(token);
  return token.tokens ? h("span", {}, inside(token)) : document.createTextNode(token.raw);
}
