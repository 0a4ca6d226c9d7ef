// What problems cost on average here, and where one of them lies on its curve.

import { h, svg } from "./dom.js";
import { percent, plural } from "./format.js";

const SIZE = { width: 260, height: 132, left: 38, right: 10, top: 8, bottom: 24 };

/** How the service holds its average, in words; empty where it holds none. */
export function held(average) {
  if (!average) return "";
  const whose = average.per_key ? "Your problems" : "Problems";
  const spent = average.spent == null ? "" : ` The last ones cost ${average.spent.toFixed(1)}.`;
  const points = (100 * average.price).toPrecision(2);
  return (
    `${whose} may cost ${plural(average.asked, "generation")} on average; the budget is what one` +
    ` may.${spent} One more must add ${Number(points)} points of accuracy now.`
  );
}

/** What each search would cost and reach on this problem, and which was chosen; null if unknown. */
export function onCurve({ strategy, considered }) {
  const known = considered
    .filter((one) => one.expected_cost != null && one.expected_accuracy != null)
    .map((one) => ({ x: one.expected_cost, y: one.expected_accuracy, one }));
  const chosen = known.find(({ one }) => one.strategy === strategy);
  const best = frontier(known);
  if (!chosen || best.length < 2) return null;
  const { width, height, left, right, top, bottom } = SIZE;
  const most = Math.max(...known.map(({ x }) => x));
  const [low, high] = bounds([...best, chosen].map(({ y }) => y));
  const x = (cost) => left + ((width - left - right) * Math.log2(cost)) / Math.log2(most);
  const y = (accuracy) => top + ((height - top - bottom) * (high - accuracy)) / (high - low);
  const line = best
    .map((at, i) => `${i ? "L" : "M"}${x(at.x).toFixed(1)} ${y(at.y).toFixed(1)}`)
    .join("");
  const words =
    `${percent(chosen.y)} expected at ${chosen.x.toFixed(1)} generations on average;` +
    ` ${percent(best.at(-1).y)} at most, at ${best.at(-1).x.toFixed(1)}`;
  return h(
    "figure",
    { class: "on-curve" },
    h("figcaption", {}, "What generations buy on this problem"),
    svg(
      "svg",
      { viewBox: `0 0 ${width} ${height}`, class: "chart", role: "img", "aria-label": words },
      [low, high].flatMap((a) => [
        svg("line", { class: "grid", x1: left, x2: width - right, y1: y(a), y2: y(a) }),
        svg("text", { class: "tick end", x: left - 6, y: y(a) + 3.5 }, percent(a)),
      ]),
      powers(most).map((n) =>
        svg("text", { class: "tick middle", x: x(n), y: height - 8 }, String(n)),
      ),
      svg("path", { class: "curve", d: line }),
      svg("circle", { class: "held-out", cx: x(chosen.x), cy: y(chosen.y), r: 4 }),
    ),
    h("p", { class: "hint" }, `${words}.`),
  );
}

/** Those that nothing cheaper equals, the cheapest first. */
function frontier(points) {
  const rising = points.toSorted((a, b) => a.x - b.x || b.y - a.y);
  let best = -1;
  return rising.filter(({ y }) => y > best && ((best = y), true));
}

/** A range around some accuracies, of at least ten points, in whole tens. */
function bounds(values) {
  const low = Math.floor(10 * Math.min(...values)) / 10;
  return [low, Math.max(low + 0.1, Math.ceil(10 * Math.max(...values)) / 10)];
}

function powers(most) {
  return Array.from({ length: Math.floor(Math.log2(most)) + 1 }, (_, i) => 2 ** i);
}
