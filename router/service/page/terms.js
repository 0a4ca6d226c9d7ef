// The words that a newcomer does not know, explained where they stand.

import { h } from "./dom.js";

const TERMS = {
  budget:
    "How many solutions the model may write for this problem at most. Twice the budget costs about twice the compute.",
  generation:
    "One solution of the problem, written by the model from the beginning to the end; the unit of the budget.",
  strategy: "How the budget is spent: on whole solutions side by side, or on steps that are judged.",
  auto: "Estimates how hard the problem is, and takes the search that did best on such problems within the budget.",
  level:
    "How hard the problem is for this model: level 1 are the problems that it nearly always solves, the last level those that it nearly never does.",
  verifier:
    "A second model, which reads a solution step by step and says how likely each step is right, from 0 to 1.",
  score: "How likely the verifier thinks it that the solution is right up to here, from 0 to 1.",
  step: "One piece of a solution, most often a paragraph. Each dot in the tree is one.",
  pruned: "Dropped by the search, since other steps had better scores.",
  lookahead: "Written only to see where a step leads, and then thrown away.",
  votes:
    "Solutions with equal answers vote for it. In a weighted vote each counts by its score, in a majority vote all count alike.",
  tokens: "Pieces of words, which models read and write; what engines charge for.",
  judged: "Tokens that the verifier read to score the steps.",
  flops: "Floating-point operations: the arithmetic that model and verifier did together.",
  interval:
    "With 95% certainty the true accuracy lies in this range; few problems make it wide.",
  held_out: "Measured on problems that had no part in choosing the winner.",
  best_of_n: "Writes whole solutions side by side; then their answers vote. Where it may end early, it writes a few at a time, until one more is worth too little.",
  beam_search:
    "Writes several next steps, keeps those with the best scores, and goes on from them.",
  dvts: "Diverse verifier tree search: several small beam searches that know nothing of each other.",
  lookahead_search:
    "A beam search that judges a step by where it leads a step later. Each generation counts twice.",
  rebase: "REBASE: better steps get more continuations, worse ones fewer or none.",
};

/** What a term means; undefined if it has no explanation. */
export const meaning = (name) => TERMS[name];

/** A word that explains itself: on hover, on a click, and to screen readers. */
export function term(name, label = name) {
  return h("button", { type: "button", class: "term", "data-term": name, title: TERMS[name] }, label);
}

/** Let every element with `data-term` explain itself in the one card for all of them. */
export function explainTerms(card) {
  const templates = [...document.querySelectorAll("template")].map(({ content }) => content);
  for (const part of [document, ...templates])
    for (const element of part.querySelectorAll("[data-term]"))
      element.title = TERMS[element.dataset.term];
  document.addEventListener("click", ({ target }) => {
    const asked = target.closest?.("[data-term]");
    if (!asked) return;
    card.textContent = TERMS[asked.dataset.term];
    card.showPopover({ source: asked });
    place(card, asked.getBoundingClientRect());
  });
}

/** Below the word, or above it where there is no room, and never outside the window. */
function place(card, { left, top, bottom }) {
  const { offsetWidth: width, offsetHeight: height } = card;
  const x = Math.max(8, Math.min(left, innerWidth - width - 8));
  const y = bottom + 6 + height > innerHeight ? top - height - 6 : bottom + 6;
  card.style.left = `${x}px`;
  card.style.top = `${Math.max(8, y)}px`;
}
