"""Sources of noise for samplers: noise(x, t, s) -> standard normal of the shape of x, for the step from t to s.

Any function of this form will do, such as `lambda x, t, s: torch.randn_like(x)`. The sources here are pure functions, so that
a run repeats. Times are numbers, or tensors (B,) where each row takes a step of its own (adaptive step sizes). A method that
draws more than once for the same times, as Langevin steps at one level do, takes the k-th draw from `repeat(noise, k)`.
"""

import math
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

NoiseSource = Callable[[Tensor, Any, Any], Tensor]
Moment = float | Tensor

_MASK = (1 << 64) - 1


def mix(*values: int) -> int:
    """A 63-bit seed from integers, by rounds of the splitmix64 finaliser (Steele, Lea and Flood 2014)."""
    state = 0
    for value in values:
        state = (state + value + 0x9E3779B97F4A7C15) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
        state ^= state >> 31
    return state >> 1


def bits(value: float) -> int:
    """The 64 bits of a float, so that a time can be part of a seed."""
    return int(struct.unpack("<Q", struct.pack("<d", value))[0])


def repeat(noise: NoiseSource, k: int) -> NoiseSource:
    """The k-th further source of `noise` (k = 1, 2, ...), independent of it and of every other k, for further draws at one time.

    A source that is a pure function has a method `repeat(k)`; any other function draws afresh each time and is returned.
    """
    make = getattr(noise, "repeat", None)
    return noise if make is None else make(k)


def of_row(noise: NoiseSource, row: int, x: Tensor, t: Moment, s: Moment) -> Tensor:
    """The fresh noise of one row of a table, from time t to time s.

    Rows that lead back up to more noise (churn) overlap those around them: each draws from a source of its own, so that the
    draws of a run are independent also where noise follows one path.
    """
    return (repeat(noise, 1 + row) if s > t else noise)(x, t, s)


def skip(noise: NoiseSource, rows: int) -> NoiseSource:
    """The source whose row i is row `rows` + i of `noise`, for a later batch of one run.

    A source that draws by row has a method `skip(rows)`; any other function draws afresh each time and is returned.
    """
    make = getattr(noise, "skip", None)
    return noise if make is None or rows == 0 else make(rows)


@dataclass(frozen=True)
class PerSampleNoise:
    """Row i is a pure function of (seed, first + i, stream, t, s) and its own shape: never of the batch, device or dtype.

    A sample is therefore the same alone and among others; `first` numbers the rows of a later batch. The start of a run
    is drawn with t = s = the grid's first time. The numbers are those of the counter-based generator Philox (Salmon et
    al. 2011) with the key (seed, row) and a counter that begins at (0, stream, t, s), so no two streams share a block.
    """

    seed: int = 0
    first: int = 0
    stream: int = 0

    def repeat(self, k: int) -> Self:
        """The same source on its stream k: see `repeat`."""
        return replace(self, stream=k)

    def skip(self, rows: int) -> Self:
        """The same source from a later row on: see `skip`."""
        return replace(self, first=self.first + rows)

    def __call__(self, x: Tensor, t: Moment, s: Moment) -> Tensor:
        philox = np.random.Philox(0)
        normal, state = np.random.Generator(philox).standard_normal, philox.state  # a state with nothing buffered
        drawn = np.empty((len(x), x.shape[1:].numel()), dtype=np.float32)
        for i, (row, at, to) in enumerate(zip(drawn, _each(t, len(x)), _each(s, len(x)), strict=True), self.first):
            counter = np.array([0, self.stream, bits(at), bits(to)], dtype=np.uint64)
            key = np.array([self.seed & _MASK, i & _MASK], dtype=np.uint64)
            philox.state = {**state, "state": {"counter": counter, "key": key}}
            normal(dtype=np.float32, out=row)
        return torch.from_numpy(drawn).reshape(x.shape).to(x.device, x.dtype)


@dataclass(frozen=True)
class RowsOf:
    """Some rows of a source, by their numbers: what a batch of items draws that are no neighbours."""

    source: PerSampleNoise
    rows: tuple[int, ...]

    def repeat(self, k: int) -> Self:
        """The same rows of the source on its stream k: see `repeat`."""
        return replace(self, source=self.source.repeat(k))

    def skip(self, rows: int) -> Self:
        """The rows from a later one on: see `skip`."""
        return replace(self, rows=self.rows[rows:])

    def __call__(self, x: Tensor, t: Moment, s: Moment) -> Tensor:
        times = zip(_each(t, len(x)), _each(s, len(x)), self.rows, strict=True)
        return torch.cat([self.source.skip(row)(x[i : i + 1], at, to) for i, (at, to, row) in enumerate(times)])


