// Two searches for one problem, compared.

import { h, replace } from "./dom.js";
import { DASH, compact, count, seconds } from "./format.js";
import { answer as typesetAnswer } from "./math.js";

export const LETTERS = ["A", "B"];

/** Fill `root` with both searches, figure by figure, and what they come to; returns that sentence. */
export function versus(root, lanes) {
  const said = verdict(lanes);
  const rows = [
    ["answer", (lane) => found(lane)],
    ["agreement", (lane) => agreement(lane)],
    ["generations", (lane) => count(spent(lane).generations)],
    ["tokens written", (lane) => count(spent(lane).sampled_tokens)],
    ["FLOPs", (lane) => compact(spent(lane).flops)],
    ["time", (lane) => (lane.solution ? seconds(lane.solution.usage.seconds) : DASH)],
  ];
  replace(
    root,
    h("p", { class: "verdict" }, said),
    h(
      "table",
      {},
      h(
        "tr",
        {},
        h("td"),
        rows.map(([name]) => h("th", { scope: "col" }, name)),
      ),
      lanes.map((lane, index) =>
        h(
          "tr",
          {},
          h("th", { scope: "row" }, h("b", { class: "letter" }, LETTERS[index]), ` ${lane.title}`),
          rows.map(([name, read]) => h("td", { "data-name": name }, read(lane))),
        ),
      ),
    ),
  );
  return said;
}

const spent = (lane) => lane.solution?.usage ?? lane.tree.usage;

function found(lane) {
  if (lane.solution) {
    return lane.solution.answer == null ? "none" : typesetAnswer(lane.solution.answer);
  }
  return { failed: "failed", stopped: "stopped" }[lane.phase] ?? "…";
}

function agreement({ solution, tree }) {
  if (!solution) return `${tree.finished.length} finished`;
  const { votes, candidates } = solution;
  return votes.length ? `${votes[0].count} of ${candidates.length}` : DASH;
}

function verdict(lanes) {
  const [a, b] = lanes;
  if (lanes.some(({ phase }) => phase === "searching")) {
    const ready = lanes.findIndex(({ solution }) => solution);
    return ready < 0 ? "Both are searching." : `${LETTERS[ready]} has answered, the other searches on.`;
  }
  if (!a.solution || !b.solution) return "There is nothing to compare: not both have answered.";
  return `${answers(a.solution.answer, b.solution.answer)} ${cost(a.solution.usage, b.solution.usage)}`;
}

function answers(a, b) {
  if (a === b) return a == null ? "Neither states an answer." : `Both answer ${a}.`;
  const said = (answer) => (answer == null ? "states none" : `answers ${answer}`);
  return `They differ: A ${said(a)}, B ${said(b)}.`;
}

/** How their spending compares: by FLOPs, the verifier's included, where they are known. */
function cost(a, b) {
  const known = (unit) => a[unit] && b[unit];
  const unit = ["flops", "sampled_tokens", "generations"].find(known);
  if (!unit) return "";
  const ratio = a[unit] / b[unit];
  if (ratio > 0.95 && ratio < 1.05) return "Both took about the same compute.";
  const [more, times] = ratio > 1 ? ["A", ratio] : ["B", 1 / ratio];
  const what = { flops: "the compute", sampled_tokens: "the tokens", generations: "the generations" };
  return `${more} took ${times.toFixed(1)} times ${what[unit]}.`;
}

/** A sentence for each search, for screen readers. */
export const spoken = (lanes) =>
  lanes.map((lane, index) => `${LETTERS[index]}: ${lane.summary()}`).join(" ");

