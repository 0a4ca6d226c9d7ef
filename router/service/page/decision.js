// Why this search: the predicted level, what the table offers at this budget, and what won.

import { h, replace, style } from "./dom.js";
import { DASH, interval, percent, plural, strategyName } from "./format.js";

const SHOWN = 6; // configurations before "more"

/** Fill `body` with a decision. */
export function showDecision(body, decision) {
  const { name, shown } = decision.parameters;
  replace(
    body,
    levels(decision.levels),
    h("h3", {}, "Chosen search"),
    h("p", { class: "chosen" }, h("strong", {}, strategyName(name)), " ", h("code", {}, shown)),
    h("p", { class: "why" }, sentence(decision.why)),
    decision.considered.length > 0 && considered(decision.considered, decision.strategy),
  );
}

/** Bars of P(level). */
function levels(probabilities) {
  if (!probabilities) {
    return h("p", { class: "hint" }, "How hard the problem is was not estimated.");
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
    h("h3", {}, "Difficulty, for this model"),
    h("ol", { class: "levels" }, bars),
    h("p", { class: "ends", "aria-hidden": "true" }, h("span", {}, "easy"), h("span", {}, "hard")),
  );
}

function considered(rows, winner) {
  const items = rows.map((row) =>
    configuration(
      row.parameters,
      row.cost,
      row.expected_accuracy,
      row.interval,
      row.strategy === winner,
    ),
  );
  const more = items.slice(SHOWN);
  return h(
    "div",
    {},
    h("h3", {}, "What the table offers here"),
    h("ol", { class: "ranking" }, items.slice(0, SHOWN)),
    more.length > 0 &&
      h(
        "details",
        {},
        h("summary", {}, `${more.length} more`),
        h("ol", { class: "ranking" }, more),
      ),
  );
}

/** One ranked configuration: its name, its cost, its accuracy as a dot on its interval. */
export function configuration({ name, text, shown }, cost, accuracy, bounds, isWinner) {
  const [low, high] = bounds ?? [accuracy, accuracy];
  return h(
    "li",
    { class: isWinner ? "winner" : null },
    h("span", { class: "name", title: text }, strategyName(name), " ", h("code", {}, shown)),
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

function sentence(text) {
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? "" : "."}`;
}
