// The view that solves: a form, and a lane for each search that it asks for.

import { Ask } from "./ask.js";
import { h } from "./dom.js";
import { History } from "./history.js";
import { Lane } from "./lane.js";
import { fromFragment, toFragment } from "./share.js";
import { LETTERS, spoken, versus } from "./versus.js";

const $ = (id) => document.getElementById(id);
const NARROW = matchMedia("(max-width: 960px)"); // one column, as in solve.css
const SAY_EVERY = 4000; // milliseconds between two reports to a screen reader

export class SolveView {
  constructor(session) {
    this.session = session;
    this.root = $("solve");
    this.lanes = [];
    this.ask = new Ask(() => this.start());
    this.history = new History($("history"), (request) => this.restore(request));
    $("stop").addEventListener("click", () => this.lanes.forEach((lane) => lane.stop()));
    this.open();
    addEventListener("hashchange", () => this.open());
  }

  /** Take over what the service and the key allow. */
  limit(limits) {
    this.ask.limit(limits);
    this.open();
  }

  /** Fill the form as a link says. */
  open() {
    const request = fromFragment(location.hash);
    if (request && this.root.dataset.phase !== "searching") this.ask.fill(request);
  }

  restore(request) {
    this.ask.fill(request);
    $("problem").focus();
    $("ask").scrollIntoView({ block: "nearest" });
  }

  async start() {
    if (this.root.dataset.phase === "searching" || !$("ask").reportValidity()) return;
    const request = this.ask.read();
    const { searches, ...common } = request;
    window.history.replaceState(null, "", toFragment(request));
    this.lanes = searches.map(() => new Lane(this.session, () => this.changed()));
    if (searches.length > 1) this.name();
    $("lanes").replaceChildren(...this.lanes.map(({ root }) => root));
    $("versus").hidden = searches.length < 2;
    this.root.classList.toggle("side", searches.length > 1);
    this.said = 0;
    this.enter("searching");
    if (NARROW.matches) $("stage").scrollIntoView();
    await Promise.all(
      this.lanes.map((lane, index) =>
        lane.run({ ...common, ...searches[index] }, (offer) => this.wayOut(offer, index)),
      ),
    );
    const phases = new Set(this.lanes.map(({ phase }) => phase));
    this.enter(["done", "stopped", "failed"].find((phase) => phases.has(phase)));
    this.changed();
    this.session.refresh();
    if (phases.has("done"))
      this.history.add(request, this.lanes.map(({ solution }) => solution?.answer ?? null));
  }

  /** Letters for searches that stand side by side. */
  name() {
    for (const [index, { root }] of this.lanes.entries()) {
      const heading = root.querySelector(".lane-title");
      heading.hidden = false;
      heading.replaceChildren(h("b", { class: "letter" }, LETTERS[index]), h("span"));
    }
  }

  /** A button that leads out of a trouble. */
  wayOut(offer, index) {
    const { budget } = this.session.limits ?? {};
    const act = {
      again: ["Try again", () => this.start()],
      key: ["Change the key", async () => (await this.session.changeKey()) && this.start()],
      smaller: [
        `Search with ${budget?.most}`,
        () => {
          const settings = this.ask.settings[index];
          settings.value = { ...settings.value, budget: budget.most };
          this.start();
        },
      ],
    };
    const [label, onclick] = act[offer];
    return h("button", { type: "button", onclick }, label);
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

  /** A search has news: compare, and tell a screen reader now and then. */
  changed() {
    const two = this.lanes.length > 1;
    const verdict = two ? versus($("versus"), this.lanes) : "";
    if (two)
      for (const lane of this.lanes)
        lane.root.querySelector(".lane-title span").textContent = lane.title;
    const now = Date.now();
    const running = this.lanes.some(({ phase }) => phase === "searching");
    if (running && now - this.said <= SAY_EVERY) return;
    this.said = now;
    const text = two ? `${running ? "" : verdict} ${spoken(this.lanes)}` : this.lanes[0].summary();
    if ($("live").textContent !== text) $("live").textContent = text;
  }
}
