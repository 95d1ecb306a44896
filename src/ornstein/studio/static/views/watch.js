// Watch: samples form from noise, x_t and the clean estimate of every call side by side.

import * as api from "../api.js";
import * as draw from "../draw.js";
import { player } from "../player.js";
import { button, error, figure, h, repeat, savePNG, say, short } from "../ui.js";
import { films, recordings, sampling, work } from "./common.js";

export const title = "Watch";
export const fits = (run) => run !== null;

export function open(main, { run, facts: offered, memory }) {
  if (!run.ready) {
    main.className = "wide";
    main.append(h("p", { class: "empty" }, `${run.name} holds no model yet: ${run.why}`));
    return {};
  }
  const said = error(), x = h("canvas", { role: "img" }), clean = h("canvas", { role: "img" }), table = h("canvas", { role: "img" });
  const left = figure("x_t, what the solver has", x), right = figure("Estimate of the clean data", clean);
  const facts = h("p", { class: "facts" }), again = repeat();
  const tableFigure = figure("The solver as a table", table, "each row makes the next x_t from the estimates so far");
  tableFigure.element.hidden = true;
  let begun = null, job = null;

  const show = (frame, at) => {
    const what = `${begun.count} ${run.plural}`;
    draw.items(x, frame.x, begun.layout, begun.count);
    draw.items(clean, frame.clean, begun.layout, begun.count);
    x.setAttribute("aria-label", `x_t at t = ${short(frame.t)}: ${what}, noise level ${short(frame.sigma)}`);
    clean.setAttribute("aria-label", `Estimate of the clean data at t = ${short(frame.t)}: ${what}`);
    left.note(`t = ${short(frame.t)}`);
    facts.replaceChildren(...[["α", frame.alpha], ["σ", frame.sigma], ["network calls", frame.calls]].map(([name, value]) => h("span", {}, `${name} `, h("b", {}, short(value)))));
    if (begun.table) draw.heat(table, begun.table, at);
  };
  const play = player(show, (frame, at, total) => `call ${Math.min(at + 1, total)} of ${total}, t = ${short(frame.t)}`);
  const jobs = work("watch", memory, api, (event) => {
    if (event.type === "begin") {
      begun = event;
      play.clear();
      said.set("");
      again.set(event);
      tableFigure.element.hidden = !event.table;
      if (event.table) {
        const M = event.table.P.length;
        table.setAttribute("aria-label", `Weights of the ${M} calls: lower triangular, on clean estimates and on noise estimates`);
      }
      right.note(event.labels.length ? [...new Set(event.labels)].slice(0, 10).join(" ") : "");
      say("Sampling");
    } else if (event.type === "frame") play.add(event);
    else if (event.type === "end") {
      say(`${begun.count} ${begun.count === 1 ? "sample" : "samples"} in ${short(event.seconds)} seconds`);
      finish();
    } else if (event.type === "error") { said.set(event.message); finish(); }
    else if (event.type === "lost") { finish(); job = null; }
  }, (words) => { said.set(words); finish(); });
  const finish = () => { stop.disabled = true; png.disabled = !begun || !play.frames.length; film.ready(!png.disabled); };

  const sample = async () => {
    said.set("");
    stop.disabled = false;
    png.disabled = true;
    film.ready(false);
    job = jobs.begin(controls ? controls.ask() : picked.one.ask);
    await job;
  };
  const stop = button("Stop", () => { jobs.stop(); finish(); });
  stop.disabled = true;
  const png = button("Save PNG", () => savePNG(`${run.name}-samples.png`, [x, clean]));
  const film = films(`${run.name}-noise-to-data`, offered, () => [jobs.last], said);
  png.disabled = true;

  let controls = null, picked = null;
  const panel = h("section", { class: "controls", "aria-label": "Choices" }, h("h2", {}, "Watch"), h("p", {}, "Samples form from noise. Move the slider below the pictures to any call, and back."));
  if (api.recorded) {
    picked = recordings("watch", run, sample);
    panel.append(picked.element);
  } else {
    controls = sampling(run, memory, () => {});
    panel.append(...controls.elements);
  }
  panel.append(h("div", { class: "row" }, button("Sample", sample, "main"), api.recorded ? null : stop));
  const stage = h("section", { class: "stage", "aria-label": "Samples" }, said.element, h("div", { class: "pair" }, left.element, right.element), play.element, facts);
  const more = h("section", { class: "more", "aria-label": "More" }, h("div", { class: "buttons" }, png, film.elements), h("div", { class: "tables" }, tableFigure.element), again.element);
  main.append(stage, panel, more);
  if (!jobs.resume(sample)) sample();
  else stop.disabled = false;
  return { player: play, redraw: () => play.again(), close: () => jobs.stop() };
}
