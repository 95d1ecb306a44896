// Line charts as SVG: axes with few ticks, a legend, a mark that moves.

import { h, short } from "./ui.js";

const NS = "http://www.w3.org/2000/svg";
function s(tag, props, ...children) {
  const made = document.createElementNS(NS, tag);
  for (const [name, value] of Object.entries(props)) if (value !== null) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

function ticks(low, high, log) {
  if (log) {
    const made = [], many = high - low > 3;
    for (let k = Math.floor(low); k <= Math.ceil(high); k++)
      for (const d of many ? [1] : high - low > 0.9 ? [1, 2, 5] : [1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9]) {
        const v = Math.log10(d) + k;
        if (v >= low - 1e-9 && v <= high + 1e-9) made.push([v, short(d * 10 ** k)]);
      }
    return made.length > 9 ? made.filter((_, i) => i % Math.ceil(made.length / 8) === 0) : made;
  }
  const raw = (high - low) / 5 || 1, power = 10 ** Math.floor(Math.log10(raw)), step = [1, 2, 5, 10].find((d) => d * power >= raw) * power;
  const made = [];
  for (let v = Math.ceil(low / step) * step; v <= high + step * 1e-6; v += step) made.push([v, short(Math.abs(v) < step / 1e6 ? 0 : v)]);
  return made;
}

// xLabels: [place, words] in place of numbers under the axis. series: {name, x, y, kind: "line" | "faint" | "dots" | "bars", low, high}; values that are null leave a gap.
export function chart({ label, series, xName = "", yName = "", logX = false, logY = false, ratio = 0.5, clip = null, legend = true, xLabels = null }) {
  const W = 520, H = Math.round(W * ratio), left = 56, right = 12, top = 12, bottom = 40;
  const tx = (v) => (logX ? Math.log10(v) : v), ty = (v) => (logY ? Math.log10(v) : v);
  const good = (v) => v !== null && Number.isFinite(v);
  const xs = [], ys = [];
  for (const one of series)
    one.x.forEach((x, i) => {
      const a = tx(x), b = ty(one.y[i]);
      if (!good(a) || !good(one.y[i]) || !good(b)) return;
      xs.push(a);
      ys.push(b);
      if (one.low) ys.push(...[ty(one.low[i]), ty(one.high[i])].filter(good));
    });
  const svg = s("svg", { viewBox: `0 0 ${W} ${H}`, class: "plot", role: "img", "aria-label": label });
  const names = h("div", { class: "legend" }, series.filter((one) => one.name).map((one, i) => h("span", {}, h("i", { class: `c${one.colour ?? i}` }), one.name)));
  const element = h("div", {}, svg, legend && series.filter((one) => one.name).length > 1 ? names : null);
  const made = { element, svg, mark() {} };
  if (!xs.length) {
    svg.append(s("text", { x: W / 2, y: H / 2, "text-anchor": "middle" }, "nothing to show yet"));
    return made;
  }
  const span = (values) => {
    let low = Math.min(...values), high = Math.max(...values);
    if (low === high) { low -= 0.5; high += 0.5; }
    return [low, high];
  };
  const [x0, x1] = span(xs);
  let [y0, y1] = clip ?? span(ys);
  const pad = (y1 - y0) * 0.06;
  if (!clip) { y0 -= pad; y1 += pad; }
  const X = (v) => left + ((v - x0) / (x1 - x0)) * (W - left - right), Y = (v) => H - bottom - ((Math.max(y0 - 1, Math.min(y1 + 1, v)) - y0) / (y1 - y0)) * (H - top - bottom);
  for (const [v, words] of ticks(y0, y1, logY)) svg.append(s("line", { class: "tick", x1: left, x2: W - right, y1: Y(v), y2: Y(v) }), s("text", { x: left - 7, y: Y(v) + 4, "text-anchor": "end" }, words));
  for (const [v, words] of xLabels ?? ticks(x0, x1, logX)) svg.append(s("text", { x: X(v), y: H - bottom + 17, "text-anchor": "middle" }, words));
  svg.append(s("text", { x: W - right, y: H - 6, "text-anchor": "end" }, xName));
  if (yName) svg.append(s("text", { x: left, y: top - 1, "text-anchor": "start" }, yName));
  series.forEach((one, k) => {
    const c = `c${one.colour ?? k}`;
    const at = one.x.map((x, i) => [tx(x), ty(one.y[i]), i]).filter(([a, b, i]) => good(one.y[i]) && good(a) && good(b));
    if (one.low) {
      const there = at.filter(([, , i]) => good(ty(one.low[i])) && good(ty(one.high[i])));
      const up = there.map(([a, , i]) => `${X(a).toFixed(1)} ${Y(ty(one.high[i])).toFixed(1)}`), down = there.map(([a, , i]) => `${X(a).toFixed(1)} ${Y(ty(one.low[i])).toFixed(1)}`).reverse();
      if (up.length) svg.append(s("path", { class: `band ${c}`, d: `M${[...up, ...down].join("L")}Z` }));
    }
    if (one.kind === "dots") at.forEach(([a, b]) => svg.append(s("circle", { class: c, cx: X(a), cy: Y(b), r: 3.5 })));
    else if (one.kind === "bars") {
      const wide = Math.max(2, ((W - left - right) / at.length) * 0.7);
      at.forEach(([a, b]) => svg.append(s("rect", { class: c, x: X(a) - wide / 2, width: wide, y: Y(b), height: Math.max(0, H - bottom - Y(b)) })));
    } else {
      let d = "", last = -2;
      for (const [a, b, i] of at) {
        d += `${i === last + 1 ? "L" : "M"}${X(a).toFixed(1)} ${Y(b).toFixed(1)}`;
        last = i;
      }
      svg.append(s("path", { class: `${c} ${one.kind === "faint" ? "faint" : ""}`, d }));
    }
  });
  const line = s("line", { class: "mark", y1: top, y2: H - bottom });
  made.mark = (x) => {
    const v = X(tx(x));
    line.setAttribute("x1", v);
    line.setAttribute("x2", v);
    svg.append(line);
  };
  return made;
}
