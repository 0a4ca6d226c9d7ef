// Text of problems and models, with its mathematics set by KaTeX. All of it is untrusted: it
// becomes text nodes and KaTeX's own elements, and never passes through an HTML parser.

import { h, seen } from "./dom.js";

export const LONGEST = 20_000; // characters set at once; a longer text is cut, with a note
const OPTIONS = {
  trust: false,
  throwOnError: false,
  strict: "ignore",
  errorColor: "currentcolor",
  maxSize: 5,
  maxExpand: 300,
};

// A single dollar opens mathematics as in Pandoc: no space after it, none before the closing one,
// no digit behind that, so that "$5 and then $6" stays money.
const MATH = new RegExp(
  [
    String.raw`\\\[(?<square>[^]+?)\\\]`,
    String.raw`\$\$(?<display>[^]+?)\$\$`,
    String.raw`\\\((?<round>[^]+?)\\\)`,
    String.raw`(?<![\\$])\$(?=\S)(?<dollar>(?:[^$\\\n]|\\.)+?)(?<=\S)\$(?!\d)`,
    String.raw`(?<boxed>\\boxed\{(?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*\})`,
    String.raw`\*\*(?<bold>[^*\n]+)\*\*`,
  ].join("|"),
  "g",
);

const WORDS = /[a-zA-Z]{4}|[^ -~]|[^]{100}/; // or anything else that is no short formula

/** Replace what `element` shows by `text`. */
export function show(element, text) {
  element.replaceChildren(typeset(text));
  return element;
}

/** `text` as nodes: mathematics in any common delimiters, and bold. */
export function typeset(text) {
  const nodes = document.createDocumentFragment();
  const shown = seen(text.slice(0, LONGEST));
  let end = 0;
  for (const match of shown.matchAll(MATH)) {
    const { display, inline, bold } = unwrap(match.groups);
    const before = shown.slice(end, match.index);
    end = match.index + match[0].length;
    // A formula on display has lines of its own already.
    nodes.append(display ? before.trimEnd() : before);
    if (display) end += /^\s*/.exec(shown.slice(end))[0].length;
    nodes.append(
      bold ? h("strong", {}, typeset(bold)) : formula(display ?? inline, Boolean(display)),
    );
  }
  nodes.append(shown.slice(end));
  if (shown.length < text.length) nodes.append(h("em", {}, ` … cut at ${LONGEST} characters`));
  return nodes;
}

/** `text` with what `hold` returns in the place of each formula; it is given its node and source. */
export function holdFormulas(text, hold) {
  return text.replace(MATH, (source, ...rest) => {
    const { display, inline, bold } = unwrap(rest.at(-1));
    if (bold) return `**${holdFormulas(bold, hold)}**`;
    return hold(formula(display ?? inline, Boolean(display)), source);
  });
}

function unwrap({ square, display, round, dollar, boxed, bold }) {
  return { display: square ?? display, inline: round ?? dollar ?? boxed, bold };
}

/** A final answer: models write it as LaTeX without delimiters, a number, or words. */
export function answer(text) {
  text = seen(text);
  const besidesCommands = text.replace(/\\(?:text|mathrm|mbox)\{[^{}]*\}|\\[a-zA-Z]+/g, "");
  if (WORDS.test(besidesCommands)) return typeset(text);
  return formula(text.replace(/(?<!\\)[$%]/g, "\\$&"), false);
}

/** KaTeX's own rendering of `tex`. */
function formula(tex, displayMode) {
  try {
    // A style attribute would be refused by the page's CSP, a style set by script is not, and
    // KaTeX writes a few of its styles as attributes (`\vec`, tall delimiters, errors).
    const tree = globalThis.katex.__renderToDomTree(tex, { ...OPTIONS, displayMode });
    moveStyles(tree);
    const element = tree.toNode();
    for (const styled of [element, ...element.querySelectorAll("[data-style]")]) {
      if (styled.dataset.style) styled.style.cssText += styled.dataset.style;
    }
    return element;
  } catch {
    return document.createTextNode(tex); // KaTeX has not loaded, or cannot cope with it
  }
}

function moveStyles(node) {
  if (node.attributes?.style) {
    node.attributes["data-style"] = node.attributes.style;
    delete node.attributes.style;
  }
  node.children?.forEach(moveStyles);
}
