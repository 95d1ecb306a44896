// Table: histograms of each number, and pairs, of samples over data: the run's own, or a file of the user's.

import * as api from "../api.js";
import { chart } from "../chart.js";
import * as draw from "../draw.js";
import { button, error, figure, h, repeat, savePNG, say, select, short } from "../ui.js";
import { ownFile, sampling, work } from "./common.js";

export const title = "Table";
export const fits = (run) => run?.ready && !run.drawn && !api.recorded;

const BINS = 32, MOST = 16;

export function open(main, { run, memory }) {
  const said = error(), without = h("p", { class: "lead" }), again = repeat(), note = h("p", { class: "facts" }), plots = h("div", { class: "many" }), canvas = h("canvas", { role: "img" });
  const pair = figure("A pair of numbers", canvas);
  const controls = sampling(run, memory, () => {}, { count: 1000 });
  const names = Array.from({ length: run.item[0] ?? 1 }, (_, i) => [i, run.columns[i] ?? `number ${i + 1}`]);
  const across = select("Across", names, memory.values.across ?? 0, (v) => { memory.set("across", v); paint(); });
  const up = select("Up", names, memory.values.up ?? Math.min(1, names.length - 1), (v) => { memory.set("up", v); paint(); });
  const [choose, file] = ownFile("Compare with a file", run.columns.length ? ".csv,.npy" : ".npy", run, said, (answer) => { own = answer.upload; back.hidden = false; go(); });
  const back = button("Compare with the run's data", () => { own = ""; back.hidden = true; go(); }, "small");
  back.hidden = true;
  let dims = names.length, made = null, real = null, what = "data", own = "";

  const column = (rows, j) => { const values = []; for (let i = j; i < rows.length; i += dims) values.push(rows[i]); return values; };
  const limits = (...columns) => {
    const all = columns.flat().filter(Number.isFinite).sort((a, b) => a - b), low = all[Math.floor(all.length * 0.002)], high = all[Math.ceil(all.length * 0.998) - 1];
    const pad = (high - low || 1) * 0.08;
    return [low - pad, high + pad];
  };
  function histogram(values, [low, high]) {
    const bins = new Array(BINS).fill(0);
    for (const v of values) { const k = Math.floor(((v - low) / (high - low)) * BINS); if (k >= 0 && k < BINS) bins[k] += 1 / values.length; }
    const x = [], y = [];
    bins.forEach((n, k) => { x.push(low + (k * (high - low)) / BINS, low + ((k + 1) * (high - low)) / BINS); y.push(n, n); });
    return { x, y };
  }
  // Names of categories in place of their numbers; many are left out under the axis.
  const categories = (j) => run.categories?.[j] ?? [];
  function counted(values, count) {
    const x = [], y = [], shares = new Array(count).fill(0);
    for (const v of values) if (v >= 0 && v < count) shares[v] += 1 / values.length;
    shares.forEach((n, k) => { x.push(k - 0.4, k - 0.4, k + 0.4, k + 0.4); y.push(0, n, n, 0); });
    return { x, y, shares };
  }
  const most = ({ shares }, labels) => { const k = shares.indexOf(Math.max(...shares)); return `${labels[k]} ${short(100 * shares[k])} %`; };
  const there = (values) => values.filter(Number.isFinite);
  const missing = (values) => { const n = values.length - there(values).length; return n ? `, ${n} missing` : ""; };
  const mean = (values) => values.reduce((a, b) => a + b, 0) / values.length;
  const deviation = (values) => { const m = mean(values); return Math.sqrt(mean(values.map((v) => (v - m) ** 2))); };

  function show() {
    plots.replaceChildren(...names.slice(0, MOST).map(([j, name]) => {
      const labels = categories(j);
      if (labels.length) {
        const a = counted(column(made, j), labels.length), b = real ? counted(column(real, j), labels.length) : null, every = Math.ceil(labels.length / 8);
        const series = [{ name: "samples", ...a, colour: 0 }, ...(b ? [{ name: what, ...b, colour: 1 }] : [])];
        const words = `samples: most ${most(a, labels)}${b ? `, ${what}: ${most(b, labels)}` : ""}`;
        const xLabels = labels.map((text, k) => [k, text.length > 10 ? `${text.slice(0, 9)}…` : text]).filter(([k]) => k % every === 0);
        return h("figure", {}, h("figcaption", {}, h("b", {}, name), words), chart({ label: `${name}: ${words}`, series, ratio: 0.5, xLabels }).element);
      }
      const a = column(made, j), b = real ? column(real, j) : [], ends = limits(a, b);
      const series = [{ name: "samples", ...histogram(a, ends), colour: 0 }];
      if (real) series.push({ name: what, ...histogram(b, ends), colour: 1 });
      const said = (values) => `${short(mean(there(values)))} ± ${short(deviation(there(values)))}${missing(values)}`;
      const words = `samples ${said(a)}${real ? `, ${what} ${said(b)}` : ""}`;
      return h("figure", {}, h("figcaption", {}, h("b", {}, name), words), chart({ label: `${name}: ${words}`, series, ratio: 0.5 }).element);
    }));
    note.textContent = dims > MOST ? `The first ${MOST} of ${dims} numbers.` : "";
    paint();
  }
  function paint() {
    if (!made) return;
    const [pen, width, height] = draw.open(canvas, 1), i = Number(across.value), j = Number(up.value);
    // Categories lie on lines: each point is moved a little, always in the same way.
    const spread = [i, j].map((one) => (categories(one).length ? 0.5 : 0)), wave = (k, by) => { const v = Math.sin(k * by) * 43758.5453; return v - Math.floor(v) - 0.5; };
    const xs = limits(column(made, i), real ? column(real, i) : []), ys = limits(column(made, j), real ? column(real, j) : []);
    for (const [rows, colour, size] of [[real, draw.ink("cool"), 2], [made, draw.ink("accent"), 2]]) {
      if (!rows) continue;
      pen.fillStyle = colour;
      pen.globalAlpha = 0.5;
      for (let k = 0; k < rows.length; k += dims) {
        pen.beginPath();
        pen.arc(((rows[k + i] + spread[0] * wave(k + 1, 12.9898) - xs[0]) / (xs[1] - xs[0])) * width, (1 - (rows[k + j] + spread[1] * wave(k + 1, 78.233) - ys[0]) / (ys[1] - ys[0])) * height, size, 0, 7);
        pen.fill();
      }
    }
    pen.globalAlpha = 1;
    canvas.setAttribute("aria-label", `${names[i][1]} across, ${names[j][1]} up: samples${real ? ` over ${what}` : ""}`);
    pair.note(real ? `samples over ${what}` : "samples");
  }
  const jobs = work("rows", memory, api, (event) => {
    if (event.type === "begin") { dims = event.dims; what = event.what || "data"; said.set(""); without.textContent = event.why ? `Without data beside: ${event.why}.` : ""; again.set(event); say("Sampling"); }
    else if (event.type === "result") { made = api.doubles(event.samples); real = event.real ? api.doubles(event.real) : null; show(); }
    else if (event.type === "end") say("Drawn");
    else if (event.type === "error") said.set(event.message);
  }, (words) => said.set(words));
  const go = () => jobs.begin(own ? { ...controls.ask(), beside: own } : controls.ask());
  main.append(
    h("section", { class: "stage", "aria-label": "Histograms" }, said.element, without, plots, note),
    h("section", { class: "controls", "aria-label": "Choices" }, h("h2", {}, "Table"), h("p", {}, "How often each number occurs in samples and in data, and pairs of them."), ...controls.elements, across.element, up.element, h("div", { class: "row" }, button("Sample", go, "main")), h("div", { class: "row" }, choose, file, back)),
    h("section", { class: "more", "aria-label": "A pair" }, h("div", { class: "tables" }, pair.element), h("div", { class: "buttons" }, button("Save PNG", () => made && savePNG(`${run.name}-pair.png`, [canvas]))), again.element),
  );
  if (!jobs.resume(go)) go();
  return { redraw: paint, close: () => jobs.stop() };
}
