// Forecast: the rest of a series given its beginning, as bands of draws beside what came.

import * as api from "../api.js";
import { chart } from "../chart.js";
import { button, error, h, number, repeat, say, select, short, slider } from "../ui.js";
import { ownFile, work } from "./common.js";

export const title = "Forecast";
export const fits = (run) => run?.ready && run.past.length > 0 && !api.recorded;

const MOST = 6; // channels that are drawn

export function open(main, { run, memory }) {
  const saved = memory.values, said = error(), again = repeat(), plots = h("div", { class: "many" }), note = h("p", { class: "facts", role: "status" });
  const keep = (name) => (value) => { memory.set(name, value); go(); };
  const item = number("Series of the data", { min: 0, max: 1e9, value: saved.item ?? 0, onChange: keep("item") });
  const [least, most] = run.past;
  const past = least === most ? null : slider("Places that are given", { min: least, max: most, step: 1, value: saved.past ?? Math.round(0.75 * most), onChange: keep("past") });
  const draws = slider("Draws", { min: 10, max: 200, step: 10, value: saved.draws ?? 60, onChange: keep("draws") });
  const steps = slider("Steps", { min: 1, max: 100, step: 1, value: saved.steps ?? run.steps, onChange: keep("steps") });
  const seed = number("Seed", { min: 0, max: 999999, value: saved.seed ?? 0, onChange: keep("seed") });
  const label = run.classes.length ? select("Class", [[-1, "none"], ...run.classes.map((name, i) => [i, name])], saved.label ?? -1, keep("label")) : null;
  let own = "", begun = null, result = null;
  const [choose, file] = ownFile("Foretell a file", ".npy", run, said, (answer) => { own = answer.upload; back.hidden = false; item.set(0); go(); });
  const back = button("The run's data", () => { own = ""; back.hidden = true; go(); }, "small");
  back.hidden = true;

  function plot() {
    if (!begun) return;
    const { channels, length, past: known } = begun, truth = api.doubles(begun.truth);
    const bands = result ? api.doubles(result.bands) : null, paths = result ? api.doubles(result.paths) : null;
    const all = (from) => Array.from({ length: length - from }, (_, i) => i + from);
    const figures = [];
    for (let c = 0; c < Math.min(channels, MOST); c++) {
      const row = (values, k) => Array.from(values.slice((k * channels + c) * length, (k * channels + c + 1) * length));
      const whole = row(truth, 0), x = all(known), rest = (values) => values.slice(known);
      const series = [{ name: "what came", x: all(0), y: whole, colour: 1 }];
      if (bands) {
        const [low, lower, middle, upper, high] = [0, 1, 2, 3, 4].map((k) => rest(row(bands, k)));
        series.unshift({ name: "90 % of draws", x, y: middle, low, high, colour: 0, kind: "faint" }, { name: "median, and 50 %", x, y: middle, low: lower, high: upper, colour: 0 });
        for (let k = 0; k < result.drawn; k++) series.push({ name: k ? "" : `${result.drawn} draws`, x, y: rest(row(paths, k)), kind: "faint", colour: 4 });
      }
      const made = chart({ label: `Channel ${c + 1}: ${known} places given, ${length - known} foretold`, series, xName: "place", ratio: 0.5 });
      made.mark(known - 0.5);
      figures.push(h("figure", {}, h("figcaption", {}, h("b", {}, channels > 1 ? `Channel ${c + 1}` : "Forecast"), begun.what), made.element));
    }
    plots.replaceChildren(...figures);
  }
  const jobs = work("forecast", memory, api, (event) => {
    if (event.type === "begin") { begun = event; result = null; said.set(""); note.textContent = ""; again.set(event); plot(); say("Sampling"); }
    else if (event.type === "progress") note.textContent = `${Math.round((100 * event.done) / event.total)} %`;
    else if (event.type === "result") {
      result = event;
      plot();
      note.replaceChildren(h("span", {}, "of what came, within the 90 % band ", h("b", {}, `${short(100 * event.within)} %`)), h("span", {}, "mean distance from the median ", h("b", {}, short(event.error))), begun.channels > MOST ? h("span", {}, `the first ${MOST} of ${begun.channels} channels are drawn`) : "");
    } else if (event.type === "end") say("Foretold");
    else if (event.type === "error") { note.textContent = ""; said.set(event.message); }
  }, (words) => said.set(words));
  function go() {
    said.set("");
    const ask = { run: run.id, item: item.value, draws: draws.value, steps: steps.value, seed: seed.value };
    if (past) ask.past = past.value;
    if (label) ask.label = Number(label.value);
    if (own) ask.upload = own;
    jobs.begin(ask);
  }
  const next = button("Next series", () => { item.set(item.value + 1); memory.set("item", item.value); go(); });
  main.append(
    h("section", { class: "stage", "aria-label": "Forecast" }, said.element, plots, note),
    h("section", { class: "controls", "aria-label": "Choices" }, h("h2", {}, "Forecast"), h("p", {}, "The run sees the beginning of a series and draws the rest, many times. Where the bands are wide it is not sure."),
      ...[item, past, draws, steps, label, seed].filter(Boolean).map((one) => one.element), h("div", { class: "row" }, button("Foretell", go, "main"), next, button("Stop", () => jobs.stop())), h("div", { class: "row" }, choose, file, back)),
    h("section", { class: "more", "aria-label": "More" }, again.element),
  );
  if (!jobs.resume(go)) go();
  return { redraw: plot, close: () => jobs.stop() };
}
