// One search on the page: its answer, why it was chosen, its tree, its votes, and its text.

import { solve } from "./api.js";
import { showDecision } from "./decision.js";
import { count, plural } from "./format.js";
import { Outcome } from "./outcome.js";
import { Reader, legend } from "./reader.js";
import { copyButtons } from "./share.js";
import { Tree } from "./tree.js";
import { TreeView } from "./tree-view.js";
import { trouble } from "./troubles.js";

const DRAW_EVERY = 60; // milliseconds between two drawings of the growing tree

export class Lane {
  /** `session`: the model and the key. `onChange` is told whenever there is news. */
  constructor(session, onChange) {
    this.session = session;
    this.onChange = onChange;
    this.root = document.getElementById("lane").content.firstElementChild.cloneNode(true);
    this.tree = new Tree();
    this.outcome = new Outcome(this.root);
    this.reader = new Reader(this.part("reader"), (node) => this.view.select(node));
    this.view = new TreeView(this.part("frame"), (node) => this.reader.show(node));
    this.part("legend").append(...legend());
    this.part("search").addEventListener("click", ({ target }) => {
      const act = {
        in: () => this.view.zoomIn(),
        out: () => this.view.zoomOut(),
        fit: () => this.view.fit(),
      };
      act[target.dataset.zoom]?.();
    });
  }

  part(name) {
    return this.root.querySelector(`.${name}`);
  }

  get phase() {
    return this.root.dataset.phase;
  }

  /** What the search runs as: what was asked for, until it is decided. */
  get title() {
    return this.decision?.parameters.words ?? `budget ${this.ask.budget}`;
  }

  /**
   * Search for the answer to `ask`, as `solve` in api.js takes it; ends in phase `done`, `stopped`
   * or `failed`. `wayOut` makes the button for what a trouble offers.
   */
  async run(ask, wayOut) {
    this.ask = ask;
    this.abort = new AbortController();
    this.root.dataset.phase = "searching";
    this.reader.clear(ask.problem);
    this.outcome.start(ask.budget);
    try {
      await this.session.guarded(() => this.follow(ask));
      this.enter("done");
    } catch (error) {
      this.fail(error, wayOut);
    } finally {
      this.draw();
      this.outcome.stop();
      this.onChange();
    }
  }

  stop() {
    this.abort.abort();
  }

  async follow(ask) {
    const model = await this.session.model();
    for await (const event of solve({ ...ask, model }, this.abort.signal)) {
      switch (event.event) {
        case "decision":
          this.decision = event.decision;
          this.root.dataset.decided = "";
          showDecision(this.part("decision").querySelector(".body"), event.decision);
          break;
        case "nodes":
          this.tree.merge(event.nodes);
          this.drawSoon();
          break;
        case "solution":
          this.finish(event.solution);
          break;
        case "text":
          this.crown(event.text);
          break;
      }
      this.onChange();
    }
  }

  finish(solution) {
    this.solution = solution;
    this.draw();
    this.outcome.finish(solution);
  }

  /** Show the solution that won. */
  crown(text) {
    this.part("copies").replaceChildren(...copyButtons(this.ask, this.solution, text, this.session));
    const leaf = this.tree.leaf(text);
    if (!leaf) return;
    this.view.crown(leaf);
    this.view.select(leaf);
  }

  fail(error, wayOut) {
    if (error.name === "AbortError") {
      this.enter("stopped");
      this.outcome.stopped();
      return;
    }
    this.enter(this.solution ? "done" : "failed");
    if (this.solution) return;
    this.error = trouble(error, this.session.limits?.budget.most);
    const button = this.error.offer && wayOut(this.error.offer);
    this.outcome.failed(this.error, button ? [button] : []);
    if (!error.status && !error.code) console.error(error);
  }

  enter(phase) {
    this.root.dataset.phase = phase;
  }

  drawSoon() {
    this.drawing ??= setTimeout(() => requestAnimationFrame(() => this.draw()), DRAW_EVERY);
  }

  draw() {
    clearTimeout(this.drawing);
    this.drawing = null;
    if (!this.tree.root) return;
    if (this.tree.nodes.size > 1) this.root.dataset.grown = "";
    this.view.update(this.tree);
    this.reader.refresh();
    if (this.phase === "searching" && !this.solution) {
      this.outcome.spend(this.tree.usage);
      this.outcome.leading(this.tree.finished);
    }
    const left = this.tree.left ? `, ${count(this.tree.left)} more not drawn` : "";
    this.part("count").textContent = plural(this.tree.nodes.size - 1, "step") + left;
  }

  /** How it goes, in one sentence. */
  summary() {
    if (this.phase === "failed") return `${this.error.title}.`;
    if (this.phase === "stopped") return "Stopped.";
    if (this.solution) return this.outcome.summary();
    const { finished, nodes } = this.tree;
    return `Searching: ${plural(nodes.size, "step")}, ${finished.length} finished.`;
  }
}
