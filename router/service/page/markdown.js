// Solutions as models write them, in Markdown with mathematics. Marked only takes the text apart;
// the elements are made here, so that nothing a model wrote ever passes through an HTML parser.

import { h, seen } from "./dom.js";
import { LONGEST, holdFormulas, typeset } from "./math.js";
import { Marked } from "./vendor/marked/marked.esm.js";

const marked = new Marked({ breaks: true }); // models end lines on purpose

// Formulas are taken out first: their lines may begin as lists do, their bars are no table's. Each
// leaves a number between two characters that Unicode gives no meaning.
const [OPEN, CLOSE] = ["\uE000", "\uE001"];
const HELD = new RegExp(`${OPEN}(\\d+)${CLOSE}`, "g");
const MARKS = new RegExp(`[${OPEN}${CLOSE}]`, "g");

/** `text` as nodes. */
export function markdown(text) {
  const shown = seen(text.slice(0, LONGEST)).replace(MARKS, "");
  const formulas = [];
  const held = holdFormulas(shown, (node, source) => {
    formulas.push({ node, source });
    return `${OPEN}${formulas.length - 1}${CLOSE}`;
  });
  const nodes = document.createDocumentFragment();
  try {
    nodes.append(...all(marked.lexer(held)));
  } catch {
    return typeset(text); // nested too deep to be taken apart
  }
  put(nodes, formulas);
  if (text.length > LONGEST) nodes.append(h("em", {}, ` … cut at ${LONGEST} characters`));
  return nodes;
}

/** Put formulas back where they were held: typeset in text, as they were written in code. */
function put(nodes, formulas) {
  const walker = document.createTreeWalker(nodes, NodeFilter.SHOW_TEXT);
  const texts = [];
  while (walker.nextNode()) if (walker.currentNode.data.includes(OPEN)) texts.push(walker.currentNode);
  for (const text of texts) {
    const isCode = text.parentElement?.closest("code");
    const parts = text.data.split(HELD); // every second one is the number of a formula
    text.replaceWith(
      ...parts.map((part, index) => {
        if (index % 2 === 0) return part;
        const { node, source } = formulas[part];
        return isCode ? source : node;
      }),
    );
  }
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
};

function node(token) {
  const made = MADE[token.type];
  if (made) return made(token);
  return token.tokens ? h("span", {}, inside(token)) : document.createTextNode(token.raw);
}
