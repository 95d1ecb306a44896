"""Columns of samples over those of data, as SVG: a histogram of each column, and points of the pairs that hang together most."""

from __future__ import annotations

from html import escape
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ornstein.data.column_spec import ColumnSpec
from ornstein.data.columns import Column

MOST = 40  # columns that are drawn
BARS = 24
PAIRS = 6
SIDE, GAP, HEAD = 150, 14, 16
ACROSS = 5  # panels in a row


def drawn(spec: ColumnSpec, real: NDArray[Any], made: NDArray[Any] | None = None) -> str:
    """Panels of the columns, and of pairs of numbers, of rows (N, C)."""
    sides = {"real": real, **({} if made is None else {"made": made})}
    panels = [
        (column.name, _histogram(column, {key: rows[:, i] for key, rows in sides.items()}))
        for i, column in enumerate(spec.columns)
        if column.width
    ][:MOST]
    panels += [
        (f"{spec.columns[i].name} × {spec.columns[j].name}", _points({k: rows[:, [i, j]] for k, rows in sides.items()}))
        for i, j in pairs(spec, real)
    ]
    width, rows = ACROSS * (SIDE + GAP), -(-len(panels) // ACROSS)
    body = []
    for place, (name, paths) in enumerate(panels):
        x, y = (place % ACROSS) * (SIDE + GAP) + GAP / 2, (place // ACROSS) * (SIDE + GAP + HEAD)
        short = name if len(name) <= 22 else f"{name[:21]}…"
        body.append(
            f'<g transform="translate({x:g} {y + HEAD:g})"><text x="0" y="-3">{escape(short)}</text>{paths}</g>'
        )
    return f'<svg class="curve" viewBox="0 0 {width} {rows * (SIDE + GAP + HEAD)}">{"".join(body)}</svg>'


def pairs(spec: ColumnSpec, real: NDArray[Any], most: int = PAIRS) -> list[tuple[int, int]]:
    """The pairs of columns of numbers whose ranks are correlated most."""
    places = [i for i, column in enumerate(spec.columns) if column.is_numeric][:MOST]
    if len(places) < 2:
        return []
    ranks = np.stack([_ranks(real[:, i]) for i in places], 1)
    spread = ranks.std(0)
    strength = np.abs(np.corrcoef(np.where(spread > 0, ranks, np.arange(len(ranks))[:, None] % 2).T))
    order = sorted(combinations(range(len(places)), 2), key=lambda pair: -strength[pair])
    return [(places[a], places[b]) for a, b in order[:most]]


def _ranks(values: NDArray[Any]) -> NDArray[np.float64]:
    filled = np.where(np.isnan(values), np.nanmedian(values) if not np.isnan(values).all() else 0.0, values)
    return np.argsort(np.argsort(filled, kind="stable"), kind="stable").astype(np.float64)


def _histogram(column: Column, sides: dict[str, NDArray[Any]]) -> str:
    if column.value is None:
        count = 0 if column.states is None else column.states.count
        shares = {k: np.bincount(column.state_of(v), minlength=count) / max(1, len(v)) for k, v in sides.items()}
        order = np.argsort(-shares["real"], kind="stable")[:BARS]
        heights = {key: share[order] for key, share in shares.items()}
    else:
        there = sides["real"][~np.isnan(sides["real"])]
        low, high = (np.quantile(there, part) for part in (0.005, 0.995)) if len(there) else (0.0, 1.0)
        edges = np.linspace(low, high if high > low else low + 1, BARS + 1)
        heights = {
            key: np.histogram(np.clip(values[~np.isnan(values)], edges[0], edges[-1]), edges)[0] / max(1, len(values))
            for key, values in sides.items()
        }
    top = max(float(height.max(initial=0.0)) for height in heights.values()) or 1.0
    return "".join(f'<path class="{key} area" d="{_steps(height / top)}"/>' for key, height in heights.items())


def _steps(heights: NDArray[np.float64]) -> str:
    width = SIDE / max(1, len(heights))
    corners = [
        f"L{x:.1f} {SIDE * (1 - 0.95 * h):.1f}" for i, h in enumerate(heights) for x in (i * width, (i + 1) * width)
    ]
    return f"M0 {SIDE}{''.join(corners)}L{SIDE} {SIDE}"


def _points(sides: dict[str, NDArray[Any]]) -> str:
    real = sides["real"][~np.isnan(sides["real"]).any(1)]
    if not len(real):
        return ""
    low, high = np.quantile(real, 0.005, axis=0), np.quantile(real, 0.995, axis=0)
    made = []
    for key, values in sides.items():
        unit = (values[~np.isnan(values).any(1)] - low) / np.where(high > low, high - low, 1.0)
        places = [(x * SIDE, (1 - y) * SIDE) for x, y in unit[:1000] if 0 <= min(x, y) <= max(x, y) <= 1]
        made.append(f'<path class="{key} dots" d="{"".join(f"M{x:.1f} {y:.1f}h0" for x, y in places)}"/>')
    return "".join(made)
