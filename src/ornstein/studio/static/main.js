// The page: which view is open, on which run, in light or dark.

import { about, onTrouble, recorded } from "./api.js";
import { button, error, h, memory, say } from "./ui.js";
import * as edit from "./views/edit.js";
import * as forecast from "./views/forecast.js";
import * as guide from "./views/guide.js";
import * as measure from "./views/measure.js";
import * as plane from "./views/plane.js";
import * as race from "./views/race.js";
import * as rows from "./views/rows.js";
import * as watch from "./views/watch.js";

const VIEWS = { watch, race, guide, edit, rows, forecast, plane, measure };
const main = document.getElementById("main"), nav = document.getElementById("views"), tools = document.getElementById("tools");
const chosen = memory("page");
let facts = null, view = null, name = "";

onTrouble((words) => {
  const notice = document.getElementById("notice");
  if (notice.textContent !== words) notice.textContent = words;
});

function theme(kind) {
  const dark = kind === "dark" || (kind === "auto" && matchMedia("(prefers-color-scheme: dark)").matches);
  document.documentElement.dataset.theme = dark ? "dark" : "light";
  view?.redraw?.();
}

function run() {
  return facts.runs.find((one) => one.id === chosen.values.run) ?? facts.runs[0] ?? null;
}

function open() {
  const wanted = location.hash.slice(1);
  const fits = Object.keys(VIEWS).filter((key) => VIEWS[key].fits(run(), facts));
  const next = fits.includes(wanted) ? wanted : fits[0];
  if (fits.join() !== [...nav.children].map((link) => link.hash.slice(1)).join())
    nav.replaceChildren(...fits.map((key) => h("a", { href: `#${key}` }, VIEWS[key].title)));
  for (const link of nav.children)
    if (link.hash.slice(1) === next) {
      link.setAttribute("aria-current", "page");
      nav.scrollLeft = link.offsetLeft - nav.offsetLeft - (nav.clientWidth - link.offsetWidth) / 2;
    } else link.removeAttribute("aria-current");
  view?.close?.();
  name = next;
  main.className = "";
  main.replaceChildren();
  document.title = `${VIEWS[next].title} – Ornstein studio`;
  view = VIEWS[next].open(main, { run: run(), facts, memory: memory(`${next} ${VIEWS[next].shared ? "" : (run()?.name ?? "")}`) });
  say(`${VIEWS[next].title} is open`);
}

async function begin() {
  if (new URLSearchParams(location.search).has("token")) history.replaceState(null, "", location.pathname + location.hash);
  chosen.values.theme ??= "auto";
  theme(chosen.values.theme);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => theme(chosen.values.theme));
  try {
    facts = await about();
  } catch (failure) {
    const said = error();
    said.set(failure.message);
    main.replaceChildren(said.element);
    return;
  }
  const next = { auto: "light", light: "dark", dark: "auto" };
  const colours = button("", () => {
    chosen.set("theme", next[chosen.values.theme]);
    spell();
    theme(chosen.values.theme);
  }, "small");
  const spell = () => {
    colours.textContent = `◐ ${chosen.values.theme}`;
    colours.setAttribute("aria-label", `Theme: ${chosen.values.theme}`);
  };
  spell();
  if (facts.runs.length > 0) {
    const runs = h("select", { "aria-label": "Run" }, facts.runs.map((one) => h("option", { value: one.id }, one.name)));
    runs.value = run().id;
    runs.addEventListener("change", () => {
      chosen.set("run", runs.value);
      open();
    });
    tools.append(runs);
  }
  tools.append(colours);
  addEventListener("hashchange", () => {
    if (location.hash.slice(1) !== name && location.hash !== "#main") open();
  });
  let width = innerWidth;
  addEventListener("resize", () => {
    if (innerWidth !== width) view?.redraw?.();
    width = innerWidth;
  });
  addEventListener("keydown", (event) => {
    if (event.target.closest("input, select, textarea, button, a, [tabindex='0']") || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === " " && view?.player) {
      event.preventDefault();
      view.player.toggle();
    }
    if (event.key === "ArrowLeft" && view?.player) view.player.go(view.player.at - 1);
    if (event.key === "ArrowRight" && view?.player) view.player.go(view.player.at + 1);
  });
  if (recorded) document.documentElement.classList.add("recorded");
  open();
}

begin();
