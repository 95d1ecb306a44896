// An image, and a mask where a run fills in what one hides, as the condition of samples.

import * as api from "./api.js";
import { easel } from "./easel.js";
import { button, error, h, say, slider } from "./ui.js";

export function given(run, memory, onChange) {
  const said = error(), saved = memory.values, most = Math.max(...run.cell);
  const file = h("input", { type: "file", accept: "image/*,.npy", class: "quiet", tabindex: -1, "aria-label": "The image of the condition" });
  const maskFile = h("input", { type: "file", accept: "image/*,.npy", class: "quiet", tabindex: -1, "aria-label": "The mask of the condition" });
  let held = saved.given ?? null;
  const keep = () => {
    if (held) held.mask = board.bits;
    memory.set("given", held);
    onChange("given");
  };
  const brush = slider("Brush, pixels", { min: 1, max: Math.max(3, Math.round(most / 3)), step: 1, value: Math.max(1, Math.round(most / 6)) });
  const board = easel({ title: "Given", name: () => "The image that is given", brushing: () => run.mask, size: () => brush.value, onChange: keep });
  const choose = button("Give an image …", () => file.click(), "small"), chooseMask = button("Upload a mask …", () => maskFile.click(), "small");
  const drop = button("Without it", () => { held = null; keep(); show(); }, "small");

  function show() {
    board.element.hidden = drop.hidden = !held;
    brush.element.hidden = chooseMask.hidden = !held || !run.mask;
    if (!held) return;
    board.show(held.item, held.layout);
    if (held.mask) board.bits = held.mask;
  }
  const read = async (input, then) => {
    try {
      said.set("");
      await then(input.files[0]);
      keep();
      show();
    } catch (failure) { said.set(failure.message); }
    input.value = "";
  };
  file.addEventListener("change", () => file.files[0] && read(file, async (content) => {
    const answer = await api.upload(run.id, content);
    held = { upload: answer.upload, item: answer.item, layout: answer.layout };
    board.show(held.item, held.layout);
    say(run.mask ? "The image is here; paint what to fill in" : "The image is here");
  }));
  maskFile.addEventListener("change", () => maskFile.files[0] && read(maskFile, async (content) => { board.bits = (await api.upload(run.id, content, "mask")).mask; }));
  show();
  const lead = h("p", {}, `Condition: ${run.conditions.find((words) => words.startsWith("an image")) ?? "an image"}`);
  return {
    element: h("div", { class: "controls-of" }, lead, said.element, board.element, brush.element, h("div", { class: "row" }, choose, chooseMask, drop, file, maskFile)),
    ask: () => (!held ? {} : run.mask ? { image: held.upload, mask: board.bits } : { image: held.upload }),
  };
}
