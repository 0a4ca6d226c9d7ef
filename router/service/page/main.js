// The page: two views, a theme, and the key that a guarded service asks for.

import { ApiError, hasKey, models, setKey } from "./api.js";
import { SolveView } from "./solve.js";
import { TableView } from "./table.js";

const $ = (id) => document.getElementById(id);
const TRY_AGAIN = 2000; // milliseconds until a service that is not ready is asked again
const views = { solve: $("solve"), table: $("table") };

const session = {
  model: null,
  /** Run `work`; where the service wants a key, ask for one and try again. */
  async guarded(work) {
    for (;;) {
      try {
        return await work();
      } catch (error) {
        if (!(error instanceof ApiError) || error.status !== 401 || !(await askForKey()))
          throw error;
      }
    }
  },
};

const table = new TableView(views.table, session);
new SolveView(session);

function askForKey() {
  const dialog = $("key-dialog");
  dialog.returnValue = "";
  $("key-error").textContent = hasKey() ? "The service does not know this key." : "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener(
      "close",
      () => {
        const given = dialog.returnValue === "save";
        if (given) setKey($("key").value);
        $("key").value = "";
        resolve(given);
      },
      { once: true },
    );
  });
}

function route() {
  const name = location.hash.slice(1) === "table" ? "table" : "solve";
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

async function nameModel() {
  try {
    const { data } = await session.guarded(models);
    session.model = data[0].id;
    $("model").textContent = session.model;
  } catch (error) {
    const loading = error.status === 503;
    $("model").textContent = loading ? "the model is loading" : "no model";
    if (loading) setTimeout(nameModel, TRY_AGAIN);
    else $("error").textContent = error.message;
  }
}

addEventListener("hashchange", route);
route();
themeButton();
nameModel();
