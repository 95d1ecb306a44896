// Edit: choose an image, or two; paint a mask, vary, interpolate, restore.

import * as api from "../api.js";
import * as draw from "../draw.js";
import { easel } from "../easel.js";
import { button, error, figure, h, number, repeat, savePNG, say, select, slider } from "../ui.js";
import { films, recordings, work } from "./common.js";

export const title = "Edit";
export const fits = (run) => run?.ready && run.drawn && api.holds("edit", run);

const TASKS = [["inpaint", "Inpaint where painted"], ["vary", "Vary (SDEdit)"], ["interpolate", "Interpolate between two"], ["blur", "Restore from blur"], ["coarse", "Restore from coarse pixels"]];

// One image of a sheet's data.
function one(item, layout, index) {
  const size = layout.height * layout.width * item.channels, data = api.pixels(item.data).slice(index * size, (index + 1) * size);
  let text = "";
  data.forEach((v) => (text += String.fromCharCode(v)));
  return { data: btoa(text), channels: item.channels };
}

export function open(main, { run, facts, memory }) {
  const saved = memory.values, said = error(), again = repeat(), results = h("canvas", { role: "img" }), made = figure("Result", results);
  const inputs = h("div", { class: "inputs" }), thumbs = h("div", { class: "thumbs" });
  let layout = null, sources = [], first = 0, last = 1, begun = null, result = null;

  const keep = (name, then) => (value) => { memory.set(name, value); then?.(); };
  const tasks = TASKS.filter(([key]) => run.pixels || ["vary", "interpolate"].includes(key));
  const task = select("Do", tasks, saved.task ?? tasks[0][0], keep("task", arrange));
  const brush = slider("Brush, pixels", { min: 1, max: Math.max(3, Math.round(Math.max(...run.cell) / 3)), step: 1, value: saved.brush ?? Math.max(1, Math.round(Math.max(...run.cell) / 8)), onChange: keep("brush") });
  const inpainting = select("Method", [["repaint", "RePaint"], ["replacement", "replacement, faster"]], saved.inpainting ?? "repaint", keep("inpainting"));
  const strength = slider("Strength", { min: 0.05, max: 1, step: 0.05, value: saved.strength ?? 0.5, text: (v) => v.toFixed(2), onChange: keep("strength") });
  const shots = slider("Frames", { min: 3, max: 16, step: 1, value: saved.shots ?? 8, onChange: keep("shots") });
  const width = slider("Blur, pixels", { min: 0.4, max: 4, step: 0.1, value: saved.width ?? 1, text: (v) => v.toFixed(1), onChange: keep("width") });
  const factors = [2, 4, 8].filter((f) => run.cell.every((side) => side % f === 0));
  const factor = select("Pixels of", factors.map((f) => [f, `${f} × ${f}`]), saved.factor ?? 2, keep("factor"));
  const noise = slider("Noise in it", { min: 0.005, max: 0.2, step: 0.005, value: saved.noise ?? 0.02, text: (v) => v.toFixed(3), onChange: keep("noise") });
  const posterior = select("Posterior by", [["mmps", "MMPS"], ["pigdm", "ΠGDM"], ["dps", "DPS"], ["diffpir", "DiffPIR"]], saved.posterior ?? "mmps", keep("posterior"));
  const count = number("Versions", { min: 1, max: 16, value: saved.count ?? 4, onChange: keep("count") });
  const seed = number("Seed", { min: 0, max: 999999, value: saved.seed ?? 0, onChange: keep("seed") });
  const label = run.classes.length ? select("Class", [[-1, "none"], ...run.classes.map((name, i) => [i, name])], saved.label ?? -1, keep("label")) : null;
  const file = h("input", { type: "file", accept: run.pixels ? "image/*,.npy" : ".npy", class: "quiet", id: "upload", tabindex: -1 });
  const choose = button("Upload an image …", () => file.click());
  const parts = { inpaint: [brush, inpainting, count], vary: [strength, count], interpolate: [shots], blur: [width, noise, posterior, count], coarse: [factor, noise, posterior, count] };
  const own = h("div", { class: "controls-of" }), clear = button("Clear the mask", () => board.clear(), "small");
  const progress = h("p", { class: "facts", role: "status" });
  const board = easel({ title: "Image", name: () => `Image ${first + 1}`, brushing: () => task.value === "inpaint" && run.pixels, size: () => brush.value });
  const film = films(`${run.name}-edited`, facts, () => [jobs.last], said);
  const picked = api.recorded ? recordings("edit", run, go) : null;

  function arrange() {
    own.replaceChildren(...parts[task.value].map((part) => part.element));
    clear.hidden = task.value !== "inpaint";
    marks();
    paint();
  }
  function marks() {
    thumbs.replaceChildren(...sources.map((source, i) => {
      const canvas = h("canvas", {}), two = task.value === "interpolate";
      draw.sheet(canvas, source.item, layout, 1);
      const pressed = i === first || (two && i === last), words = `Image ${i + 1}${two ? (i === first ? ", first" : i === last ? ", last" : "") : ""}`;
      return h("button", { type: "button", class: "thumb", "aria-pressed": String(pressed), "aria-label": words, title: words, onclick: () => {
        if (two && i !== first) last = i;
        else { first = i; board.clear(); }
        if (two && first === last) last = (first + 1) % sources.length;
        marks();
        paint();
        thumbs.children[i]?.focus();
      } }, canvas);
    }));
  }
  const paint = () => layout && sources[first] && board.show(sources[first].item, layout);

  const quiet = { values: {}, set() {} };
  const loading = work("items", quiet, api, (event) => {
    if (event.type === "begin") { layout = event.layout; again.set(event); }
    else if (event.type === "items") {
      sources = [...event.uploads.map((upload, i) => ({ upload, item: one(event.items, layout, i) })), ...sources.filter((source) => source.mine)];
      arrange();
    } else if (event.type === "error") said.set(event.message);
  }, (words) => said.set(words));
  const load = () => loading.begin({ run: run.id, count: Math.min(10, run.classes.length || 6), seed: seed.value, ...(run.classes.length ? { label: -2 } : {}) });
  file.addEventListener("change", async () => {
    if (!file.files[0]) return;
    try {
      const answer = await api.upload(run.id, file.files[0]);
      layout = answer.layout;
      sources.push({ upload: answer.upload, item: answer.item, mine: true });
      first = sources.length - 1;
      said.set("");
      say("The image is here");
      arrange();
    } catch (failure) { said.set(failure.message); }
    file.value = "";
  });

  const jobs = work("edit", memory, api, (event) => {
    if (event.type === "begin") {
      begun = event;
      layout ??= event.layout;
      film.ready(false);
      said.set("");
      again.set(event);
      inputs.replaceChildren(...event.inputs.map((input) => {
        const canvas = h("canvas", { role: "img", "aria-label": input.name });
        draw.sheet(canvas, input.item, event.layout, 1);
        return figure(input.name, canvas).element;
      }));
      say("At work");
    } else if (event.type === "progress") progress.textContent = `${event.done} of ${event.total} steps`;
    else if (event.type === "result") {
      result = event;
      draw.sheet(results, event.items, begun.layout, event.count, event.count > 6 ? 4 : Math.min(event.count, 2));
      results.setAttribute("aria-label", `${event.count} results`);
    } else if (event.type === "end") { progress.textContent = ""; film.ready(true); say("Done"); }
    else if (event.type === "error") { progress.textContent = ""; said.set(event.message); }
  }, (words) => said.set(words));
  function go() {
    said.set("");
    if (picked) return jobs.begin(picked.one.ask);
    if (!sources[first]) return;
    const ask = { run: run.id, task: task.value, upload: sources[first].upload, seed: seed.value, count: count.value };
    if (label) ask.label = Number(label.value);
    if (task.value === "inpaint") Object.assign(ask, { mask: board.bits, inpainting: inpainting.value });
    if (task.value === "vary") ask.strength = strength.value;
    if (task.value === "interpolate") Object.assign(ask, { other: sources[last]?.upload ?? "", frames: shots.value });
    if (task.value === "blur") Object.assign(ask, { width: width.value, noise: noise.value, posterior: posterior.value });
    if (task.value === "coarse") Object.assign(ask, { factor: Number(factor.value), noise: noise.value, posterior: posterior.value });
    jobs.begin(ask);
  }
  const choices = picked ? [picked.element] : [thumbs, h("div", { class: "row" }, choose, file), task.element, own, label?.element, seed.element].filter(Boolean);
  const other = button("Other samples", () => { seed.set(seed.value + 1); memory.set("seed", seed.value); load(); });
  main.append(
    h("section", { class: "stage", "aria-label": "Image and result" }, said.element,
      h("div", { class: "pair" }, picked ? inputs : h("div", {}, board.element, h("div", { class: "buttons" }, clear)), h("div", {}, made.element, progress))),
    h("section", { class: "controls", "aria-label": "Choices" }, h("h2", {}, "Edit"), h("p", {}, picked ? "Edits of a sample, as they were recorded." : "Samples of this run, or an upload of yours."), ...choices,
      h("div", { class: "row" }, button("Go", go, "main"), picked ? null : button("Stop", () => { jobs.stop(); progress.textContent = ""; }))),
    h("section", { class: "more", "aria-label": "Inputs" }, picked ? null : inputs, h("div", { class: "buttons" }, button("Save PNG", () => result && savePNG(`${run.name}-edited.png`, [results])), film.elements, picked ? null : other), again.element),
  );
  if (picked) go();
  else {
    load();
    jobs.resume();
  }
  return { redraw: paint, close() { loading.stop(); jobs.stop(); } };
}
