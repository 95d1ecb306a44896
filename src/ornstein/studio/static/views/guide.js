// Guide: the same seeds at scale 1 and at another scale, redrawn as the slider moves.

import * as api from "../api.js";
import * as draw from "../draw.js";
import { button, error, figure, h, repeat, savePNG, say, select, short, slider } from "../ui.js";
import { films, recordings, sampling, work } from "./common.js";

export const title = "Guide";
export const fits = (run) => run?.ready && run.guided && api.holds("guide", run);

export function open(main, { run, facts, memory }) {
  const saved = memory.values, said = error(), again = repeat();
  const plain = h("canvas", { role: "img" }), guided = h("canvas", { role: "img" });
  const left = figure("Scale 1, the conditional model", plain), right = figure("Guided", guided);
  let begun = {}, drawn = {};

  const keep = (name) => (value) => { memory.set(name, value); redo(); };
  const scale = slider("Guidance scale", { min: 0, max: 10, step: 0.1, value: saved.scale ?? 3, text: (v) => v.toFixed(1), onInput: keep("scale") });
  const method = select("Method", facts.guidance, saved.method ?? "cfg", keep("method"));
  // The slider is in powers of ten of σ/α.
  const level = (v, end) => (v <= -2 ? (end ? 0.01 : 0) : v >= 2 ? 1e6 : 10 ** v);
  const words = (v) => (v <= -2 ? "0" : v >= 2 ? "∞" : (10 ** v).toPrecision(2));
  const low = slider("From noise level σ/α", { min: -2, max: 1.9, step: 0.1, value: saved.low ?? -2, text: words, onInput: keep("low") });
  const high = slider("To noise level σ/α", { min: -1.9, max: 2, step: 0.1, value: saved.high ?? 2, text: words, onInput: keep("high") });
  const negative = select("Away from", [[-1, "the unconditional model"], ...run.classes.map((name, i) => [i, name])], saved.negative ?? -1, keep("negative"));
  const picked = api.recorded ? recordings("guide", run, () => { redo(); base(); }) : null;
  const controls = picked ? null : sampling(run, memory, () => { redo(); base(); });
  if (controls && saved.steps === undefined) controls.parts.steps.set(Math.min(12, run.steps));
  const strength = () => (picked ? picked.one.ask.scale : scale.value);
  const film = films(`${run.name}-guided`, facts, () => [first.last, second.last], said);

  const listen = (key, canvas, side) => (event) => {
    if (event.type === "begin") { begun[key] = event; said.set(""); if (key === "guided") { again.set(event); film.ready(false); } }
    else if (event.type === "frame") {
      drawn[key] = event;
      draw.items(canvas, event.clean, begun[key].layout, begun[key].count);
      canvas.setAttribute("aria-label", `${begun[key].count} ${run.plural} at scale ${key === "plain" ? 1 : short(strength())}, estimate at t = ${short(event.t)}`);
      side.note(event.sigma > 0 ? `t = ${short(event.t)}` : "");
    } else if (event.type === "end") { if (key === "guided") { film.ready(true); say(`Drawn at scale ${short(strength())}`); } }
    else if (event.type === "error") said.set(event.message);
  };
  const first = work("watch", { values: {}, set() {} }, api, listen("plain", plain, left), (m) => said.set(m));
  const second = work("watch", memory, api, listen("guided", guided, right), (m) => said.set(m));
  let timer = null;
  const redo = () => {
    clearTimeout(timer);
    if (picked) {
      right.element.querySelector("b").textContent = `Scale ${short(strength())}, ${picked.one.ask.method}`;
      return second.begin(picked.one.ask, "watch");
    }
    timer = setTimeout(() => {
      const ask = { ...controls.ask(), scale: scale.value, method: method.value, low: level(low.value), high: level(high.value, true) };
      if (run.classes.length) ask.negative = Number(negative.value);
      right.element.querySelector("b").textContent = `Scale ${scale.value.toFixed(1)}, ${method.value}`;
      second.begin(ask, "watch");
    }, 60);
  };
  const base = () => first.begin(picked ? picked.one.base : controls.ask(), "watch");
  main.append(
    h("section", { class: "stage", "aria-label": "Guided samples" }, said.element, h("div", { class: "pair" }, left.element, right.element)),
    h("section", { class: "controls", "aria-label": "Choices" }, h("h2", {}, "Guide"), h("p", {}, "Scale 1 is the conditional model. Above 1 samples are pulled towards their condition, and lose variety."),
      ...(picked ? [picked.element] : [scale.element, method.element, low.element, high.element, run.classes.length ? negative.element : null, ...controls.elements].filter(Boolean))),
    h("section", { class: "more", "aria-label": "More" }, h("div", { class: "buttons" }, button("Save PNG", () => savePNG(`${run.name}-guided.png`, [plain, guided])), film.elements), again.element),
  );
  base();
  redo();
  return { redraw() { for (const [key, canvas] of [["plain", plain], ["guided", guided]]) if (drawn[key]) draw.items(canvas, drawn[key].clean, begun[key].layout, begun[key].count); }, close() { first.stop(); second.stop(); } };
}
