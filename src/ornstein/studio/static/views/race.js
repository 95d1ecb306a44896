// Race: several solvers from the same noise at equal network calls, against a fine solve.

import * as api from "../api.js";
import { chart } from "../chart.js";
import * as draw from "../draw.js";
import { player } from "../player.js";
import { button, checks, error, figure, h, repeat, savePNG, say, short, slider } from "../ui.js";
import { films, recordings, sampling, work } from "./common.js";

export const title = "Race";
export const fits = (run) => run?.ready && run.solvers.ode.length > 1 && api.holds("race", run);

const mean = (values) => values.reduce((a, b) => a + b, 0) / values.length;

export function open(main, { run, facts, memory }) {
  const said = error(), again = repeat(), saved = memory.values;
  const fineCanvas = h("canvas", { role: "img", "aria-label": "The fine solve" }), fine = figure("Fine solve, 100 steps", fineCanvas);
  const lanes = h("div", { class: "pair" }), charts = h("div", { class: "many" }), note = h("p", { class: "facts" });
  let begun = null, canvases = [], marks = [], frames = [];

  const entrants = run.solvers.ode.filter((name) => name !== "ode").concat(run.tuned.length ? ["tuned"] : []);
  const solvers = checks("Solvers, two to four", entrants.map((name) => [name, name]), saved.solvers ?? entrants.filter((n) => ["abm", "heun", "ddim"].includes(n)).slice(0, 3), (value, key) => {
    if (value.length > 4) solvers.set(value.filter((one) => one !== value.find((other) => other !== key)));
    memory.set("solvers", solvers.value);
  });
  const calls = slider("Network calls of each", { min: 1, max: 40, step: 1, value: saved.calls ?? 8, onChange: (v) => { memory.set("calls", v); go(); } });
  const picked = api.recorded ? recordings("race", run, () => go()) : null;
  const controls = picked ? null : sampling(run, memory, () => {}, { count: 9, solvers: false });
  const film = films(`${run.name}-race`, facts, () => [jobs.last], said);

  const play = player((frame) => {
    frame.lanes.forEach((state, i) => {
      if (!state) return;
      const [canvas, caption] = canvases[i];
      draw.items(canvas, state.clean, begun.layout, begun.count, begun.layout.as === "images" ? Math.ceil(Math.sqrt(begun.count)) : undefined);
      canvas.setAttribute("aria-label", `${begun.lanes[i].name} after ${state.calls} calls, error ${short(mean(state.error))}`);
      caption(`call ${state.calls}, error ${short(mean(state.error))}`);
    });
    marks.forEach((mark) => mark(frame.number));
  }, (frame, at, total) => `call ${Math.min(at + 1, total)} of ${total}`);

  function finish() {
    const names = begun.lanes.map((one) => one.name);
    const lines = names.map((name, i) => {
      const states = frames.map((frame) => frame.lanes[i]).filter(Boolean);
      return { name, x: states.map((_, k) => k), y: states.map((state) => Math.max(1e-7, mean(state.error))) };
    });
    const ends = names.map((name, i) => {
      const last = frames.map((frame) => frame.lanes[i]).filter(Boolean).at(-1);
      return { name, x: last.error.map((_, k) => k + 1), y: last.error.map((v) => Math.max(1e-7, v)), kind: "dots" };
    });
    const a = chart({ label: `Mean error by call: ${lines.map((l) => `${l.name} ends at ${short(l.y.at(-1))}`).join(", ")}`, series: lines, xName: "call", logY: true });
    const b = chart({ label: "Error of each sample at the end", series: ends, xName: "sample", logY: true });
    marks = [a.mark];
    charts.replaceChildren(
      h("figure", {}, h("figcaption", {}, h("b", {}, "Distance of the clean estimate from the fine solve"), "root mean square, model units"), a.element),
      h("figure", {}, h("figcaption", {}, h("b", {}, "Error of each sample at the end")), b.element),
    );
    play.again();
  }

  const jobs = work("race", memory, api, (event) => {
    if (event.type === "begin") {
      begun = event;
      frames = [];
      marks = [];
      film.ready(false);
      said.set("");
      play.clear();
      again.set(event);
      charts.replaceChildren();
      canvases = event.lanes.map((one) => {
        const canvas = h("canvas", { role: "img" }), made = figure(one.name, canvas);
        return [canvas, made.note, made.element];
      });
      lanes.replaceChildren(...canvases.map(([, , element]) => element), fine.element);
      note.textContent = event.lanes.map((one) => `${one.name}: ${one.steps} steps, ${one.calls} calls`).join("; ");
      say("The fine solve is under way");
    } else if (event.type === "progress") fine.note(`${event.done} of ${event.total}`);
    else if (event.type === "fine") { fine.note(""); draw.items(fineCanvas, event.clean, begun.layout, begun.count); begun.fine = event; }
    else if (event.type === "frame") { frames.push(event); play.add(event); }
    else if (event.type === "end") { finish(); film.ready(true); say("The race is over"); }
    else if (event.type === "error") said.set(event.message);
  }, (words) => said.set(words));
  const go = () => { said.set(""); jobs.begin(picked ? picked.one.ask : { ...controls.ask(), solvers: solvers.value, calls: calls.value }); };
  main.append(
    h("section", { class: "stage", "aria-label": "The race" }, said.element, lanes, play.element, note),
    h("section", { class: "controls", "aria-label": "Choices" }, h("h2", {}, "Race"), h("p", {}, "All start from the same noise and may call the network equally often. How near does each come to the exact way?"),
      ...(picked ? [picked.element] : [solvers.element, calls.element, ...controls.elements]), h("div", { class: "row" }, button("Race", go, "main"), button("Stop", () => jobs.stop()))),
    h("section", { class: "more", "aria-label": "Errors" }, charts, h("div", { class: "buttons" }, button("Save PNG", () => canvases.length && savePNG(`${run.name}-race.png`, [...canvases.map(([c]) => c), fineCanvas])), film.elements), again.element),
  );
  if (!jobs.resume(go)) go();
  return { player: play, redraw: () => { if (begun?.fine) draw.items(fineCanvas, begun.fine.clean, begun.layout, begun.count); play.again(); }, close: () => jobs.stop() };
}
