// The page: two views, a theme, and the key that a guarded service asks for.

import { ApiError, hasKey, keyTrouble, limits, setKey } from "./api.js";
import { SolveView } from "./solve.js";
import { TableView } from "./table.js";
import { explainTerms } from "./terms.js";
import { trouble } from "./troubles.js";

const $ = (id) => document.getElementById(id);
const TRY_AGAIN = 2000; // milliseconds until a service that is not ready is asked again
const views = { solve: $("solve"), table: $("table") };

const session = {
  limits: null,
  asking: null,
  /** The model's name. */
  async model() {
    this.limits ??= await limits();
    return this.limits.model;
  },
  /** Run `work`; where the service wants a key, ask for one and try again. */
  async guarded(work) {
    for (;;) {
      try {
        return await work();
      } catch (error) {
        if (!(error instanceof ApiError) || error.status !== 401 || !(await this.askForKey()))
          throw error;
      }
    }
  },
  /** Ask for a key once, however many requests wait for it; whether one was given. */
  askForKey() {
    $("key-error").textContent = hasKey() ? "The service does not know this key." : "";
    this.asking ??= keyFromDialog().finally(() => (this.asking = null));
    return this.asking;
  },
  /** An average moves with what is spent: ask again how it stands. */
  refresh() {
    if (this.limits?.average) learnLimits();
  },
  /** Let the key be changed or forgotten; whether another was given. */
  async changeKey() {
    $("key-error").textContent = "";
    this.asking ??= keyFromDialog().finally(() => (this.asking = null));
    if (!(await this.asking)) return false;
    this.limits = null;
    await learnLimits();
    return true;
  },
};

explainTerms($("term"));
const table = new TableView(views.table, session);
const solving = new SolveView(session);

function keyFromDialog() {
  const dialog = $("key-dialog");
  dialog.returnValue = "";
  $("forget").hidden = !hasKey();
  $("change-key").hidden = false;
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener(
      "close",
      () => {
        const act = dialog.returnValue;
        if (act === "save") setKey($("key").value.trim());
        if (act === "forget") setKey(null);
        $("key").value = "";
        resolve(act === "save");
      },
      { once: true },
    );
  });
}

function keyDialog() {
  $("key-dialog").querySelector("form").addEventListener("submit", (event) => {
    if (event.submitter?.value !== "save") return;
    const wrong = keyTrouble($("key").value.trim());
    if (!wrong) return;
    event.preventDefault(); // the dialog stays, and the key is not kept
    $("key-error").textContent = wrong;
  });
  $("change-key").addEventListener("click", () => session.changeKey());
}

function route() {
  const name = /^#table\b/.test(location.hash) ? "table" : "solve";
  for (const [key, view] of Object.entries(views)) view.hidden = key !== name;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.dataset.view === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (name === "table") table.open();
}

function themeButton() {
  const root = document.documentElement;
  const button = $("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ?? (system.matches ? "dark" : "light")) === "dark";
  const show = () => button.setAttribute("aria-pressed", isDark());
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    try {
      localStorage.setItem("router.theme", root.dataset.theme);
    } catch {
      // Storage is blocked: the choice holds until the page is left.
    }
    show();
  });
  system.addEventListener("change", show);
  show();
}

/** Ask what may be asked for; again, while the service is not ready. */
async function learnLimits() {
  try {
    session.limits = await session.guarded(limits);
    $("model").textContent = session.limits.model;
    $("change-key").hidden = !session.limits.keys;
    $("error").textContent = "";
    solving.limit(session.limits);
  } catch (error) {
    const loading = error.status === 503;
    const { title, text } = trouble(error);
    $("model").textContent = loading ? "the model is loading" : "no model";
    $("error").textContent = loading ? "" : `${title}. ${text}`;
    if (loading) setTimeout(learnLimits, TRY_AGAIN);
  }
}

addEventListener("hashchange", route);
route();
themeButton();
keyDialog();
learnLimits();
