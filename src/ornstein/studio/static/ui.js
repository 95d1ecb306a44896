// Elements and controls. Text goes in as text nodes alone, so that no name of a file or class is ever markup.

export function h(tag, props = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name === "value") made.value = value;
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

export function say(text) {
  document.getElementById("live").textContent = text;
}

export const still = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

// What was chosen in a view is remembered as long as the tab is open.
export function memory(name) {
  const place = `ornstein ${name}`;
  let values = {};
  try {
    values = JSON.parse(sessionStorage.getItem(place)) ?? {};
  } catch {}
  return {
    values,
    set(key, value) {
      values[key] = value;
      try {
        sessionStorage.setItem(place, JSON.stringify(values));
      } catch {}
    },
  };
}

let count = 0;
function field(label, input, output = null) {
  input.id ||= `field-${++count}`;
  return h("div", { class: "field" }, h("span", {}, h("label", { for: input.id }, label), output), input);
}

// A control has .element, .value, and .set(value).
export function select(label, options, value, onChange) {
  const pairs = options.map((option) => (Array.isArray(option) ? option : [option, option]));
  const input = h("select", {}, pairs.map(([key, text]) => h("option", { value: key }, text)));
  input.value = pairs.some(([key]) => String(key) === String(value)) ? value : pairs[0]?.[0];
  input.addEventListener("change", () => onChange?.(input.value));
  return { element: field(label, input), input, get value() { return input.value; }, set(v) { input.value = v; } };
}

export function slider(label, { min, max, step, value, text = String, onInput, onChange }) {
  const output = h("output", {}, text(Number(value)));
  const input = h("input", { type: "range", min, max, step, value });
  input.value = value;
  const spell = () => {
    output.textContent = text(Number(input.value));
    input.setAttribute("aria-valuetext", output.textContent);
  };
  input.addEventListener("input", () => { spell(); onInput?.(Number(input.value)); });
  input.addEventListener("change", () => onChange?.(Number(input.value)));
  spell();
  const element = field(label, input, output);
  output.htmlFor = input.id;
  return { element, input, get value() { return Number(input.value); }, set(v) { input.value = v; spell(); } };
}

export function number(label, { min, max, value, onChange }) {
  const input = h("input", { type: "number", min, max, step: 1, value, inputmode: "numeric" });
  const read = () => Math.min(max, Math.max(min, Math.round(Number(input.value) || 0)));
  input.addEventListener("change", () => { input.value = read(); onChange?.(read()); });
  return { element: field(label, input), input, get value() { return read(); }, set(v) { input.value = v; } };
}

export function text(label, value, onChange, placeholder = "") {
  const input = h("input", { type: "text", value, maxlength: 500, placeholder });
  input.addEventListener("change", () => onChange?.(input.value));
  return { element: field(label, input), input, get value() { return input.value; }, set(v) { input.value = v; } };
}

export function checks(label, options, values, onChange) {
  const boxes = options.map(([key, words]) => {
    const box = h("input", { type: "checkbox", value: key });
    box.checked = values.includes(key);
    box.addEventListener("change", () => onChange?.(read(), key));
    return [box, h("label", {}, box, words)];
  });
  const read = () => boxes.filter(([box]) => box.checked).map(([box]) => box.value);
  return { element: h("fieldset", {}, h("legend", {}, label), h("div", { class: "checks" }, boxes.map(([, l]) => l))), get value() { return read(); }, set(v) { boxes.forEach(([box]) => (box.checked = v.includes(box.value))); } };
}

export function button(words, onClick, kind = "") {
  return h("button", { type: "button", class: kind, onclick: onClick }, words);
}

// The command and the lines of Python that repeat what is seen.
export function repeat() {
  const rows = ["Command", "Python"].map((name) => {
    const code = h("pre", { tabindex: 0, "aria-label": name });
    const copy = button("Copy", async () => {
      try {
        await navigator.clipboard.writeText(code.textContent);
      } catch {
        getSelection().selectAllChildren(code);
        document.execCommand("copy");
      }
      copy.textContent = "Copied";
      say(`${name} copied`);
      setTimeout(() => (copy.textContent = "Copy"), 1500);
    }, "small");
    copy.setAttribute("aria-label", `Copy: ${name}`);
    return [h("div", {}, h("span", {}, name), code, copy), code];
  });
  const element = h("section", { class: "repeat", "aria-label": "Repeat this", hidden: true }, rows.map(([row]) => row));
  return {
    element,
    set({ command, python }) {
      if (!command) return;
      element.hidden = false;
      rows[0][1].textContent = command;
      rows[1][1].textContent = python;
    },
  };
}

export function save(name, blob) {
  const link = h("a", { href: URL.createObjectURL(blob), download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

// Several canvases next to each other as one PNG, enlarged where they are small.
export function savePNG(name, canvases) {
  const zoom = Math.max(1, Math.round(640 / Math.max(...canvases.map((c) => c.width))));
  const sheet = document.createElement("canvas"), gap = 12;
  sheet.width = canvases.reduce((sum, c) => sum + c.width * zoom + gap, -gap);
  sheet.height = Math.max(...canvases.map((c) => c.height)) * zoom;
  const pen = sheet.getContext("2d");
  pen.imageSmoothingEnabled = false;
  pen.fillStyle = getComputedStyle(document.body).backgroundColor;
  pen.fillRect(0, 0, sheet.width, sheet.height);
  let x = 0;
  for (const canvas of canvases) {
    pen.drawImage(canvas, x, 0, canvas.width * zoom, canvas.height * zoom);
    x += canvas.width * zoom + gap;
  }
  sheet.toBlob((blob) => save(name, blob), "image/png");
}

export function figure(title, canvas, note = "") {
  const side = h("span", {}, note);
  return { element: h("figure", {}, h("figcaption", {}, h("b", {}, title), side), canvas), note: (words) => (side.textContent = words) };
}

export function error() {
  const element = h("p", { class: "error", role: "alert" });
  return { element, set: (words) => (element.textContent = words ?? "") };
}

export const short = (x) => (x === null || x === undefined ? "–" : Math.abs(x) >= 1e4 || (x !== 0 && Math.abs(x) < 1e-3) ? String(Number(x.toPrecision(3))).includes("e") ? String(Number(x.toPrecision(3))) : Number(x.toPrecision(3)).toExponential() : String(Number(x.toPrecision(4))));
