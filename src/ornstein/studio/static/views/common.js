// Controls that several views have: samples, classes and other conditions, solver, steps; films; what was recorded; uploads.

import * as api from "../api.js";
import { given } from "../given.js";
import { button, h, number, save, select, slider, text } from "../ui.js";

export function sampling(run, memory, onChange, { count = 16, solvers = true } = {}) {
  const saved = memory.values, change = (key) => (value) => { memory.set(key, value); onChange?.(key); };
  const parts = {};
  parts.count = number(run.drawn ? "Samples" : "Points", { min: 1, max: run.drawn ? 64 : 4096, value: saved.count ?? (run.drawn ? count : 500), onChange: change("count") });
  parts.seed = number("Seed", { min: 0, max: 999999, value: saved.seed ?? 0, onChange: change("seed") });
  if (run.classes.length)
    parts.label = select("Class", [[-1, "as often as in the data"], [-2, "each in turn"], ...run.classes.map((name, i) => [i, name])], saved.label ?? -2, change("label"));
  if (run.text) parts.text = text("Caption", saved.text ?? "", change("text"));
  if (run.vector) parts.vector = text(`Condition: ${run.vector} numbers`, saved.vector ?? new Array(run.vector).fill(0).join(", "), change("vector"));
  if (run.image) parts.given = given(run, memory, () => onChange?.("given"));
  if (solvers) {
    const groups = [...run.solvers.ode, ...run.solvers.sde.map((name) => [name, `${name} (adds noise)`])];
    parts.solver = select("Solver", run.tuned.length ? [...groups, ["tuned", `tuned (${run.tuned.join(", ")} steps)`]] : groups, saved.solver ?? run.solver, (value) => {
      if (value === "tuned") { parts.steps.set(run.tuned[0]); memory.set("steps", run.tuned[0]); }
      change("solver")(value);
    });
    parts.steps = slider("Steps", { min: 1, max: 100, step: 1, value: saved.steps ?? run.steps, onChange: change("steps") });
  }
  return {
    elements: Object.values(parts).map((part) => part.element),
    parts,
    ask() {
      const made = { run: run.id, count: parts.count.value, seed: parts.seed.value };
      if (parts.label) made.label = Number(parts.label.value);
      if (parts.text?.value) made.text = parts.text.value;
      if (parts.vector) made.vector = parts.vector.value.split(/[\s,;]+/).filter(Boolean).map(Number);
      if (parts.given) Object.assign(made, parts.given.ask());
      if (parts.solver) { made.solver = parts.solver.value; made.steps = parts.steps.value; }
      return made;
    },
  };
}

// One job of a view at a time: a new one takes the place of the old, and one at work goes on after a reload.
export function work(view, memory, { start, follow }, onEvent, onFailure) {
  let job = null, last = null, turn = 0;
  const hold = (made) => {
    job = made;
    last = made.id;
    memory.set("job", made.id);
    made.ended.then(() => { if (job === made) { job = null; memory.set("job", null); } });
  };
  return {
    async begin(ask, name = view) {
      const mine = ++turn, old = job;
      job = null;
      try {
        const made = await start(name, ask, (event) => mine === turn && onEvent(event), old?.id);
        old?.cancel();
        if (mine !== turn) return made.cancel();
        hold(made);
        memory.set("asked", { name, ask });
        return await made.ended;
      } catch (failure) {
        if (mine === turn) onFailure(failure.message);
      }
    },
    // Whether there is a job to follow; `anew` is called where it turns out to be gone, as after a start of the server.
    resume(anew) {
      const id = memory.values.job;
      if (!id) return false;
      const mine = ++turn;
      let heard = false;
      hold(follow(id, (event) => {
        if (mine !== turn) return;
        if (event.type === "lost" && !heard) {
          memory.set("job", null);
          return anew?.();
        }
        heard = true;
        onEvent(event);
      }));
      return true;
    },
    stop() {
      turn++;
      job?.cancel();
      job = null;
      memory.set("job", null);
    },
    get busy() { return job !== null; },
    get last() { return last; },
  };
}

// Buttons that save what a view's jobs showed as an animation, in each way that the server has.
export function films(name, facts, jobs, said) {
  if (api.recorded) return { elements: [], ready() {} };
  const elements = facts.animations.map((kind) => button(`Save ${kind.toUpperCase()}`, async (event) => {
    const pressed = event.currentTarget;
    pressed.disabled = true;
    try {
      save(`${name}.${kind}`, await api.animation(kind, ...jobs()));
    } catch (failure) { said.set(failure.message); }
    pressed.disabled = false;
  }));
  const ready = (is) => elements.forEach((one) => (one.disabled = !is));
  ready(false);
  return { elements, ready };
}

// On a page that was exported: a choice among what was recorded of a run for a view, and where the rest is.
export function recordings(view, run, onPick) {
  const all = api.recorded.asks[view].filter((one) => one.ask.run === run.id);
  const picked = select("Recorded", all.map((one, i) => [i, one.title]), 0, onPick);
  const others = [run.drawn ? null : "Table", run.past.length ? "Forecast" : null].filter(Boolean).join(" and ");
  const where = h("p", {}, `Recorded settings only. Others${others && `, and ${others},`} need a server: `, h("code", {}, `ornstein studio ${run.folder}`));
  const element = document.createDocumentFragment();
  element.append(picked.element, where);
  return { element, get one() { return all[Number(picked.value)]; } };
}

// A file of the user's own: `then(answer)` gets the upload.
export function ownFile(label, accept, run, said, then) {
  const input = h("input", { type: "file", accept, class: "quiet", tabindex: -1, "aria-label": label });
  input.addEventListener("change", async () => {
    if (!input.files[0]) return;
    try {
      said.set("");
      then(await api.upload(run.id, input.files[0]));
    } catch (failure) { said.set(failure.message); }
    input.value = "";
  });
  return [button(`${label} …`, () => input.click()), input];
}
