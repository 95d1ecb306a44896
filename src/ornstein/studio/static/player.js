// A slider over the frames of a trajectory, forward and back; it follows a job at work until it is moved.

import { button, h, still } from "./ui.js";

export function player(show, words) {
  let frames = [], at = -1, playing = null, following = true;
  const input = h("input", { type: "range", min: 0, max: 0, step: 1, "aria-label": "Call" });
  const output = h("output", {});
  const play = button("Play", () => (playing ? stop() : begin()));
  const element = h("div", { class: "player" }, play, input, output);

  function go(number) {
    if (!frames.length) return;
    at = Math.max(0, Math.min(frames.length - 1, number));
    input.value = at;
    output.textContent = words(frames[at], at, frames.length);
    input.setAttribute("aria-valuetext", output.textContent);
    show(frames[at], at);
  }
  function stop() {
    clearTimeout(playing);
    playing = null;
    play.textContent = "Play";
  }
  function begin() {
    if (still()) return go(at >= frames.length - 1 ? 0 : at + 1); // one frame at a time, where motion is not wanted
    play.textContent = "Pause";
    following = false;
    let number = at >= frames.length - 1 ? -1 : at;
    const tick = () => {
      go(++number);
      if (number >= frames.length - 1) return stop();
      playing = setTimeout(tick, 80);
    };
    tick();
  }
  input.addEventListener("input", () => {
    stop();
    following = Number(input.value) >= frames.length - 1;
    go(Number(input.value));
  });
  return {
    element,
    get frames() { return frames; },
    get at() { return at; },
    clear() {
      stop();
      frames = [];
      at = -1;
      following = true;
      input.max = 0;
    },
    add(frame) {
      frames.push(frame);
      input.max = frames.length - 1;
      if (following) go(frames.length - 1);
      else output.textContent = words(frames[at], at, frames.length);
    },
    again: () => go(at),
    go: (number) => { following = false; go(number); },
    toggle: () => play.click(),
  };
}
