// Plane: densities and fields of two numbers, and what moves in them; exact mixtures need no run.

import * as api from "../api.js";
import { chart } from "../chart.js";
import * as draw from "../draw.js";
import { player } from "../player.js";
import { button, checks, error, figure, h, repeat, savePNG, say, select, short, slider } from "../ui.js";
import { films, work } from "./common.js";

export const title = "Plane";
export const shared = true;
export const fits = () => true;

const DYNAMICS = [["ode", "probability-flow ODE"], ["sde", "reverse SDE"], ["predictor-corrector", "predictor–corrector"], ["langevin", "Langevin, at this time"], ["forward", "forward SDE, data to noise"]];

export function open(main, { facts, memory }) {
  const saved = memory.values, said = error(), again = repeat();
  const canvas = h("canvas", { tabindex: 0, role: "img", class: "tall" });
  const picture = figure("Density and field", canvas);
  const numbers = h("p", { class: "facts" }), curves = h("div", { class: "many" });
  const flat = facts.runs.filter((run) => run.ready && run.shape.length === 1 && run.shape[0] === 2);
  const exact = Object.keys(facts.mixtures).map((name) => [name, facts.mixtures[name]]);
  let field = null, line = null, moving = null, marks = [], wanted = false, waiting = false, dense = null, timer = null;
  let start = saved.start ?? [0.9, 0.6];

  const keep = (name, then) => (value) => { memory.set(name, value); then?.(); };
  const model = select("Data", [...exact.map(([k, v]) => [`mixture ${k}`, v]), ...flat.map((run) => [`run ${run.id}`, `run ${run.name}`])], saved.model ?? "mixture ring", keep("model", changed));
  const path = select("Path", facts.paths, saved.path ?? "linear", keep("path", changed));
  const time = slider("Time t, from data to noise", { min: 0, max: 1, step: api.recorded ? 0.05 : 0.005, value: saved.t ?? 0.35, text: (t) => t.toFixed(3), onInput: (t) => { memory.set("t", t); moving = null; ask(); } });
  const layers = checks("Show", [["density", "density"], ["velocity", "velocity"], ["score", "score"], ["line", "flow line"]], saved.layers ?? ["density", "velocity", "line"], (value, key) => {
    if (key === "score" && value.includes("score")) value = value.filter((one) => one !== "velocity");
    if (key === "velocity" && value.includes("velocity")) value = value.filter((one) => one !== "score");
    layers.set(value);
    keep("layers")(value);
    paint();
    integrate();
  });
  const dynamics = select("Particles", DYNAMICS, saved.dynamics ?? "ode", keep("dynamics", () => release()));
  const eta = slider("Noise of the SDE, times g", { min: 0, max: 2, step: 0.05, value: saved.eta ?? 1, text: (v) => v.toFixed(2), onChange: keep("eta", () => release()) });
  const of = () => {
    const [kind, name] = model.value.split(" ");
    return kind === "run" ? { run: name } : { mixture: name, path: path.value };
  };
  const isRun = () => model.value.startsWith("run ");

  // The density of a run is integrated along the ODE, when the slider rests; that of a mixture comes with its field.
  const progress = h("span", {}), stopDense = button("Stop", () => { counting.stop(); progress.textContent = ""; stopDense.hidden = true; }, "small");
  const counted = h("p", { class: "facts", role: "status" }, progress, stopDense);
  stopDense.hidden = true;
  const counting = work("density", { values: {}, set() {} }, api, (event) => {
    if (event.type === "begin") dense = { ...event, model: model.value, log_prob: null };
    else if (event.type === "progress") progress.textContent = `density: ${event.done} of ${event.total} points`;
    else if (event.type === "result") { dense.log_prob = event.log_prob; if (!moving) paint(); }
    else if (event.type === "error") said.set(event.message);
    if (["end", "error", "cancelled", "lost"].includes(event.type)) { progress.textContent = ""; stopDense.hidden = true; }
  }, (words) => said.set(words));
  function integrate() {
    clearTimeout(timer);
    if (!isRun() || !field || !layers.value.includes("density")) return;
    if (dense && dense.model === model.value && dense.t === field.t && dense.log_prob) return;
    timer = setTimeout(() => {
      stopDense.hidden = api.recorded !== null;
      counting.begin(api.recorded ? { ...of(), cells: 24, t: time.value } : { ...of(), t: time.value });
    }, 250);
  }
  const density = () => (field?.log_prob ? field : dense?.log_prob && isRun() && dense.model === model.value && dense.t === field?.t ? dense : null);

  async function ask() {
    if (waiting) { wanted = true; return; }
    waiting = true;
    try {
      do {
        wanted = false;
        const t = time.value;
        field = await api.call("field", api.recorded ? { ...of(), cells: 40, arrows: 15, t } : { ...of(), t });
        said.set("");
        if (!api.recorded && layers.value.includes("line")) line = await api.call("curve", { ...of(), t: field.t, start });
        paint();
        integrate();
        again.set(field);
        marks.forEach((mark) => mark(field.t));
        const p = field.point;
        numbers.replaceChildren(...[["α", p.alpha], ["σ", p.sigma], ["log-SNR", p.log_snr], ["drift f", p.drift], ["diffusion g", p.diffusion]].map(([name, value]) => h("span", {}, `${name} `, h("b", {}, short(value)))));
      } while (wanted);
    } catch (failure) { said.set(failure.message); }
    waiting = false;
  }

  function paint() {
    const [pen, width] = draw.open(canvas, 1);
    const frame = moving, half = frame?.width ?? field?.width ?? 3;
    pen.fillStyle = draw.ink("card");
    pen.fillRect(0, 0, width, width);
    const at = ([x, y], side = half) => [((x / side + 1) / 2) * width, ((1 - y / side) / 2) * width];
    if (field && (!frame || Math.abs(frame.t - field.t) < 0.6 / 200 || dynamics.value === "langevin")) {
      const known = density();
      if (layers.value.includes("density") && known) {
        const values = api.doubles(known.log_prob), top = values.reduce((a, b) => Math.max(a, b), -Infinity);
        draw.map(pen, values.map((v) => 0.72 * Math.exp((v - top) / 1.6)), known.cells, width, draw.rgb(draw.ink("cool")));
      }
      for (const name of ["velocity", "score"]) if (layers.value.includes(name)) draw.arrows(pen, api.doubles(field[name]), field.arrows, width, draw.ink(frame ? "line" : "soft"));
    }
    pen.strokeStyle = draw.ink("line");
    pen.fillStyle = draw.ink("soft");
    pen.font = "12px system-ui, sans-serif";
    pen.fillText(`±${short(half)}`, 6, width - 6);
    if (frame) {
      const points = api.floats(frame.points);
      pen.fillStyle = draw.ink("accent");
      pen.globalAlpha = 0.75;
      for (let i = 0; i < points.length; i += 2) {
        const [x, y] = at([points[i], points[i + 1]]);
        pen.fillRect(x - 1.6, y - 1.6, 3.2, 3.2);
      }
      pen.globalAlpha = 1;
    } else if (line && layers.value.includes("line")) {
      for (const [rows, dash] of [[line.down, []], [line.up, [5, 4]]]) {
        pen.beginPath();
        pen.setLineDash(dash);
        pen.lineWidth = 2.2;
        pen.strokeStyle = draw.ink("accent");
        rows.forEach(([, x, y], i) => pen[i ? "lineTo" : "moveTo"](...at([x, y])));
        pen.stroke();
      }
      pen.setLineDash([]);
      const [x, y] = at(start), [ex, ey] = at(line.down.at(-1).slice(1));
      pen.fillStyle = draw.ink("accent");
      pen.beginPath(); pen.arc(x, y, 6.5, 0, 7); pen.fill();
      pen.strokeStyle = draw.ink("card"); pen.lineWidth = 2; pen.stroke();
      pen.beginPath(); pen.arc(ex, ey, 4, 0, 7); pen.fillStyle = draw.ink("ink"); pen.fill();
    }
    const what = isRun() ? model.input.selectedOptions[0].text : facts.mixtures[model.value.split(" ")[1]];
    canvas.setAttribute("aria-label", frame ? `${what}: particles at t = ${short(frame.t)}` : `${what} at t = ${short(field?.t)}: ${layers.value.join(", ")}. Arrow keys move the start of the flow line, now at ${short(start[0])}, ${short(start[1])}.`);
    picture.note(frame ? `t = ${short(frame.t)}` : `t = ${short(field?.t)}`);
  }

  async function changed() {
    path.input.disabled = isRun();
    const forward = dynamics.input.querySelector("[value=forward]");
    if (forward) forward.disabled = isRun();
    release();
    ask();
    try {
      const made = await api.call("path", isRun() ? { run: of().run } : { path: path.value });
      const charts = [
        chart({ label: "α and σ over t", series: [{ name: "α", x: made.t, y: made.alpha }, { name: "σ", x: made.t, y: made.sigma }], xName: "t", ratio: 0.55 }),
        chart({ label: "log-SNR over t", series: [{ name: "log-SNR", x: made.t, y: made.log_snr }], xName: "t", ratio: 0.55 }),
        chart({ label: "drift f and diffusion g over t", series: [{ name: "drift f", x: made.t, y: made.drift }, { name: "diffusion g", x: made.t, y: made.diffusion }], xName: "t", ratio: 0.55, clip: [Math.max(-12, Math.min(...made.drift.filter((v) => v !== null))), Math.min(12, Math.max(0.1, ...made.diffusion.filter((v) => v !== null)))] }),
      ];
      marks = charts.map((one) => one.mark);
      curves.replaceChildren(...charts.map((one, i) => h("figure", {}, h("figcaption", {}, h("b", {}, ["Weights", "Signal to noise", "Drift and diffusion"][i])), one.element)));
      if (field) marks.forEach((mark) => mark(field.t));
    } catch (failure) { said.set(failure.message); }
  }

  const play = player((frame) => { moving = frame; paint(); }, (frame) => (dynamics.value === "langevin" ? `step ${frame.number}` : `t = ${short(frame.t)}`));
  play.element.hidden = true;
  const jobs = work("particles", memory, api, (event) => {
    if (event.type === "begin") { play.clear(); play.element.hidden = false; film.ready(false); said.set(""); say("Particles move"); }
    else if (event.type === "frame") play.add(event);
    else if (event.type === "end") { film.ready(true); say("The particles have arrived"); }
    else if (event.type === "error") said.set(event.message);
  }, (words) => said.set(words));
  const film = films("plane", facts, () => [jobs.last], said);
  function release() { jobs.stop(); film.ready(false); play.clear(); play.element.hidden = true; moving = null; if (field) paint(); }
  const recordedParticles = () => api.recorded.asks.particles.find(({ ask }) => ask.mixture === of().mixture && ask.run === of().run && ask.path === of().path && ask.dynamics === dynamics.value)?.ask ?? {};
  const go = () => jobs.begin(api.recorded ? recordedParticles() : { ...of(), dynamics: dynamics.value, eta: eta.value, t: time.value });

  function place(event) {
    const box = canvas.getBoundingClientRect(), half = field?.width ?? 3;
    start = [(((event.clientX - box.left) / box.width) * 2 - 1) * half, (1 - ((event.clientY - box.top) / box.height) * 2) * half];
    moved();
  }
  function moved() {
    memory.set("start", start);
    if (moving) release();
    if (!layers.value.includes("line")) layers.set([...layers.value, "line"]);
    ask();
  }
  if (!api.recorded) {
    canvas.addEventListener("pointerdown", (event) => { canvas.setPointerCapture(event.pointerId); place(event); });
    canvas.addEventListener("pointermove", (event) => event.buttons && place(event));
    canvas.addEventListener("keydown", (event) => {
      const by = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
      if (!by) return;
      event.preventDefault();
      const size = (field?.width ?? 3) * (event.shiftKey ? 0.1 : 0.03);
      start = [start[0] + by[0] * size, start[1] + by[1] * size];
      moved();
    });
  }
  if (api.recorded) {
    const kinds = [...new Set(api.recorded.asks.particles.map((one) => one.ask.dynamics))];
    for (const option of [...dynamics.input.options]) if (!kinds.includes(option.value)) option.remove();
    const paths = new Set(api.recorded.asks.field.map((one) => one.path ?? "linear")), models = new Set(api.recorded.asks.field.map((one) => (one.run ? `run ${one.run}` : `mixture ${one.mixture}`)));
    for (const option of [...path.input.options]) if (!paths.has(option.value)) option.remove();
    for (const option of [...model.input.options]) if (!models.has(option.value)) option.remove();
    path.set(path.input.options[0].value);
    model.set(model.input.options[0].value);
    dynamics.set(dynamics.input.options[0].value);
    layers.set(["density", "velocity"]);
  }
  const stage = h("section", { class: "stage", "aria-label": "The plane" }, said.element, picture.element, play.element, numbers, counted);
  main.append(
    stage, h("section", { class: "controls", "aria-label": "Choices" }, h("h2", {}, "Plane"), h("p", {}, "Data of two numbers, noised to time t. Drag the dot, or move it by the arrow keys: the line is where the ODE takes it, to data and, dashed, to noise."),
      model.element, path.element, time.element, layers.element, dynamics.element, api.recorded ? null : eta.element,
      h("div", { class: "row" }, button("Move particles", go, "main"), button("Clear", release))),
    h("section", { class: "more", "aria-label": "The path" }, h("div", { class: "buttons" }, button("Save PNG", () => savePNG("plane.png", [canvas])), film.elements), h("h2", {}, "The path"), curves, again.element),
  );
  changed();
  return { player: play, redraw: () => { if (field) paint(); }, close() { clearTimeout(timer); counting.stop(); jobs.stop(); } };
}
