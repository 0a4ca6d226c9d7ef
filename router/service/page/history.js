// What was searched in this browser: kept here alone, and forgotten on demand.

import { h } from "./dom.js";
import { shorten } from "./format.js";

const STORE = "router.history";
const MOST = 30;

export class History {
  /** In a `details` element; `onPick` is told of a request to restore. */
  constructor(root, onPick) {
    this.root = root;
    this.onPick = onPick;
    root.querySelector(".clear").addEventListener("click", () => this.save([]));
    this.show(this.load());
  }

  /** Remember a request and its answers, before all others; the same one is kept once. */
  add(request, answers) {
    const { problem, searches } = request;
    const same = JSON.stringify([problem, searches]);
    const others = this.load().filter((e) => JSON.stringify([e.problem, e.searches]) !== same);
    this.save([{ ...request, answers }, ...others].slice(0, MOST));
  }

  load() {
    try {
      const found = JSON.parse(localStorage.getItem(STORE)) ?? [];
      return found.filter((entry) => entry.problem && Array.isArray(entry.searches));
    } catch {
      return []; // storage is blocked, or holds something else
    }
  }

  save(entries) {
    try {
      if (entries.length) localStorage.setItem(STORE, JSON.stringify(entries));
      else localStorage.removeItem(STORE);
    } catch {
      // Storage is blocked or full: the page works without a history.
    }
    this.show(this.load());
  }

  show(entries) {
    this.root.hidden = entries.length === 0;
    this.root.querySelector("summary").textContent = `Earlier in this browser (${entries.length})`;
    this.root.querySelector("ol").replaceChildren(
      ...entries.map((entry) =>
        h(
          "li",
          {},
          h(
            "button",
            { type: "button", class: "entry", onclick: () => this.onPick(entry) },
            h("span", {}, shorten(entry.problem, 80)),
            h("span", { class: "hint" }, about(entry)),
          ),
        ),
      ),
    );
  }
}

function about({ searches, answers = [] }) {
  const parts = searches.map(({ budget }, index) => `${answers[index] ?? "–"} at budget ${budget}`);
  return shorten(parts.join("; "), 60);
}
