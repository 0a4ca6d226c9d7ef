// The view that solves: the form, and what the stream of a search puts on the page.

import { ApiError, models, solve } from "./api.js";
import { showDecision } from "./decision.js";
import { h } from "./dom.js";
import { count, plural } from "./format.js";
import { typeset } from "./math.js";
import { Outcome } from "./outcome.js";
import { PROBLEMS } from "./problems.js";
import { Reader, legend } from "./reader.js";
import { Tree } from "./tree.js";
import { TreeView } from "./tree-view.js";

const $ = (id) => document.getElementById(id);
const DRAW_EVERY = 60; // milliseconds between two drawings of the growing tree
const NARROW = matchMedia("(max-width: 960px)"); // one column, as in solve.css
const SAY_EVERY = 4000; // between two reports to a screen reader

export class SolveView {
  constructor(session) {
    this.session = session;
    this.root = $("solve");
    this.tree = new Tree();
    this.outcome = new Outcome();
    this.reader = new Reader($("reader"), (node) => this.view.select(node));
    this.view = new TreeView($("frame"), (node) => this.reader.show(node));
    $("legend").append(...legend());
    this.wire();
  }

  wire() {
    const [form, problem, example, budget, dial] = [
      "ask",
      "problem",
      "example",
      "budget",
      "dial",
    ].map($);
    example.append(
      h("option", { value: "" }, "Examples"),
      ...PROBLEMS.map(([name], index) => h("option", { value: index }, name)),
    );
    example.addEventListener("change", () => {
      if (example.value === "") return;
      problem.value = PROBLEMS[example.value][1];
      this.preview();
    });
    problem.addEventListener("input", () => {
      example.value = "";
      this.preview();
    });
    dial.addEventListener("input", () => (budget.value = 2 ** dial.value));
    budget.addEventListener("input", () => (dial.value = Math.round(Math.log2(budget.value || 1))));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.start();
    });
    form.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
    });
    $("stop").addEventListener("click", () => this.abort?.abort());
    $("search").addEventListener("click", ({ target }) => {
      const act = {
        in: () => this.view.zoomIn(),
        out: () => this.view.zoomOut(),
        fit: () => this.view.fit(),
      };
      act[target.dataset.zoom]?.();
    });
  }

  /** Show the problem as it will be read, once it has mathematics in it. */
  preview() {
    const rendered = typeset($("problem").value);
    $("preview").hidden = !rendered.querySelector(".katex");
    $("preview").replaceChildren(rendered);
  }

  async start() {
    if (this.abort) return;
    this.abort = new AbortController();
    const ask = {
      problem: $("problem").value,
      budget: Number($("budget").value),
      strategy: $("strategy").value,
    };
    this.reset(ask);
    try {
      await this.session.guarded(() => this.follow(ask));
      this.enter("done");
    } catch (error) {
      this.fail(error);
    } finally {
      this.draw();
      this.outcome.stop();
      this.abort = null;
    }
  }

  async follow(ask) {
    this.session.model ??= (await models()).data[0].id;
    for await (const event of solve({ ...ask, model: this.session.model }, this.abort.signal)) {
      switch (event.event) {
        case "decision":
          showDecision($("decision").querySelector(".body"), event.decision);
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
      this.report();
    }
  }

  reset(ask) {
    this.enter("searching");
    $("error").textContent = "";
    $("decision")
      .querySelector(".body")
      .replaceChildren(h("p", { class: "hint" }, "Reading the problem …"));
    this.tree = new Tree();
    this.view.clear();
    this.reader.clear(ask.problem);
    this.outcome.start(ask.budget);
    this.solution = null;
    this.said = 0;
    $("count").textContent = "";
    $("outcome").scrollIntoView({ block: NARROW.matches ? "start" : "nearest" });
  }

  finish(solution) {
    this.solution = solution;
    this.draw();
    this.outcome.finish(solution);
  }

  /** Show the solution that won. */
  crown(text) {
    const leaf = this.tree.leaf(text);
    if (!leaf) return;
    this.view.crown(leaf);
    this.view.select(leaf);
  }

  fail(error) {
    if (error.name === "AbortError") {
      this.enter("stopped");
      this.outcome.stopped();
      say("Stopped.");
      return;
    }
    this.enter(this.solution ? "done" : "failed");
    const wait = error.retryAfter ? ` (retry in ${plural(error.retryAfter, "second")})` : "";
    $("error").textContent = error.message + wait;
    if (!(error instanceof ApiError)) console.error(error);
  }

  enter(phase) {
    const running = phase === "searching";
    this.root.dataset.phase = phase;
    this.root.setAttribute("aria-busy", running);
    $("stop").hidden = !running;
    $("start").disabled = running;
    // Whoever pressed a button that is gone now stands at the one in its place.
    const gone = [document.body, $("start"), $("stop")].includes(document.activeElement);
    if (gone) $(running ? "stop" : "start").focus({ preventScroll: true });
  }

  drawSoon() {
    this.drawing ??= setTimeout(() => requestAnimationFrame(() => this.draw()), DRAW_EVERY);
  }

  draw() {
    clearTimeout(this.drawing);
    this.drawing = null;
    if (!this.tree.root) return;
    this.view.update(this.tree);
    this.reader.refresh();
    if (!this.solution) {
      this.outcome.spend(this.tree.usage);
      this.outcome.leading(this.tree.finished);
    }
    const left = this.tree.left ? `, ${count(this.tree.left)} more not drawn` : "";
    $("count").textContent = plural(this.tree.nodes.size - 1, "step") + left;
  }

  /** Tell a screen reader how it goes, now and then. */
  report() {
    const now = Date.now();
    if (this.solution) {
      say(this.outcome.summary());
    } else if (now - this.said > SAY_EVERY) {
      this.said = now;
      say(
        `Searching: ${plural(this.tree.nodes.size, "step")}, ${this.tree.finished.length} finished.`,
      );
    }
  }
}

function say(text) {
  const live = $("live");
  if (live.textContent !== text) live.textContent = text;
}
