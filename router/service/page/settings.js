// Budget and strategy of one search, within what the service and the key allow.

import { h } from "./dom.js";
import { count, plural } from "./format.js";
import { meaning } from "./terms.js";

const AUTO = "auto";
const EXPLAINED = { auto: "auto", lookahead: "lookahead_search" }; // names of terms, where others

export class Settings {
  /** `number`: 1 or 2, as there may be two on the page. */
  constructor(number) {
    this.root = document.getElementById("settings").content.firstElementChild.cloneNode(true);
    const suffix = number === 1 ? "" : `-${number}`;
    for (const name of ["budget", "dial", "strategy"]) {
      this[name] = this.root.querySelector(`.${name}`);
      this[name].id = name + suffix;
      this.root.querySelector(`label[data-for="${name}"]`)?.setAttribute("for", name + suffix);
    }
    this.about = this.root.querySelector(".about");
    this.fields = this.root.querySelector(".fields");
    this.offers = [{ strategy: AUTO, words: "whatever pays", least: 1, fields: {} }];
    this.isOwn = false; // whether the budget was chosen, or is the service's usual one
    this.dial.addEventListener("input", () => {
      this.isOwn = true;
      this.budget.value = Math.min(2 ** this.dial.value, this.budget.max || Infinity);
      this.follow();
    });
    this.budget.addEventListener("input", () => {
      this.isOwn = true;
      this.follow();
    });
    this.strategy.addEventListener("change", () => this.explain());
    this.offer();
  }

  /** Take over what may be asked for. */
  limit({ budget, strategies }) {
    this.budget.max = budget.most;
    this.dial.max = Math.ceil(Math.log2(budget.most));
    if (!this.isOwn || this.budget.value > budget.most) this.budget.value = budget.default;
    this.offers = strategies;
    this.follow();
  }

  get value() {
    return { budget: Number(this.budget.value), strategy: this.text() };
  }

  set value({ budget, strategy }) {
    this.isOwn = true;
    this.budget.value = budget;
    this.follow();
    const [name, given] = parsed(strategy);
    const offer = this.possible().find(
      (one) => one.strategy === strategy || this.holds(one, name, given),
    );
    if (!offer) this.strategy.append(h("option", { value: strategy }, strategy));
    this.strategy.value = offer?.strategy ?? strategy;
    this.explain();
    for (const [field, value] of Object.entries(given)) {
      const input = this.fields.querySelector(`[data-field="${field}"]`);
      if (input) input.value = value;
    }
  }

  /** Whether a strategy can be written as an offer with some of its fields. */
  holds(offer, name, given) {
    const [own, fixed] = parsed(offer.strategy);
    const isFixed = Object.entries(fixed).every(([field, value]) => given[field] === value);
    return own === name && isFixed && Object.keys(given).every((field) => field in offer.fields);
  }

  /** The budget has changed: move the dial, and offer what can run now. */
  follow() {
    this.dial.value = Math.ceil(Math.log2(this.budget.value || 1));
    this.dial.setAttribute("aria-valuetext", plural(Number(this.budget.value), "generation"));
    this.offer();
  }

  possible() {
    const budget = Number(this.budget.value) || 1;
    return this.offers.filter(({ least }) => least <= budget);
  }

  offer() {
    const chosen = this.strategy.value || AUTO;
    const possible = this.possible();
    this.strategy.replaceChildren(
      ...possible.map(({ strategy, words }) =>
        h("option", { value: strategy }, strategy === AUTO ? `auto: ${words}` : words),
      ),
    );
    const kept = possible.some(({ strategy }) => strategy === chosen);
    this.strategy.value = kept ? chosen : (possible[0]?.strategy ?? AUTO);
    const lost = !kept && this.offers.find(({ strategy }) => strategy === chosen);
    if (!kept || !this.about.textContent) this.explain();
    if (lost)
      this.about.textContent = `${lost.words} needs a budget of ${count(lost.least)} at least.`;
  }

  /** Say what the strategy does, and show its parameters. */
  explain() {
    const [name] = parsed(this.strategy.value);
    this.about.textContent = meaning(EXPLAINED[name] ?? name) ?? "";
    const offer = this.offers.find(({ strategy }) => strategy === this.strategy.value);
    const [, fixed] = parsed(this.strategy.value);
    const free = Object.entries(offer?.fields ?? {}).filter(([field]) => !(field in fixed));
    this.fields.hidden = free.length === 0;
    this.fields.querySelector("div").replaceChildren(...free.map(input));
  }

  /** The strategy as the service reads it, with the parameters that were filled in. */
  text() {
    const [name, given] = parsed(this.strategy.value);
    for (const { value, dataset } of this.fields.querySelectorAll("[data-field]"))
      if (value !== "") given[dataset.field] = value;
    const parameters = Object.entries(given).map(([field, value]) => `${field}=${value}`);
    return parameters.length ? `${name}(${parameters.join(", ")})` : name;
  }
}

function input([field, { type, default: usual, choices }]) {
  const attributes = { "data-field": field };
  const control = choices
    ? h(
        "select",
        attributes,
        h("option", { value: "" }, usual ?? "usual"),
        choices.filter((choice) => choice !== usual).map((choice) => h("option", {}, choice)),
      )
    : h("input", {
        ...attributes,
        type: type === "str" ? "text" : "number",
        step: type === "int" ? 1 : "any",
        placeholder: usual ?? "usual",
      });
  return h("label", {}, h("span", {}, field.replaceAll("_", " ")), control);
}

/** `name(a=1, b=2)` as its name and its parameters. */
function parsed(strategy) {
  const [, name, inside = ""] = /^([^(]*)(?:\((.*)\))?$/s.exec(strategy) ?? [null, strategy];
  const pairs = inside.split(",").map((pair) => pair.split("=").map((part) => part.trim()));
  return [name.trim(), Object.fromEntries(pairs.filter(([field, value]) => field && value))];
}
