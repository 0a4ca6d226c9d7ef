// The form: the problem, one search or two, and what they may take.

import { held } from "./average.js";
import { h } from "./dom.js";
import { markdown } from "./markdown.js";
import { FIRST, PROBLEMS } from "./problems.js";
import { Settings } from "./settings.js";
import { copyButton, toFragment } from "./share.js";
import { LETTERS } from "./versus.js";

const $ = (id) => document.getElementById(id);

export class Ask {
  /** `onStart` is called when a search is asked for. */
  constructor(onStart) {
    this.form = $("ask");
    this.settings = [new Settings(1), new Settings(2)];
    for (const [index, { root }] of this.settings.entries()) {
      root.dataset.letter = LETTERS[index];
      $("searches").append(root);
    }
    this.compare(false);
    this.examples(onStart);
    $("problem").addEventListener("input", () => {
      $("example").value = "";
      this.preview();
    });
    $("compare").addEventListener("click", () => this.compare(!this.comparing));
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      onStart();
    });
    this.form.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) this.form.requestSubmit();
    });
    const link = copyButton("Copy link", () =>
      new URL(toFragment(this.read()), location.href.split("#")[0]).href,
    );
    link.title = "A link that opens this page with this problem and these settings";
    $("stop").after(link);
  }

  examples(onStart) {
    const example = $("example");
    example.append(
      h("option", { value: "" }, "Examples"),
      ...PROBLEMS.map(([name], index) => h("option", { value: index }, name)),
    );
    const take = (text) => {
      $("problem").value = text;
      this.preview();
    };
    example.addEventListener("change", () => {
      if (example.value !== "") take(PROBLEMS[example.value][1]);
    });
    $("first").append(
      ...FIRST.map((index) => {
        const [name, text] = PROBLEMS[index];
        const start = () => {
          take(text);
          onStart();
        };
        return h(
          "button",
          { type: "button", class: "example", onclick: start },
          h("strong", {}, name),
          h("span", {}, markdown(text)),
        );
      }),
    );
  }

  /** Take over what the service and the key allow. */
  limit(limits) {
    for (const settings of this.settings) settings.limit(limits);
    $("average").textContent = held(limits.average);
    $("task").replaceChildren(
      ...limits.tasks.map((task) => h("option", { value: task === "maths" ? "" : task }, task)),
    );
    $("deadline").max = limits.deadline.most;
    $("deadline").placeholder = limits.deadline.default;
  }

  /** Show the problem as it will be read, once it has mathematics in it. */
  preview() {
    const rendered = markdown($("problem").value);
    $("preview").hidden = !rendered.querySelector(".katex");
    $("preview").replaceChildren(rendered);
  }

  get comparing() {
    return $("compare").getAttribute("aria-pressed") === "true";
  }

  /** Ask for one search or two. */
  compare(on) {
    $("compare").setAttribute("aria-pressed", on);
    this.settings[1].root.hidden = !on;
    this.form.classList.toggle("two", on);
    $("start").textContent = on ? "Solve both" : "Solve";
    if (on) this.contrast();
  }

  /** Let the second search differ from the first. */
  contrast() {
    const { budget, strategy } = this.settings[0].value;
    const texts = this.settings[0].possible().map((offer) => offer.strategy);
    const other = ["beam_search", "best_of_n(select=majority)", "auto"].find(
      (text) => text !== strategy && texts.includes(text),
    );
    this.settings[1].value = { budget, strategy: other ?? strategy };
  }

  /** What is asked for: `{problem, searches, task, deadline}`. */
  read() {
    const asked = this.comparing ? this.settings : this.settings.slice(0, 1);
    return {
      problem: $("problem").value,
      searches: asked.map(({ value }) => value),
      task: $("task").value || null,
      deadline: Number($("deadline").value) || null,
    };
  }

  /** Fill the form with what was asked for before. */
  fill({ problem, searches, task, deadline }) {
    $("problem").value = problem;
    $("example").value = "";
    this.preview();
    this.compare(searches.length > 1);
    for (const [index, search] of searches.entries()) this.settings[index].value = search;
    $("task").value = task ?? "";
    $("deadline").value = deadline ?? "";
  }
}
