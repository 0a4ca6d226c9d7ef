// Accuracy against budget: the table's choice beside best-of-N, a small chart for each level.

import { h, svg } from "./dom.js";
import { count, percent } from "./format.js";

const SIZE = { width: 260, height: 180, left: 38, right: 10, top: 12, bottom: 28 };
const BASELINES = ["weighted", "majority"]; // votes over plain samples

/** Charts of all levels, with their legend. */
export function curves(table) {
  const present = BASELINES.filter((select) =>
    table.cells.some(({ entries }) => entries.some(({ parameters: p }) => p.select === select)),
  );
  const charts = Array.from({ length: table.levels }, (_, index) => {
    const cells = table.cells.slice(
      index * table.budgets.length,
      (index + 1) * table.budgets.length,
    );
    return h(
      "figure",
      {},
      h("figcaption", {}, `Level ${index + 1}`),
      chart(table.budgets, cells, present),
    );
  });
  return h("div", {}, legend(present, table), h("div", { class: "charts" }, charts));
}

/** The estimate of a cell's largest best-of-N by this vote, sampled as everything else is. */
function baseline(cell, select) {
  const votes = cell.entries.filter(
    ({ parameters: { name, n, select: how, aggregate, temperature } }) =>
      name === "best_of_n" &&
      temperature == null &&
      // With one sample there is nothing to select.
      (n === 1 || (how === select && aggregate == null)),
  );
  return votes.toSorted((a, b) => b.parameters.n - a.parameters.n)[0]?.estimate;
}

function chart(budgets, cells, present) {
  const { width, height, left, right, top, bottom } = SIZE;
  const span = Math.log2(budgets.at(-1) / budgets[0]) || 1;
  const x = (budget) => left + ((width - left - right) * Math.log2(budget / budgets[0])) / span;
  const y = (accuracy) => top + (height - top - bottom) * (1 - accuracy);
  const line = (points) =>
    points.map(([b, a], i) => `${i ? "L" : "M"}${x(b).toFixed(1)} ${y(a).toFixed(1)}`).join("");
  const best = cells.map(({ budget, entries, winner }) => [budget, entries[winner].estimate]);
  const band = [
    ...best.map(([b, e]) => [b, e.high]),
    ...best.toReversed().map(([b, e]) => [b, e.low]),
  ];
  const every = Math.ceil(budgets.length / 7);
  const words = best.map(([b, e]) => `${percent(e.accuracy)} at ${b}`).join(", ");
  return svg(
    "svg",
    {
      viewBox: `0 0 ${width} ${height}`,
      class: "chart",
      role: "img",
      "aria-label": `Table's choice: ${words}`,
    },
    [0, 0.5, 1]
      .map((a) => [
        svg("line", { class: "grid", x1: left, x2: width - right, y1: y(a), y2: y(a) }),
        svg("text", { class: "tick end", x: left - 6, y: y(a) + 3.5 }, percent(a)),
      ])
      .flat(),
    budgets
      .filter((_, i) => i % every === 0)
      .map((b) => svg("text", { class: "tick middle", x: x(b), y: height - 10 }, count(b))),
    svg("path", { class: "band", d: `${line(band)}Z` }),
    present.map((select) => {
      const points = cells
        .map((cell) => [cell.budget, baseline(cell, select)?.accuracy])
        .filter(([, a]) => a != null);
      return svg("path", { class: `curve ${select}`, d: line(points) });
    }),
    svg("path", { class: "curve chosen", d: line(best.map(([b, e]) => [b, e.accuracy])) }),
    cells
      .filter((cell) => cell.held_out)
      .map((cell) =>
        svg("circle", {
          class: "held-out",
          cx: x(cell.budget),
          cy: y(cell.held_out.accuracy),
          r: 3,
        }),
      ),
  );
}

function legend(present, table) {
  const key = (kind, name) =>
    h(
      "span",
      { class: "key" },
      svg(
        "svg",
        { viewBox: "0 0 22 10", class: "wide", "aria-hidden": "true" },
        svg("path", { class: `curve ${kind}`, d: "M1 5H21" }),
      ),
      name,
    );
  const dot = svg(
    "svg",
    { viewBox: "0 0 10 10", "aria-hidden": "true" },
    svg("circle", { class: "held-out", cx: 5, cy: 5, r: 3 }),
  );
  return h(
    "div",
    { class: "legend" },
    key("chosen", "the table’s choice, with its interval"),
    present.map((select) => key(select, `${select} vote`)),
    table.cells.some((cell) => cell.held_out) &&
      h("span", { class: "key" }, dot, "the choice on held-out problems"),
  );
}
