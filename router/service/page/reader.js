// Reading a solution: the steps up to the one that was chosen in the tree.

import { h, svg } from "./dom.js";
import { plural, score } from "./format.js";
import { markdown } from "./markdown.js";
import { typeset } from "./math.js";
import { term } from "./terms.js";
import { apart } from "./thoughts.js";
import { MEANING, SHAPES } from "./tree-view.js";

export class Reader {
  /** `onPick` is told of a step that was chosen here. */
  constructor(panel, onPick) {
    this.title = panel.querySelector("h3");
    this.facts = panel.querySelector(".facts");
    this.steps = panel.querySelector(".steps");
    this.onPick = onPick;
  }

  clear(problem) {
    this.problem = problem;
    this.node = null;
    this.title.textContent = "Problem";
    this.facts.textContent = "Choose a step in the tree to read it.";
    this.steps.replaceChildren(
      h("li", { class: "step chosen" }, h("div", { class: "prose" }, typeset(problem))),
    );
  }

  /** Show a node and the steps before it; thoughts are folded, unless the node is one of them. */
  show(node) {
    if (!node.parent) {
      this.clear(this.problem);
      this.node = node;
      return;
    }
    this.node = node;
    this.title.textContent = node.isFinished ? "Solution" : `Step ${node.depth}`;
    this.state = state(node);
    this.facts.textContent = this.state;
    this.steps.classList.toggle("whole", node.isFinished);
    const parts = apart(node.path);
    const thoughts = parts.filter(({ thought }) => thought);
    const rest = parts.filter(({ said, thought }) => said || !thought);
    this.steps.replaceChildren(
      ...(thoughts.length ? [this.folded(thoughts, rest.length === 0)] : []),
      ...rest.map(({ step, said }) => this.item(step, said)),
    );
    const { offsetTop, offsetHeight } = this.steps.lastChild;
    this.steps.scrollTop = node.isFinished ? 0 : offsetTop + offsetHeight;
  }

  /** The tree has changed: show the chosen node's new score and status. */
  refresh() {
    if (this.node?.parent && state(this.node) !== this.state) this.show(this.node);
  }

  folded(thoughts, open) {
    return h(
      "li",
      { class: "thoughts" },
      h(
        "details",
        { open },
        h("summary", {}, `Thoughts, ${plural(thoughts.length, "step")}`),
        h("ol", {}, thoughts.map(({ step, thought }) => this.item(step, thought))),
      ),
    );
  }

  item(step, text) {
    const chosen = step === this.node;
    return h(
      "li",
      { class: chosen ? "step chosen" : "step" },
      h(
        "button",
        {
          type: "button",
          class: "chip",
          "data-score": step.score == null ? null : Math.round(10 * step.score),
          "aria-label": `Step ${step.depth}${step.score == null ? "" : `, score ${score(step.score)}`}`,
          onclick: () => this.onPick(step),
        },
        step.score == null ? String(step.depth) : score(step.score),
      ),
      h("div", { class: "prose" }, markdown(text)),
    );
  }
}

function state(node) {
  const facts = [MEANING[node.status]];
  if (node.score != null) facts.push(`score ${score(node.score)}`);
  if (node.tokens != null) facts.push(plural(node.tokens, "token"));
  if (node.finish === "length") facts.push("cut by a limit of tokens");
  return facts.join(" · ");
}

/** What shapes and colours mean. */
export function legend() {
  const key = (status) =>
    h(
      "span",
      { class: "key" },
      svg(
        "svg",
        { viewBox: "-1.6 -1.6 3.2 3.2", "aria-hidden": "true" },
        svg("path", { class: `node ${status}`, d: SHAPES[status] }),
      ),
      ["pruned", "lookahead"].includes(status) ? term(status, MEANING[status]) : MEANING[status],
    );
  return [
    h(
      "span",
      { class: "key ramp" },
      term("score", "score"),
      "0",
      h("span", { class: "scale", "aria-hidden": "true" }),
      "1",
    ),
    ...Object.keys(MEANING).map(key),
    h(
      "span",
      { class: "key" },
      svg(
        "svg",
        { viewBox: "-8 -8 16 16", "aria-hidden": "true" },
        svg("path", { class: "link winner", d: "M-8 0H8" }),
      ),
      "the answer’s path",
    ),
  ];
}
