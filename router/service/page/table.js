// The view of the loaded bundle: what wins at each level and budget, and what choosing gains.

import { table as loadTable } from "./api.js";
import { curves } from "./curves.js";
import { configuration, distinct } from "./decision.js";
import { h, replace } from "./dom.js";
import { count, interval, percent, plural } from "./format.js";
import { term } from "./terms.js";
import { trouble } from "./troubles.js";

export class TableView {
  constructor(root, session) {
    this.root = root;
    this.session = session;
    this.opened = false;
  }

  /** Load the table, the first time that it is looked at. */
  async open() {
    if (this.opened) return;
    this.opened = true;
    this.root.replaceChildren(h("p", { class: "hint" }, "Loading …"));
    try {
      const { table, provenance } = await this.session.guarded(loadTable);
      this.root.replaceChildren(...(table ? this.show(table, provenance) : empty()));
    } catch (error) {
      this.opened = false;
      this.root.replaceChildren(told(trouble(error)));
    }
  }

  show(table, provenance) {
    this.table = table;
    this.detail = h("div", { class: "detail", "aria-live": "polite" });
    this.cells = table.cells.map((cell) => this.cell(cell));
    this.pick(this.cells.length - 1, false);
    return [
      h(
        "section",
        { class: "panel", "aria-labelledby": "map-title" },
        h("h2", { id: "map-title" }, "What wins"),
        h(
          "p",
          { class: "hint" },
          "Accuracy and its 95% ",
          term("interval"),
          " of the best search at each ",
          term("level"),
          " and ",
          term("budget"),
          ` (in ${table.cost}). Choose a cell for all that was measured there.`,
        ),
        h("div", { class: "map-and-detail" }, this.map(), this.detail),
      ),
      h(
        "section",
        { class: "panel", "aria-labelledby": "curves-title" },
        h("h2", { id: "curves-title" }, "What choosing gains"),
        curves(table),
      ),
      provenanceOf(provenance),
    ];
  }

  map() {
    const { budgets, levels } = this.table;
    const head = h(
      "tr",
      { role: "row" },
      h("th", { role: "columnheader" }, "level"),
      budgets.map((b) => h("th", { role: "columnheader", scope: "col" }, count(b))),
    );
    const rows = Array.from({ length: levels }, (_, level) =>
      h(
        "tr",
        { role: "row" },
        h(
          "th",
          { role: "rowheader", scope: "row" },
          level + 1,
          level === 0
            ? h("small", {}, "easy")
            : level === levels - 1
              ? h("small", {}, "hard")
              : null,
        ),
        this.cells.slice(level * budgets.length, (level + 1) * budgets.length),
      ),
    );
    return h(
      "div",
      { class: "scroller" },
      h(
        "table",
        {
          class: "map",
          role: "grid",
          "aria-label": "Winner at each level and budget",
          onkeydown: (event) => this.key(event),
        },
        h("caption", {}, "budget"),
        h("thead", { role: "rowgroup" }, head),
        h("tbody", { role: "rowgroup" }, rows),
      ),
    );
  }

  cell(cell) {
    const { estimate, parameters } = cell.entries[cell.winner];
    const index = this.table.cells.indexOf(cell);
    return h(
      "td",
      {
        role: "gridcell",
        tabindex: -1,
        "data-score": Math.round(10 * estimate.accuracy),
        onclick: () => this.pick(index),
        onfocus: () => this.pick(index, false),
      },
      h("strong", {}, percent(estimate.accuracy)),
      h("small", {}, interval(estimate.low, estimate.high)),
      h("span", { class: "name" }, parameters.words),
    );
  }

  /** Show the ranking of one cell. */
  pick(index, focus = true) {
    const before = this.cells[this.picked];
    before?.setAttribute("tabindex", -1);
    before?.setAttribute("aria-selected", "false");
    this.picked = index;
    this.cells[index].setAttribute("tabindex", 0);
    this.cells[index].setAttribute("aria-selected", "true");
    if (focus) this.cells[index].focus();
    replace(this.detail, ranking(this.table.cells[index]));
  }

  key(event) {
    const width = this.table.budgets.length;
    const column = this.picked % width;
    const steps = {
      ArrowLeft: column > 0 ? -1 : 0,
      ArrowRight: column < width - 1 ? 1 : 0,
      ArrowUp: -width,
      ArrowDown: width,
      Home: -column,
      End: width - 1 - column,
    };
    const by = steps[event.key];
    if (by === undefined) return;
    event.preventDefault();
    if (this.cells[this.picked + by]) this.pick(this.picked + by);
  }
}

function ranking({ level, budget, entries, winner, held_out: heldOut }) {
  const isWinner = (entry) => entry === entries[winner];
  const rows = distinct(entries, isWinner).map((entry) =>
    configuration(
      entry.parameters,
      entry.cost.generations,
      entry.estimate.accuracy,
      [entry.estimate.low, entry.estimate.high],
      isWinner(entry),
    ),
  );
  return [
    h("h3", {}, `Level ${level}, budget ${count(budget)}`),
    h("p", { class: "hint" }, `Measured on ${plural(entries[winner].estimate.problems, "problem")}.`),
    h("ol", { class: "ranking", tabindex: 0, "aria-label": "Ranking" }, rows),
    heldOut &&
      h(
        "p",
        { class: "hint" },
        term("held_out", "On held-out problems"),
        `: ${percent(heldOut.accuracy)} (${interval(heldOut.low, heldOut.high)}).`,
      ),
  ];
}

/** What of a bundle's manifest a reader asks for first. */
const FACTS = [
  ["model", ({ origin }) => origin?.model],
  ["verifier", ({ origin }) => origin?.verifier ?? "none"],
  ["problems", ({ data }) => data?.problems],
  ["samples", ({ data }) => data?.samples],
  ["levels", ({ settings }) => settings?.levels],
  ["prompt", ({ origin }) => origin?.prompt],
  ["temperature", ({ origin }) => origin?.temperature?.toString()],
  ["fitted on", ({ created }) => created?.slice(0, 10)],
  ["commit", ({ commit }) => commit?.slice(0, 12)],
];

function provenanceOf(manifest) {
  const facts = FACTS.map(([name, read]) => [name, read(manifest ?? {})]).filter(
    ([, value]) => value != null,
  );
  return h(
    "section",
    { class: "panel", "aria-labelledby": "origin-title" },
    h("h2", { id: "origin-title" }, "What it was fitted on"),
    h(
      "dl",
      { class: "origin" },
      facts.map(([name, value]) =>
        h(
          "div",
          {},
          h("dt", {}, name),
          h("dd", {}, typeof value === "number" ? count(value) : value),
        ),
      ),
    ),
  );
}

const told = ({ title, text }) => h("p", { class: "error", role: "alert" }, `${title}. ${text}`);

function empty() {
  return [
    h(
      "section",
      { class: "intro", "aria-label": "No table" },
      h("h2", { class: "motto" }, "No table is loaded."),
      h(
        "p",
        {},
        "Until the service knows what pays, it spends the whole budget on one vote. Fit a table to your model and problems, and start it with that bundle:",
      ),
      h("pre", {}, "router fit problems.jsonl --out my-bundle\nrouter serve --bundle my-bundle"),
    ),
  ];
}
