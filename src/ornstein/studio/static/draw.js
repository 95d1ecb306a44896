// Pictures on canvases: sheets of images, points, heat maps, fields with arrows.

import { floats, pixels } from "./api.js";

export const ink = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

// A sheet of images: one canvas pixel for each of theirs; the style sheet enlarges it with sharp edges.
export function sheet(canvas, item, layout, count, columns = Math.ceil(Math.sqrt(count))) {
  const { height, width } = layout, gap = Math.max(1, Math.round(width / 14)), rows = Math.ceil(count / columns);
  canvas.width = columns * (width + gap) - gap;
  canvas.height = rows * (height + gap) - gap;
  canvas.classList.add("pixels");
  const data = pixels(item.data), channels = item.channels, image = new ImageData(width, height);
  const pen = canvas.getContext("2d");
  for (let n = 0; n < count; n++) {
    const from = n * height * width * channels;
    for (let p = 0; p < height * width; p++) {
      const at = from + p * channels, to = 4 * p;
      image.data[to] = data[at];
      image.data[to + 1] = data[at + (channels > 2 ? 1 : 0)];
      image.data[to + 2] = data[at + (channels > 2 ? 2 : 0)];
      image.data[to + 3] = channels === 4 ? data[at + 3] : 255;
    }
    pen.putImageData(image, (n % columns) * (width + gap), Math.floor(n / columns) * (height + gap));
  }
}

// Sized for the screen: [pen, width, height] in CSS pixels.
export function open(canvas, ratio = 1) {
  const width = Math.max(160, Math.round(canvas.clientWidth || 400)), dpr = Math.min(2, devicePixelRatio || 1);
  canvas.width = width * dpr;
  canvas.height = Math.round(width * ratio) * dpr;
  canvas.classList.add("flat");
  const pen = canvas.getContext("2d");
  pen.scale(dpr, dpr);
  return [pen, width, Math.round(width * ratio)];
}

// Points in the first two dimensions, or a histogram where there is one.
export function scatter(canvas, item, layout, count, behind = null) {
  const [pen, width, height] = open(canvas), { dims, low, high } = layout;
  const draw = (values, colour, size, number) => {
    pen.fillStyle = colour;
    if (dims === 1) {
      const bins = new Array(40).fill(0);
      for (let i = 0; i < number; i++) {
        const bin = Math.floor(((values[i] - low[0]) / (high[0] - low[0])) * 40);
        if (bin >= 0 && bin < 40) bins[bin]++;
      }
      const top = Math.max(...bins, 1);
      bins.forEach((n, i) => pen.fillRect((i * width) / 40, height - (n / top) * height * 0.9, width / 40 - 1, (n / top) * height * 0.9));
      return;
    }
    for (let i = 0; i < number; i++) {
      const x = ((values[i * dims] - low[0]) / (high[0] - low[0])) * width;
      const y = (1 - (values[i * dims + 1] - low[1]) / (high[1] - low[1])) * height;
      pen.beginPath();
      pen.arc(x, y, size, 0, 7);
      pen.fill();
    }
  };
  if (behind) {
    pen.globalAlpha = 0.35;
    draw(floats(behind.data), ink("soft"), 1.6, behind.count);
  }
  pen.globalAlpha = count > 300 ? 0.6 : 0.85;
  draw(floats(item.data), ink("accent"), count > 500 ? 1.8 : 3, count);
}

export function items(canvas, item, layout, count, columns) {
  if (layout.as === "images") sheet(canvas, item, layout, count, columns);
  else scatter(canvas, item, layout, count);
}

function mix(a, b, t) {
  return a.map((v, i) => v + (b[i] - v) * t);
}
export function rgb(colour) {
  const hex = colour.replace("#", ""), full = hex.length === 3 ? [...hex].map((c) => c + c).join("") : hex;
  return [0, 2, 4].map((i) => parseInt(full.slice(i, i + 2), 16));
}

// Two triangular matrices next to each other: weights on clean estimates and on noise estimates, the row of a step marked.
export function heat(canvas, table, row = -1) {
  const M = table.P.length, ratio = 0.5;
  const [pen, width, height] = open(canvas, ratio);
  const side = Math.min((width - 30) / 2, height - 26), cell = side / M;
  const none = rgb(ink("card")), plus = rgb(ink("accent")), minus = rgb(ink("cool"));
  pen.font = "12px system-ui, sans-serif";
  [["on clean", table.P], ["on noise", table.Q]].forEach(([name, matrix], k) => {
    const left = k * (side + 24) + 2, top = 22;
    pen.fillStyle = ink("soft");
    pen.fillText(name, left, 14);
    for (let i = 0; i < M; i++)
      for (let j = 0; j <= i; j++) {
        const value = matrix[i][j];
        const [r, g, b] = mix(none, value < 0 ? minus : plus, Math.min(1, Math.sqrt(Math.abs(value))));
        pen.fillStyle = `rgb(${r},${g},${b})`;
        pen.fillRect(left + j * cell, top + i * cell, cell + 0.4, cell + 0.4);
      }
    pen.strokeStyle = ink("line");
    pen.strokeRect(left, top, side, side);
    if (row >= 0 && row < M) {
      pen.strokeStyle = ink("ink");
      pen.lineWidth = 1.5;
      pen.strokeRect(left, top + row * cell, side, cell);
    }
  });
}

// A map of cells (rows from the top) in one colour, smooth, with strength from 0 to 1.
export function map(pen, values, cells, width, colour) {
  const small = document.createElement("canvas");
  small.width = small.height = cells;
  const image = new ImageData(cells, cells), none = rgb(ink("card"));
  for (let i = 0; i < cells * cells; i++) {
    const [r, g, b] = mix(none, colour, values[i]);
    image.data.set([r, g, b, 255], 4 * i);
  }
  small.getContext("2d").putImageData(image, 0, 0);
  pen.imageSmoothingEnabled = true;
  pen.imageSmoothingQuality = "high";
  pen.drawImage(small, 0, 0, width, width);
}

export function arrows(pen, values, count, width, colour) {
  const step = width / count;
  let most = 0;
  const lengths = [];
  for (let i = 0; i < count * count; i++) lengths.push(Math.hypot(values[2 * i], values[2 * i + 1]));
  most = [...lengths].sort((a, b) => a - b)[Math.floor(lengths.length * 0.92)] || 1;
  pen.strokeStyle = pen.fillStyle = colour;
  pen.lineWidth = 1.2;
  for (let i = 0; i < count * count; i++) {
    if (!(lengths[i] > 0)) continue;
    const x = ((i % count) + 0.5) * step, y = (Math.floor(i / count) + 0.5) * step;
    const size = Math.min(1, Math.sqrt(lengths[i] / most)) * step * 0.9;
    const dx = (values[2 * i] / lengths[i]) * size, dy = (-values[2 * i + 1] / lengths[i]) * size;
    pen.beginPath();
    pen.moveTo(x - dx / 2, y - dy / 2);
    pen.lineTo(x + dx / 2, y + dy / 2);
    pen.stroke();
    const head = Math.min(4, size * 0.45), angle = Math.atan2(dy, dx);
    pen.beginPath();
    pen.moveTo(x + dx / 2, y + dy / 2);
    for (const turn of [2.6, -2.6]) pen.lineTo(x + dx / 2 + head * Math.cos(angle + turn), y + dy / 2 + head * Math.sin(angle + turn));
    pen.closePath();
    pen.fill();
  }
}
