// Edit: choose an image, or two; paint a mask, vary, interpolate, restore.

import * as api from "../api.js";
import * as draw from "../draw.js";
import { button, error, figure, h, number, repeat, savePNG, say, select, slider } from "../ui.js";
import { work } from "./common.js";

export const title = "Edit";
export const fits = (run) => run?.ready && run.drawn && !api.recorded;

const TASKS = [["inpaint", "Inpaint where painted"], ["vary", "Vary (SDEdit)"], ["interpolate", "Interpolate between two"], ["blur", "Restore from blur"], ["coarse", "Restore from coarse pixels"]];

// One image of a sheet's data.
function one(item, layout, index) {
  const size = layout.height * layout.width * item.channels, data = api.pixels(item.data).slice(index * size, (index + 1) * size);
  let text = "";
  data.forEach((v) => (text += String.fromCharCode(v)));
  return { data: btoa(text), channels: item.channels };
}

export function open(main, { run, memory }) {
  const saved = memory.values, said = error(), again = repeat(), results = h("canvas", { role: "img" }), made = figure("Result", results);
  const easel = h("canvas", { tabindex: 0, role: "application", class: "pixels", "aria-roledescription": "painting" }), board = figure("Image", easel);
  const inputs = h("div", { class: "inputs" }), thumbs = h("div", { class: "thumbs" });
  let layout = null, sources = [], first = 0, last = 1, mask = null, cursor = [0, 0], begun = null, result = null;

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
  const own = h("div", { class: "controls-of" }), clear = button("Clear the mask", () => { mask?.fill(0); paint(); }, "small");
  const progress = h("p", { class: "facts", role: "status" });

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
        else { first = i; mask?.fill(0); }
        if (two && first === last) last = (first + 1) % sources.length;
        marks();
        paint();
        thumbs.children[i]?.focus();
      } }, canvas);
    }));
  }
  function paint() {
    if (!layout || !sources[first]) return;
    draw.sheet(easel, sources[first].item, layout, 1);
    const pen = easel.getContext("2d"), brushing = task.value === "inpaint" && run.pixels;
    if (brushing) {
      pen.fillStyle = "rgba(224, 84, 38, .78)";
      mask.forEach((bit, i) => bit && pen.fillRect(i % layout.width, Math.floor(i / layout.width), 1, 1));
      if (document.activeElement === easel) { pen.fillStyle = "rgba(60, 140, 255, .75)"; pen.fillRect(...cursor, 1, 1); }
    }
    const painted = mask ? mask.reduce((a, b) => a + b, 0) : 0;
    board.note(brushing ? (painted ? `${painted} of ${mask.length} pixels painted` : "paint what to make anew") : "");
    easel.setAttribute("aria-label", brushing ? `Image ${first + 1}; ${painted} of ${mask.length} pixels are painted. Arrow keys move the brush, now at column ${cursor[0] + 1}, row ${cursor[1] + 1}; Space paints, Backspace clears.` : `Image ${first + 1}`);
  }
  function dab(x, y, value = 1) {
    const r = (brush.value - 1) / 2;
    for (let j = Math.ceil(y - r - 0.25); j <= y + r + 0.25; j++)
      for (let i = Math.ceil(x - r - 0.25); i <= x + r + 0.25; i++)
        if (i >= 0 && j >= 0 && i < layout.width && j < layout.height && (i - x) ** 2 + (j - y) ** 2 <= (r + 0.35) ** 2) mask[j * layout.width + i] = value;
    paint();
  }
  const place = (event) => {
    const box = easel.getBoundingClientRect();
    return [Math.floor(((event.clientX - box.left) / box.width) * layout.width), Math.floor(((event.clientY - box.top) / box.height) * layout.height)];
  };
  let erasing = 0;
  easel.addEventListener("pointerdown", (event) => {
    if (task.value !== "inpaint" || !mask) return;
    easel.setPointerCapture(event.pointerId);
    const [x, y] = place(event);
    erasing = event.button === 2 || event.shiftKey ? 0 : 1;
    cursor = [x, y];
    dab(x, y, erasing);
  });
  easel.addEventListener("pointermove", (event) => event.buttons && task.value === "inpaint" && mask && dab(...place(event), erasing));
  easel.addEventListener("contextmenu", (event) => event.preventDefault());
  for (const name of ["focus", "blur"]) easel.addEventListener(name, () => paint());
  easel.addEventListener("keydown", (event) => {
    if (task.value !== "inpaint" || !mask) return;
    const by = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (by) cursor = [Math.max(0, Math.min(layout.width - 1, cursor[0] + by[0])), Math.max(0, Math.min(layout.height - 1, cursor[1] + by[1]))];
    else if (event.key === " ") dab(...cursor);
    else if (event.key === "Backspace" || event.key === "Delete") dab(...cursor, 0);
    else return;
    event.preventDefault();
    if (by && event.shiftKey) dab(...cursor);
    paint();
  });

  const quiet = { values: {}, set() {} };
  const loading = work("items", quiet, api, (event) => {
    if (event.type === "begin") layout = event.layout;
    else if (event.type === "items") {
      mask ??= new Uint8Array(layout.width * layout.height);
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
      mask ??= new Uint8Array(layout.width * layout.height);
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
    } else if (event.type === "end") { progress.textContent = ""; say("Done"); }
    else if (event.type === "error") { progress.textContent = ""; said.set(event.message); }
  }, (words) => said.set(words));
  function go() {
    if (!sources[first]) return;
    said.set("");
    const ask = { run: run.id, task: task.value, upload: sources[first].upload, seed: seed.value, count: count.value };
    if (label) ask.label = Number(label.value);
    if (task.value === "inpaint") Object.assign(ask, { mask: [...mask].join(""), inpainting: inpainting.value });
    if (task.value === "vary") ask.strength = strength.value;
    if (task.value === "interpolate") Object.assign(ask, { other: sources[last]?.upload ?? "", frames: shots.value });
    if (task.value === "blur") Object.assign(ask, { width: width.value, noise: noise.value, posterior: posterior.value });
    if (task.value === "coarse") Object.assign(ask, { factor: Number(factor.value), noise: noise.value, posterior: posterior.value });
    jobs.begin(ask);
  }
  main.append(
    h("section", { class: "stage", "aria-label": "Image and result" }, said.element, h("div", { class: "pair" }, h("div", {}, board.element, h("div", { class: "buttons" }, clear)), h("div", {}, made.element, progress))),
    h("section", { class: "controls", "aria-label": "Choices" }, h("h2", {}, "Edit"), h("p", {}, "Samples of this run, or an upload of yours."), thumbs, h("div", { class: "row" }, choose, file), task.element, own, label?.element, seed.element,
      h("div", { class: "row" }, button("Go", go, "main"), button("Stop", () => { jobs.stop(); progress.textContent = ""; }))),
    h("section", { class: "more", "aria-label": "Inputs" }, inputs, h("div", { class: "buttons" }, button("Save PNG", () => result && savePNG(`${run.name}-edited.png`, [results])), button("Other samples", () => { seed.set(seed.value + 1); memory.set("seed", seed.value); load(); })), again.element),
  );
  load();
  jobs.resume();
  return { redraw: paint, close() { loading.stop(); jobs.stop(); } };
}