@dataclass(frozen=True)
class BrownianNoise:
    """Increments of one Brownian path W per row, (W(s) − W(t))/√|t − s|: 50 and 100 steps of an SDE follow the same path.

    The clock is the time t of the path, from 0 to 1. Increments over adjoining steps compose,
    √(t − r)·ξ(t, r) = √(t − s)·ξ(t, s) + √(s − r)·ξ(s, r), so an SDE solver converges to one result as its grid is refined.
    W is a virtual Brownian tree (Li et al. 2020, algorithm 3): midpoints of nested intervals are bridges keyed by their
    place, so any time is reached in `depth` halvings, in any order, with nothing remembered; a last bridge, keyed by the time
    itself, leads to t. Intervals are halved in √t, which is finer near the data, and their noise is of 16 bits (inverse
    distribution function), whose weighted sum is returned. Every draw has variance 1; two times in one of the 2^depth
    last intervals, at most 2^(1−depth) apart, are correlated only approximately.
    Like `PerSampleNoise`, row i depends on (seed, first + i, stream) alone; t = s (the start of a run) is drawn by it.
    A method that goes back up to more noise (churn) draws for that from other streams: see `of_row`.
    Raises ValueError for times outside [0, 1].
    """

    seed: int = 0
    first: int = 0
    stream: int = 0
    depth: int = 12

    def __post_init__(self) -> None:
        if not 1 <= self.depth <= 40:
            raise ValueError(f"BrownianNoise: depth = {self.depth} must lie in 1..40")

    def repeat(self, k: int) -> Self:
        """The path of stream k: see `repeat`."""
        return replace(self, stream=k)

    def skip(self, rows: int) -> Self:
        """The same source from a later row on: see `skip`."""
        return replace(self, first=self.first + rows)

    def __call__(self, x: Tensor, t: Moment, s: Moment) -> Tensor:
        drawn = np.empty((len(x), x.shape[1:].numel()), dtype=np.float32)
        if (isinstance(t, Tensor) and t.ndim) or (isinstance(s, Tensor) and s.ndim):
            for i, (at, to) in enumerate(zip(_each(t, len(x)), _each(s, len(x)), strict=True)):
                self._fill(drawn[i : i + 1], self.first + i, at, to)
        else:
            self._fill(drawn, self.first, float(t), float(s))
        return torch.from_numpy(drawn).reshape(x.shape).to(x.device, x.dtype)

    def _fill(self, drawn: np.ndarray, first: int, t: float, s: float) -> None:
        """Rows (n, D), numbered from `first`, of one step."""
        if t == s:
            start = PerSampleNoise(self.seed, first, self.stream)
            drawn[:] = start(torch.from_numpy(drawn), t, s).numpy()
            return
        philox, (rows, size) = np.random.Philox(0), drawn.shape
        blocks = -(-size // 16)  # of Philox for a row: 4 words, each of 4 numbers; row i begins at block i·blocks
        fresh, key = philox.state, np.array([self.seed & _MASK, self.stream & _MASK], dtype=np.uint64)
        drawn[:] = 0
        for (place, kind), weight in _increment(t, s, self.depth):
            begin = first * blocks
            counter = np.array([begin & _MASK, begin >> 64 & _MASK, place, kind], dtype=np.uint64)
            philox.state = {**fresh, "state": {"counter": counter, "key": key}}
            words = philox.random_raw(rows * blocks * 4).astype("<u8", copy=False).view("<u2").reshape(rows, -1)
            drawn += np.take(_quantiles() * np.float32(weight), words[:, :size], mode="clip")


def _each(moment: Moment, rows: int) -> list[float]:
    """The time of each row."""
    if isinstance(moment, Tensor) and moment.ndim:
        return moment.tolist()
    return [float(moment)] * rows


_NODE, _LEAF = _MASK, _MASK - 1  # last words of counters; no time has these bits
_Weights = dict[tuple[int, int], float]


def _tree(t: float, depth: int) -> _Weights:
    """W(t) as Σ weight·Z, the normals Z named by two words of a counter (Lévy's construction: tents on nested intervals).

    The midpoint m of [l, r] adds Z·√((m − l)(r − m)/(r − l)) times a tent that is 1 at m and 0 at l and r.
    """
    if not 0 <= t <= 1:
        raise ValueError(f"BrownianNoise: the time {t:g} lies outside [0, 1], where its path runs")
    weights: _Weights = {(0, _NODE): t}  # W(1)
    low, high, place = 0.0, 1.0, 1
    for _ in range(depth):
        middle = (low + high) / 2
        left, m, right = low * low, middle * middle, high * high
        tent = (t - left) / (m - left) if t < m else (right - t) / (right - m)
        weights[place, _NODE] = tent * math.sqrt((m - left) * (right - m) / (right - left))
        low, high, place = (low, middle, 2 * place) if t < m else (middle, high, 2 * place + 1)
    left, right = low * low, high * high
    weights[bits(t), _LEAF] = math.sqrt((t - left) * (right - t) / (right - left))
    return weights


@lru_cache(maxsize=4096)
def _increment(t: float, s: float, depth: int) -> tuple[tuple[tuple[int, int], float], ...]:
    """(W(s) − W(t))/√|s − t| as names and weights of standard normals."""
    weights = _tree(s, depth)
    for name, weight in _tree(t, depth).items():
        weights[name] = weights.get(name, 0.0) - weight
    norm = math.hypot(*weights.values())
    return tuple((name, weight / norm) for name, weight in weights.items() if weight != 0)


@cache
def _quantiles() -> np.ndarray:
    """The standard normal in 2^16 equally likely values, of variance 1."""
    middles = (torch.arange(1 << 16, dtype=torch.float64) + 0.5) / (1 << 16)
    values = torch.special.ndtri(middles)
    return (values / values.square().mean().sqrt()).float().numpy()
