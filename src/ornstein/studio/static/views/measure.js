// Measure: curves of the training, live while it runs; errors by noise level; nearest training items; likelihood of an item.

import * as api from "../api.js";
import { chart } from "../chart.js";
import * as draw from "../draw.js";
import { button, error, figure, h, repeat, say, select, short } from "../ui.js";
import { ownFile, work } from "./common.js";

export const title = "Measure";
export const fits = (run) => run !== null;

function smooth(x, y) {
  const made = [], good = [];
  y.forEach((v, i) => v !== null && good.push([x[i], v]));
  let a = 0, b = 0, sum = 0;
  for (const [step] of good) {
    while (b < good.length && good[b][0] <= step * 1.25) sum += good[b++][1];
    while (good[a][0] < step / 1.25) sum -= good[a++][1];
    made.push(sum / (b - a));
  }
  return { x: good.map(([step]) => step), y: made };
}

export function open(main, { run, memory }) {
  const said = error(), again = repeat(), live = h("span", {}), plots = h("div", { class: "many" });
  let data = null, timer = null, open = true;

  function plot() {
    if (!data || !data.step.length) { plots.replaceChildren(h("p", { class: "empty" }, "There are no metrics of a training in this run.")); return; }
    const { step } = data, loss = smooth(step, data.loss), last = loss.y.at(-1);
    const held = data.held_out.map((v, i) => [step[i], v]).filter(([, v]) => v !== null);
    const series = [{ x: step, y: data.loss, kind: "faint", colour: 0 }, { name: "loss", ...loss, colour: 0 }];
    if (held.length) series.push({ name: "held out", x: held.map(([s]) => s), y: held.map(([, v]) => v), kind: "dots", colour: 1 });
    const figures = [["Loss", chart({ label: `Loss by step, now ${short(last)} at step ${step.at(-1)}`, series, xName: "step", logX: true, logY: true })]];
    for (const [key, words] of [["rate", "Learning rate"], ["gradient", "Norm of the gradient"]])
      if (data[key].some((v) => v !== null)) figures.push([words, chart({ label: `${words} by step`, series: [{ name: words, x: step, y: data[key], kind: key === "gradient" ? "faint" : "line", colour: key === "gradient" ? 2 : 1 }], xName: "step", logX: true, logY: key === "gradient" })]);
    plots.replaceChildren(...figures.map(([words, made]) => h("figure", {}, h("figcaption", {}, h("b", {}, words)), made.element)));
  }
  async function read() {
    try {
      const next = await api.get(`curves/${run.id}?after=${data?.step.at(-1) ?? -1}`);
      if (!open) return;
      const fresh = next.step.length > 0;
      if (!data) again.set(next);
      if (data) for (const key of ["step", "loss", "held_out", "rate", "gradient", "seconds"]) data[key] = data[key].concat(next[key]);
      else data = next;
      live.textContent = next.live ? "the training is at work" : "";
      if (fresh || !plots.children.length) plot();
      if (next.live && !api.recorded) timer = setTimeout(read, 2000);
      else if (!api.recorded) timer = setTimeout(read, 8000);
    } catch (failure) {
      said.set(failure.message);
      timer = setTimeout(read, 8000);
    }
  }

  const quiet = () => ({ values: {}, set() {} });
  const sections = [];
  if (run.ready && !api.recorded) {
    const accept = run.columns.length ? ".csv,.npy" : run.pixels ? "image/*,.npy" : ".npy";
    // Errors by noise level, one point after the other.
    const errors = h("div", { class: "many" }), levelError = error();
    const measuredOn = h("p", { class: "facts" });
    let found = [];
    const level = work("levels", quiet(), api, (event) => {
      if (event.type === "begin") { found = []; levelError.set(""); again.set(event); measuredOn.textContent = `${event.items} items of ${event.source}`; }
      else if (event.type === "level") {
        found.push(event);
        const x = found.map((one) => one.log_snr), pick = (name, i) => found.map((one) => one[name][i]);
        const a = chart({ label: "Mean squared error of both estimates by log-SNR", series: ["clean", "noise"].map((name) => ({ name, x, y: pick(name, 0), low: pick(name, 1), high: pick(name, 2) })), xName: "log-SNR: noise on the left, data on the right", logY: true });
        const b = chart({ label: "Calibration by log-SNR: actual error over the error that the Jacobian foretells", series: [{ name: "actual error / foretold", x, y: pick("calibration", 0), low: pick("calibration", 1), high: pick("calibration", 2), colour: 2 }, { name: "calibrated: 1", x, y: x.map(() => 1), colour: 4 }], xName: "log-SNR" });
        errors.replaceChildren(h("figure", {}, h("figcaption", {}, h("b", {}, "Loss by noise level")), a.element), h("figure", {}, h("figcaption", {}, h("b", {}, "Calibration")), b.element));
      } else if (event.type === "end") say("Measured");
      else if (event.type === "error") levelError.set(event.message);
    }, (words) => levelError.set(words));
    sections.push(h("h2", {}, "By noise level"), h("p", { class: "lead" }, "Errors of both estimates on held-out data, with 95 % intervals; and whether the denoiser knows its own error."), levelError.element, errors, measuredOn,
      h("div", { class: "buttons" }, button("Measure by noise level", () => level.begin({ run: run.id })),
        ownFile("Measure on a file", accept, run, levelError, (answer) => level.begin({ run: run.id, beside: answer.upload }))));

    // Nearest training items.
    const rows = h("div", {}), nearError = error(), words = h("p", { class: "lead" }, "The training items that are nearest to samples, or to items of yours. At distance 0 one is a copy.");
    let begun = null;
    const near = work("nearest", quiet(), api, (event) => {
      if (event.type === "begin") { begun = event; rows.replaceChildren(); words.textContent = `Left ${event.labels.length || !event.own ? "a sample" : "your item"}, then the ${event.what} nearest to it; root mean square distances in model units. At distance 0 it is a copy.`; nearError.set(""); again.set(event); }
      else if (event.type === "row") {
        if (begun.layout.as !== "images") {
          rows.append(h("p", { class: "facts" }, `distances ${event.distance.map(short).join(", ")}`));
          return;
        }
        const a = h("canvas", { role: "img", "aria-label": "sample" }), b = h("canvas", { role: "img", "aria-label": `nearest ${begun.what}, at ${event.distance.map(short).join(", ")}` });
        draw.sheet(a, event.sample, begun.layout, 1);
        draw.sheet(b, event.items, begun.layout, event.count, event.count);
        a.style.width = "64px";
        b.style.width = `${64 * event.count + 5 * (event.count - 1)}px`;
        b.style.maxWidth = "calc(100vw - 120px)";
        const row = h("div", { class: "row" }, a, b, h("span", { class: "facts" }, `distances ${event.distance.map(short).join(", ")}`));
        row.style.cssText = "align-items:center;gap:16px;margin:6px 0;flex-wrap:wrap";
        rows.append(row);
      } else if (event.type === "error") nearError.set(event.message);
    }, (words) => nearError.set(words));
    sections.push(h("h2", {}, "Nearest training items"), words, nearError.element, rows,
      h("div", { class: "buttons" }, button("Compare six samples", () => near.begin({ run: run.id, count: 6, ...(run.classes.length ? { label: -2 } : {}) })),
        ownFile("Compare a file", accept, run, nearError, (answer) => near.begin({ run: run.id, of: answer.upload }))));

    // Likelihood of an uploaded item.
    const answer = h("p", { class: "facts", role: "status" }), likeError = error(), canvas = h("canvas", { role: "img", "aria-label": "the item" });
    canvas.hidden = true;
    canvas.style.width = "96px";
    const label = run.classes.length ? select("Class", [[-1, "none"], ...run.classes.map((name, i) => [i, name])], -1) : null;
    const file = h("input", { type: "file", accept, "aria-label": "The item" });
    let upload = null;
    file.addEventListener("change", async () => {
      try {
        const made = await api.upload(run.id, file.files[0]);
        upload = made.upload;
        likeError.set("");
        if (made.layout.as === "images") { canvas.hidden = false; draw.sheet(canvas, made.item, made.layout, 1); }
        measure();
      } catch (failure) { likeError.set(failure.message); }
    });
    const like = work("likelihood", quiet(), api, (event) => {
      if (event.type === "begin") { answer.textContent = "Along the ODE …"; again.set(event); }
      else if (event.type === "result") {
        answer.replaceChildren(h("span", {}, event.whole ? "bound on −log p " : "−log p ", h("b", {}, `${short(event.value)} ${event.unit}`)), h("span", {}, "from the probes ", h("b", {}, event.probe === null ? "not known" : `± ${short(event.probe)}`)), h("span", {}, "from the steps ", h("b", {}, event.solver === null ? "not measured" : `± ${short(event.solver)}`)), h("span", {}, "log p ", h("b", {}, `${short(event.nats)} nats`)));
        say("Measured");
      } else if (event.type === "error") { answer.textContent = ""; likeError.set(event.message); }
    }, (words) => likeError.set(words));
    const measure = () => upload && like.begin({ run: run.id, upload, ...(label ? { label: Number(label.value) } : {}) });
    sections.push(h("h2", {}, "Likelihood of an item"), h("p", { class: "lead" }, "Upload an item of the kind that the run makes; its density is measured along the probability-flow ODE."), likeError.element, h("div", { class: "row" }, canvas, file, label?.element, button("Measure again", measure)), answer);
    main.addEventListener("studio-close", () => { level.stop(); near.stop(); like.stop(); }, { once: true });
  }
  main.className = "wide";
  const facts = run.ready ? h("p", { class: "lead" }, `${run.network} with ${run.parameters.toLocaleString("en")} parameters, trained on ${run.source}: ${run.count.toLocaleString("en")} ${run.plural}. Path ${run.path}, target ${run.target}.`) : h("p", { class: "lead" }, `${run.name} holds no model yet; its curves are below.`);
  main.append(h("section", { class: "stage", "aria-label": "Measurements" }, said.element, facts, h("h2", {}, "Training ", live), plots, ...sections, again.element));
  read();
  return { redraw: plot, close() { open = false; clearTimeout(timer); main.dispatchEvent(new Event("studio-close")); } };
}
