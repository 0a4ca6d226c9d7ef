// What comes of a search: the answer, the votes, and what it cost.

import { h, style } from "./dom.js";
import { DASH, compact, count, money, plural, score, seconds } from "./format.js";
import { answer as typesetAnswer } from "./math.js";
import { term } from "./terms.js";

const HOW = { majority: "majority vote", weighted: "weighted vote", best: "best score" };
const LIMIT = {
  generations: "The budget of generations ended the search.",
  tokens: "The cap on tokens ended the search.",
  deadline: "The deadline ended the search.",
  cancelled: "The search was cancelled.",
};
const TICK = 100; // milliseconds between two readings of the clock

export class Outcome {
  /** In a lane's panels. */
  constructor(root) {
    const part = (name) => root.querySelector(`.${name}`);
    this.answer = part("answer");
    this.standing = part("standing");
    this.notes = part("notes");
    this.gauge = part("gauge");
    this.spent = root.querySelector(".spend dl");
    this.votes = root.querySelector(".votes ol");
    this.trouble = part("trouble");
  }

  start(budget) {
    this.budget = budget;
    this.started = performance.now();
    this.usage = { generations: 0, sampled_tokens: 0 };
    this.finished = 0;
    this.state = null;
    this.solution = null;
    this.show("searching", "waiting");
    this.standing.textContent = "";
    this.notes.replaceChildren();
    this.vote([]);
    this.stop();
    this.clock = setInterval(() => this.figures(), TICK);
    this.figures();
  }

  stop() {
    clearInterval(this.clock);
  }

  /** What has been spent so far. */
  spend(usage) {
    this.usage = usage;
    this.figures();
  }

  /** Answers of the solutions that have finished while others still grow. */
  leading(finished) {
    this.finished = finished.length;
    const answers = new Map();
    for (const { answer } of finished) {
      if (answer != null) answers.set(answer, (answers.get(answer) ?? 0) + 1);
    }
    const state = JSON.stringify([...answers, finished.length]);
    if (!answers.size || state === this.state) return;
    this.state = state;
    const votes = [...answers]
      .map(([answer, n]) => ({ answer, count: n }))
      .sort((a, b) => b.count - a.count);
    this.show(typesetAnswer(votes[0].answer), "leading");
    this.standing.textContent =
      `leading with ${votes[0].count} of ${plural(finished.length, "finished solution")}`;
    this.vote(votes);
  }

  finish(solution) {
    this.solution = solution;
    this.usage = solution.usage;
    this.stop();
    this.figures();
    const { answer, votes, candidates, selection } = solution;
    if (answer == null) this.show("no answer", "waiting");
    else this.show(typesetAnswer(answer));
    this.standing.textContent = votes.length
      ? `${votes[0].count} of ${plural(candidates.length, "solution")}, by ${HOW[selection] ?? selection}`
      : `${plural(candidates.length, "solution")}, and none states an answer`;
    const notes = [LIMIT[solution.ended], ...(solution.notes ?? [])].filter(Boolean);
    this.notes.replaceChildren(...notes.map((note) => h("li", {}, note)));
    this.vote(votes, selection);
  }

  stopped() {
    this.stop();
    if (this.answer.classList.contains("waiting")) this.show("stopped", "waiting");
    else this.standing.textContent += ", when it was stopped";
  }

  /** Say what went wrong where the answer would be. `buttons` lead out of it. */
  failed({ title, text }, buttons) {
    this.stop();
    const led = this.standing.textContent;
    this.answer.hidden = true;
    this.trouble.hidden = false;
    this.trouble.replaceChildren(
      h("strong", {}, title),
      h("p", {}, text),
      ...(led ? [h("p", { class: "hint" }, `Until then ${this.answer.textContent} was ${led}.`)] : []),
      h("div", { class: "actions" }, buttons),
    );
    this.standing.textContent = "";
  }

  show(content, kind = "") {
    this.answer.hidden = false;
    this.trouble.hidden = true;
    this.answer.replaceChildren(content);
    this.answer.className = `answer ${kind}`;
  }

  /** The result in one sentence. */
  summary() {
    const { answer, votes, candidates } = this.solution;
    if (answer == null) return "Finished without an answer.";
    return `Answer: ${answer}. ${votes[0].count} of ${plural(candidates.length, "solution")}.`;
  }

  figures() {
    const { generations, sampled_tokens, verifier_tokens, flops, lower_bound } = this.usage;
    const models = Object.entries(this.usage.models ?? {});
    // Of a lower bound more was done, as an engine did not say what some call had done.
    const least = (text) => (lower_bound && text !== DASH ? `at least ${text}` : text);
    const elapsed = this.solution ? this.usage.seconds : (performance.now() - this.started) / 1000;
    const rows = [
      [term("generation", "generations"), `${count(generations)} of ${this.budget}`],
      ...models.map(([name, own]) => [name, plural(own.generations, "sample")]),
      [term("tokens", "tokens written"), least(count(sampled_tokens))],
      ["time", seconds(elapsed)],
    ];
    if (this.solution)
      rows.push(
        [term("judged", "tokens judged"), least(count(verifier_tokens))],
        [term("flops", "FLOPs"), least(compact(flops))],
      );
    if (this.solution && this.usage.money != null) rows.push(["money", least(money(this.usage.money))]);
    this.rows(rows);
    const { gauge } = this;
    gauge.setAttribute("aria-valuemax", this.budget);
    gauge.setAttribute("aria-valuenow", generations);
    const finished = this.solution ? generations : this.finished;
    style(gauge, {
      "--budget": this.budget,
      "--spent": Math.min(1, generations / this.budget),
      "--finished": Math.min(1, finished / this.budget),
    });
  }

  /** Write figures, in place where their names have not changed, so that terms keep the focus. */
  rows(rows) {
    if (this.spent.children.length !== rows.length) {
      this.spent.replaceChildren(
        ...rows.map(([name]) => h("div", {}, h("dt", {}, name), h("dd", {}))),
      );
    }
    for (const [index, [, value]] of rows.entries())
      this.spent.children[index].lastChild.textContent = value;
  }

  /** Bars of votes, by what the selection counts. */
  vote(votes, selection = "majority") {
    const worth = (vote) => ({ weighted: vote.weight, best: vote.best })[selection] ?? vote.count;
    const most = Math.max(...votes.map(worth), Number.EPSILON);
    const shown = votes.slice(0, 8).map((vote, index) =>
      h(
        "li",
        { class: index === 0 && this.solution ? "winner" : null },
        h("span", { class: "name" }, typesetAnswer(vote.answer)),
        h(
          "span",
          { class: "figure" },
          plural(vote.count, "vote"),
          vote.weight == null
            ? null
            : h("span", { class: "hint" }, ` · weight ${score(vote.weight)}`),
        ),
        style(h("span", { class: "bar", "aria-hidden": "true" }), {
          "--share": worth(vote) / most,
        }),
      ),
    );
    const more = votes.length - shown.length;
    if (more > 0) shown.push(h("li", { class: "hint" }, `and ${plural(more, "other answer")}`));
    if (!shown.length)
      shown.push(
        h(
          "li",
          { class: "hint" },
          this.solution ? "No solution states an answer." : "No solution has finished yet.",
        ),
      );
    this.votes.replaceChildren(...shown);
  }
}
