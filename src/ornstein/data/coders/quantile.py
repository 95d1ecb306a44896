"""A number by its quantile among the training data, as a normal variable.

Knots (v_k, x_k) with x_k = Φ⁻¹(p_k), p_k the part of the data below v_k, joined by straight lines. Beyond the outermost knots the
lines go on with the slope of a normal variable of the data's deviation, so that numbers out of range stay finite and in order;
samples are held to the range of the training data.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from ornstein.data.coders.coder import Numbers, ValueCoder, require

KNOTS = 512
WITHIN = 24  # knots of a bin at most
GAP = 0.05  # items that lie between neighbouring values of a lattice which are not next to each other


@dataclass(frozen=True)
class QuantileNormal(ValueCoder):
    """Straight lines through (`values`, `normals`), and beyond them lines of the slope `beyond`."""

    values: tuple[float, ...]
    normals: tuple[float, ...]
    beyond: float
    low: float
    high: float

    def __post_init__(self) -> None:
        numbers = (*self.values, *self.normals, self.beyond, self.low, self.high)
        require(all(type(v) in (int, float) and math.isfinite(v) for v in numbers), "a coder's numbers must be finite")
        require(len(self.values) == len(self.normals) >= 2, "values and normals must be two or more, as many of each")
        rising = all(bool((np.diff(np.array(side)) > 0).all()) for side in (self.values, self.normals))
        require(rising and self.beyond > 0, "values and normals must rise, and the slope beyond them be positive")
        require(self.low <= self.high, "low must be no more than high")

    @staticmethod
    def of(values: Numbers) -> QuantileNormal:
        """The coder of the values of a column, which are not all the same."""
        distinct, counts = np.unique(values, return_counts=True)
        below = np.cumsum(counts) - counts / 2
        return _through(distinct, below / len(values), values, float(distinct[0]), float(distinct[-1]))

    @staticmethod
    def of_lattice(values: Numbers, step: float) -> QuantileNormal:
        """The coder of values of a lattice that are spread evenly over their bins: exact at the edges of the bins."""
        distinct, counts = np.unique(values, return_counts=True)
        gaps = np.concatenate([[False], np.diff(distinct) > 1.5 * step])
        masses = np.stack([np.where(gaps, GAP, 0.0), counts.astype(np.float64)], 1).reshape(-1)
        upto = np.cumsum(masses) + 0.5  # half an item lies beyond either end, where a normal variable has some
        places = np.stack([distinct - step / 2, distinct + step / 2], 1).reshape(-1)
        new = np.stack([gaps, np.ones_like(gaps)], 1).reshape(-1)
        new[0] = True
        parts = upto / (len(values) + 1 + GAP * gaps.sum())
        places, parts = places[new], parts[new]
        inner = min(WITHIN, KNOTS // len(places))
        if inner > 1:  # a straight line across a wide bin would not be normal
            at = np.arange((len(places) - 1) * inner + 1) / inner
            places, parts = (np.interp(at, np.arange(len(side)), side) for side in (places, parts))
        return _through(places, parts, values, float(distinct[0]), float(distinct[-1]))

    @property
    def words(self) -> str:
        return f"quantile-normal, {len(self.values)} knots from {self.low:.4g} to {self.high:.4g}"

    def encode(self, values: Numbers) -> Numbers:
        return _lines(values, self._knots[0], self._knots[1], self.beyond)

    def decode(self, x: Numbers) -> Numbers:
        return np.clip(_lines(x, self._knots[1], self._knots[0], 1 / self.beyond), self.low, self.high)

    def log_slope(self, values: Numbers) -> Numbers:
        own, normal = self._knots
        slopes = np.log(np.concatenate([[self.beyond], np.diff(normal) / np.diff(own), [self.beyond]]))
        return np.asarray(slopes[np.searchsorted(own, values, side="right")])

    @property
    def _knots(self) -> tuple[Numbers, Numbers]:
        return np.array(self.values, np.float64), np.array(self.normals, np.float64)


def _through(places: Numbers, parts: Numbers, values: Numbers, low: float, high: float) -> QuantileNormal:
    """The coder through at most `KNOTS` of these points, half evenly spaced in their parts of the data and half as normal
    variables, both ends among them."""
    normal = NormalDist()
    if len(places) > KNOTS:
        ends = [normal.inv_cdf(float(part)) for part in parts[[0, -1]]]
        even = [normal.cdf(x) for x in np.linspace(ends[0], ends[1], KNOTS // 2)]
        chosen = np.searchsorted(parts, np.concatenate([np.linspace(parts[0], parts[-1], KNOTS // 2), even]))
        chosen = np.unique(np.concatenate([[0], np.clip(chosen, 0, len(parts) - 1), [len(parts) - 1]]))
        places, parts = places[chosen], parts[chosen]
    normals = np.array([normal.inv_cdf(float(part)) for part in parts])
    rises = (np.diff(places) > 0) & (np.diff(normals) > 0)  # what float64 cannot tell apart is one point
    distinct = np.concatenate([[True], rises])
    places, normals = places[distinct], normals[distinct]
    beyond = 1.0 / float(values.std())
    return QuantileNormal(tuple(places.tolist()), tuple(normals.tolist()), beyond, low, high)


def _lines(at: Numbers, places: Numbers, heights: Numbers, beyond: float) -> Numbers:
    """Straight lines through points, and beyond the outermost ones lines of a slope."""
    inner = np.interp(at, places, heights)
    below, above = np.minimum(at - places[0], 0.0), np.maximum(at - places[-1], 0.0)
    return np.asarray(inner + beyond * (below + above))
