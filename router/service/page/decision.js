// Why this search: the predicted level, what the table offers at this budget, and what won.

import { onCurve } from "./average.js";
import { h, replace, style } from "./dom.js";
import { DASH, interval, percent, plural } from "./format.js";
import { term } from "./terms.js";
import { sentence } from "./troubles.js";

/** Fill `body` with a decision. */
export function showDecision(body, decision) {
  const { text, words } = decision.parameters;
  replace(
    body,
    h(
      "div",
      { class: "chosen" },
      h("p", {}, h("strong", { title: text }, words)),
      h("p", { class: "why" }, sentence(decision.why)),
    ),
    levels(decision.levels),
    onCurve(decision),
    decision.considered.length > 0 && considered(decision.considered, decision.strategy),
  );
}

/** Bars of P(level). */
function levels(probabilities) {
  if (!probabilities) {
    return h("p", { class: "hint unknown" }, "How hard the problem is was not estimated.");
  }
  const likeliest = probabilities.indexOf(Math.max(...probabilities));
  const bars = probabilities.map((probability, index) =>
    h(
      "li",
      {
        class: index === likeliest ? "likeliest" : null,
        "aria-label": `Level ${index + 1}: ${percent(probability)}`,
      },
      h("span", { class: "value" }, percent(probability)),
      style(h("span", { class: "bar" }), { "--share": probability }),
      h("span", { class: "name" }, index + 1),
    ),
  );
  return h(
    "div",
    {},
    h("h4", {}, term("level", "Level"), " of difficulty, for this model"),
    h("ol", { class: "levels" }, bars),
    h("p", { class: "ends", "aria-hidden": "true" }, h("span", {}, "easy"), h("span", {}, "hard")),
  );
}

function considered(rows, winner) {
  const items = distinct(rows, (row) => row.strategy === winner).map((row) =>
    configuration(
      row.parameters,
      row.cost,
      row.expected_accuracy,
      row.interval,
      row.strategy === winner,
    ),
  );
  return h(
    "details",
    { class: "offers" },
    h("summary", {}, `What the table offers here: ${plural(items.length, "search", "searches")}`),
    h("ol", { class: "ranking" }, items),
  );
}

/** Rows without those that are the same search by another name, as all votes of one sample are. */
export function distinct(rows, isWinner) {
  const kept = new Map();
  for (const row of rows) {
    const { words } = row.parameters;
    if (!kept.has(words) || isWinner(row)) kept.set(words, row);
  }
  return [...kept.values()];
}

/** One ranked configuration: its name, its cost, its accuracy as a dot on its interval. */
export function configuration({ text, words }, cost, accuracy, bounds, isWinner) {
  const [low, high] = bounds ?? [accuracy, accuracy];
  return h(
    "li",
    { class: isWinner ? "winner" : null },
    h("span", { class: "name", title: text }, words),
    h(
      "span",
      { class: "figure" },
      accuracy == null ? DASH : percent(accuracy),
      bounds && h("span", { class: "hint" }, ` ${interval(low, high)}`),
    ),
    accuracy == null
      ? null
      : style(h("span", { class: "range", "aria-hidden": "true" }), {
          "--low": low,
          "--high": high,
          "--at": accuracy,
        }),
    h("span", { class: "cost" }, plural(cost, "generation")),
  );
}
