"""Are draws from conditional distributions what they say? Ranks, coverage, TARP and CRPS of draws beside the true numbers.

Each of N items has K draws given what is known of it, and the truth. If both come from one distribution, then

- the rank of the truth among the draws is uniform on 0 … K (simulation-based calibration; Talts et al. 2018, theorem 1);
- a central interval of level p holds the truth with probability p (expected coverage);
- so does the ball around any reference point that holds a part p of the draws (TARP; Lemos et al. 2023, theorem 2), which also
  sees how numbers hang together, and posteriors that are the prior;
- a region of highest density of level p holds it too (Hermans et al. 2022, section 3), where densities are given.

The continuous ranked probability score of `metrics.crps` is lowest for the true distribution.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ornstein.errors import UsageError
from ornstein.metrics.crps import crps
from ornstein.metrics.score import Score, proportion, smooth

LEVELS = (0.5, 0.8, 0.9, 0.95)
GRID = np.linspace(0.05, 0.95, 19)
Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Calibration:
    """What ranks say, each a part of 1: `ranks` (N, D) of each number among its draws, NaN where it was known; `balls` (N,) of
    the whole by TARP; `densities` (N,) by log-density, where these were computed. `crps` (N, D) in the units of the numbers.

    `names` of the numbers are of columns, each with a unit of its own; without, all have one.
    """

    draws: int
    ranks: Array
    balls: Array
    crps: Array
    densities: Array | None = None
    names: tuple[str, ...] = ()

    @property
    def scores(self) -> list[Score]:
        """Coverage of central intervals, TARP and regions of highest density by level, and CRPS, with 95 % intervals.

        CRPS is the mean over numbers, which have one unit; of columns it is of each of numbers, in its own.
        """
        scores = [_together(f"central {level:.0%}", self.ranks, level) for level in LEVELS]
        scores += [_held(f"TARP {level:.0%}", self.balls <= level) for level in LEVELS]
        if self.densities is not None:
            scores += [_held(f"highest density {level:.0%}", self.densities <= level) for level in LEVELS]
        if not self.names:
            return [*scores, _mean("CRPS", np.nanmean(self.crps, axis=1))]
        columns = [(name, column[~np.isnan(column)]) for name, column in zip(self.names, self.crps.T, strict=True)]
        return [*scores, *(_mean(f"CRPS of {name}", column) for name, column in columns if len(column) > 1)]

    @property
    def uniform(self) -> dict[str, float]:
        """For each number and for TARP the probability of ranks that are as far from uniform (Kolmogorov and Smirnov)."""
        columns = {self._name(k): column[~np.isnan(column)] for k, column in enumerate(self.ranks.T)}
        columns |= {"TARP": self.balls} | ({} if self.densities is None else {"highest density": self.densities})
        return {name: kolmogorov(some) for name, some in columns.items() if len(some)}

    def curves(self) -> dict[str, list[Score]]:
        """Coverage by level, on an even grid, of central intervals of each number, and of the whole."""
        curves = {}
        for k, column in enumerate(self.ranks.T):
            there = column[~np.isnan(column)]
            if len(there):
                curves[self._name(k)] = [_held("", np.abs(there - 0.5) <= level / 2) for level in GRID]
        curves["TARP"] = [_held("", self.balls <= level) for level in GRID]
        if self.densities is not None:
            curves["highest density"] = [_held("", self.densities <= level) for level in GRID]
        return curves

    def to_json(self) -> dict[str, Any]:
        """Plain numbers: scores, probabilities, and coverage by level."""
        return {
            "draws": self.draws,
            "items": len(self.balls),
            "scores": [score.to_json() for score in self.scores],
            "uniform": self.uniform,
            "levels": GRID.tolist(),
            "coverage": {name: [score.value for score in curve] for name, curve in self.curves().items()},
        }

    def _name(self, k: int) -> str:
        return self.names[k] if self.names else f"number {k}"


def calibration(
    draws: Array,
    truth: Array,
    seed: int = 0,
    densities: tuple[Array, Array] | None = None,
    names: tuple[str, ...] = (),
    judged: NDArray[np.bool_] | None = None,
) -> Calibration:
    """draws (N, K, D) and truth (N, D), NaN where a number was known: see `Calibration`.

    densities: log-densities of the draws (N, K) and of the truth (N,).
    judged: (N, D), which numbers were not known. NaN is then a missing value, an outcome like others: below all numbers for
        ranks, and no number for the CRPS.

    Raises UsageError for shapes that do not fit, and for fewer than two draws.
    """
    count, each, size = draws.shape
    if truth.shape != (count, size) or each < 2 or not count:
        raise UsageError(
            f"calibration: draws of shape {draws.shape} and truth of shape {truth.shape} do not fit; give (N, K, D) and (N, D), "
            "K at least 2"
        )
    rng = np.random.default_rng(seed)
    lost = np.isnan(truth) if judged is None else ~judged
    score = crps(draws, np.where(lost, np.nan, truth))
    if judged is not None:
        draws, truth = _outcomes(draws, truth)
    ranks = np.where(lost, np.nan, _part(draws, truth, rng))
    inner = None if densities is None else _part(-densities[0], -densities[1], rng)  # of higher density than the truth
    return Calibration(each, ranks, _balls(draws, truth, lost, rng), score, inner, names)


def _outcomes(draws: Array, truth: Array) -> tuple[Array, Array]:
    """Both with a number below all others of its column where a value is missing."""
    both = np.concatenate([draws.reshape(-1, truth.shape[1]), truth])
    low, high = np.fmin.reduce(both), np.fmax.reduce(both)
    missing = np.nan_to_num(low - np.maximum(high - low, 1.0))
    return np.where(np.isnan(draws), missing, draws), np.where(np.isnan(truth), missing, truth)


def _balls(draws: Array, truth: Array, lost: NDArray[np.bool_], rng: np.random.Generator) -> Array:
    """The part of the draws that is nearer to a random reference point than the truth, uniform under calibration."""
    there, count = np.where(lost, 0.0, truth), np.maximum((~lost).sum(0), 1)
    middle = there.sum(0) / count
    scale = np.sqrt(np.where(lost, 0.0, np.square(there - middle)).sum(0) / count)
    scale = np.where(np.isfinite(scale) & (scale > 0), scale, 1.0)
    reference = middle + scale * rng.uniform(-2, 2, truth.shape)
    off = (np.concatenate([draws, truth[:, None]], 1) - reference[:, None]) / scale
    far = np.square(np.where(lost[:, None], 0.0, off)).sum(2)
    return _part(far[:, :-1], far[:, -1], rng)


def _part(draws: Array, truth: Array, rng: np.random.Generator) -> Array:
    """(rank + u)/(K + 1) of truth (N, ...) among draws (N, K, ...), ties broken at random: uniform on (0, 1), of outcomes that
    repeat too."""
    below, ties = (draws < truth[:, None]).sum(1), (draws == truth[:, None]).sum(1)
    return np.asarray((below + rng.random(truth.shape) * (ties + 1)) / (draws.shape[1] + 1))


def _mean(name: str, each: Array) -> Score:
    return smooth(name, float(each.mean()), torch.from_numpy(each))


def _held(name: str, inside: NDArray[np.bool_]) -> Score:
    return proportion(name, torch.from_numpy(np.ascontiguousarray(inside)))


def _together(name: str, ranks: Array, level: float) -> Score:
    """The part of all numbers that is inside; the numbers of one item depend on each other, so items are what is counted."""
    there = ~np.isnan(ranks)
    inside = (np.abs(np.where(there, ranks, np.inf) - 0.5) <= level / 2).sum(1)
    count = there.sum(1)
    if ranks.shape[1] == 1 or len(ranks) < 2:
        return _held(name, inside > 0)
    value = float(inside.sum() / count.sum())
    score = smooth(name, value, torch.from_numpy((inside - value * count) / count.mean()))
    return Score(name, value, max(0.0, score.low), min(1.0, score.high))


def kolmogorov(values: Array) -> float:
    """The probability that uniform numbers are as far from uniform: the limit distribution with Stephens' correction (1970)."""
    ordered, count = np.sort(values), len(values)
    steps = np.arange(count + 1) / count
    gap = max(float((steps[1:] - ordered).max()), float((ordered - steps[:-1]).max()))
    far = gap * (math.sqrt(count) + 0.12 + 0.11 / math.sqrt(count))
    if far < 0.3:
        return 1.0
    terms = (2 * (-1) ** (k - 1) * math.exp(-2 * (k * far) ** 2) for k in range(1, 101))
    return min(1.0, max(0.0, sum(terms)))
