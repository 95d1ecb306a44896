// An image on which a brush marks pixels, by pointer or by keys alone.

import * as draw from "./draw.js";
import { figure, h } from "./ui.js";

export function easel({ title, name, brushing, size, onChange = () => {} }) {
  const canvas = h("canvas", { tabindex: 0, role: "application", class: "pixels", "aria-roledescription": "painting" }), board = figure(title, canvas);
  let layout = null, item = null, mask = null, cursor = [0, 0], value = 1;

  function paint() {
    if (!item) return;
    draw.sheet(canvas, item, layout, 1);
    const pen = canvas.getContext("2d"), on = brushing(), painted = mask.reduce((a, b) => a + b, 0);
    if (on) {
      pen.fillStyle = "rgba(224, 84, 38, .78)";
      mask.forEach((bit, i) => bit && pen.fillRect(i % layout.width, Math.floor(i / layout.width), 1, 1));
      if (document.activeElement === canvas) { pen.fillStyle = "rgba(60, 140, 255, .75)"; pen.fillRect(...cursor, 1, 1); }
    }
    board.note(on ? (painted ? `${painted} of ${mask.length} pixels painted` : "paint what to make anew") : "");
    canvas.setAttribute("aria-label", on ? `${name()}; ${painted} of ${mask.length} pixels are painted. Arrow keys move the brush, now at column ${cursor[0] + 1}, row ${cursor[1] + 1}; Space paints, Backspace clears.` : name());
  }
  function dab(x, y, bit = 1) {
    const r = (size() - 1) / 2;
    for (let j = Math.ceil(y - r - 0.25); j <= y + r + 0.25; j++)
      for (let i = Math.ceil(x - r - 0.25); i <= x + r + 0.25; i++)
        if (i >= 0 && j >= 0 && i < layout.width && j < layout.height && (i - x) ** 2 + (j - y) ** 2 <= (r + 0.35) ** 2) mask[j * layout.width + i] = bit;
    paint();
  }
  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    return [Math.floor(((event.clientX - box.left) / box.width) * layout.width), Math.floor(((event.clientY - box.top) / box.height) * layout.height)];
  };
  const able = () => item && brushing();
  canvas.addEventListener("pointerdown", (event) => {
    if (!able()) return;
    canvas.setPointerCapture(event.pointerId);
    cursor = place(event);
    value = event.button === 2 || event.shiftKey ? 0 : 1;
    dab(...cursor, value);
  });
  canvas.addEventListener("pointermove", (event) => event.buttons && able() && dab(...place(event), value));
  canvas.addEventListener("pointerup", () => able() && onChange());
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  for (const kind of ["focus", "blur"]) canvas.addEventListener(kind, paint);
  canvas.addEventListener("keydown", (event) => {
    if (!able()) return;
    const by = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (by) cursor = [Math.max(0, Math.min(layout.width - 1, cursor[0] + by[0])), Math.max(0, Math.min(layout.height - 1, cursor[1] + by[1]))];
    else if (event.key === " ") dab(...cursor);
    else if (event.key === "Backspace" || event.key === "Delete") dab(...cursor, 0);
    else return;
    event.preventDefault();
    if (by && event.shiftKey) dab(...cursor);
    paint();
    if (!by || event.shiftKey) onChange();
  });
  return {
    element: board.element,
    paint,
    show(next, how) {
      item = next;
      layout = how;
      if (mask?.length !== how.width * how.height) mask = new Uint8Array(how.width * how.height);
      paint();
    },
    clear() { mask?.fill(0); paint(); },
    get bits() { return mask ? [...mask].join("") : ""; },
    set bits(text) { if (mask?.length === text.length) mask = Uint8Array.from(text, Number); paint(); },
  };
}
