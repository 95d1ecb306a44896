"""Priors of parameters, each with the map under which it is N(0, I): a network learns there, and no sample leaves the support.

A prior is any object with these methods; `theta` is (N, D), float64. In the coordinates u of a prior every parameter is standard
normal before it is inferred, so that bounds are at infinity, and the prior's score at every noise level is known.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from ornstein.errors import UsageError

Array = NDArray[np.float64]
EDGE = 1e-15  # of a box, within which a number is on its edge


class Prior(Protocol):
    """What `posterior` needs of a prior."""

    @property
    def size(self) -> int:
        """The number of parameters."""
        ...

    def to_normal(self, theta: Array) -> Array:
        """Parameters to their coordinates. Raises UsageError outside of the support."""
        ...

    def from_normal(self, u: Array) -> Array:
        """Coordinates to parameters, within the support."""
        ...

    def log_prob(self, theta: Array) -> Array:
        """log p(theta), (N,) nats, −∞ outside of the support."""
        ...


def log_slope(prior: Prior, theta: Array) -> Array:
    """log |du/dθ| at parameters (N, D): log p(θ) less the density of N(0, I) at u, (N,)."""
    u = prior.to_normal(theta)
    return prior.log_prob(theta) + 0.5 * (np.square(u) + math.log(2 * math.pi)).sum(1)


def draw(prior: Prior, count: int, seed: int = 0) -> Array:
    """Independent draws (count, D) of a prior, the same for the same seed."""
    return prior.from_normal(np.random.default_rng(seed).standard_normal((count, prior.size)))


@dataclass(frozen=True)
class Box:
    """Uniform between `low` and `high`, a number or one for each parameter. u = Φ⁻¹((θ − low)/(high − low)).

    Raises UsageError unless low < high, both finite, for each parameter.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]

    def __init__(self, low: Sequence[float] | float, high: Sequence[float] | float) -> None:
        lows, highs = np.broadcast_arrays(np.atleast_1d(np.asarray(low, float)), np.atleast_1d(np.asarray(high, float)))
        if lows.ndim != 1 or not (np.isfinite(lows).all() and np.isfinite(highs).all() and (lows < highs).all()):
            raise UsageError(f"Box: low {low} and high {high} must be finite, and low below high in each parameter")
        object.__setattr__(self, "low", tuple(lows.tolist()))
        object.__setattr__(self, "high", tuple(highs.tolist()))

    @property
    def size(self) -> int:
        """The number of parameters."""
        return len(self.low)

    def to_normal(self, theta: Array) -> Array:
        """Φ⁻¹ of where in the box each parameter lies. Raises UsageError for one outside of it."""
        part = (theta - np.array(self.low)) / (np.array(self.high) - np.array(self.low))
        outside = ~((part >= 0) & (part <= 1))
        if outside.any():
            row, k = np.argwhere(outside)[0].tolist()
            raise UsageError(
                f"prior: parameter {k} of row {row} is {theta[row, k]:g}, outside of {self.low[k]:g} to {self.high[k]:g}"
            )
        return torch.special.ndtri(torch.from_numpy(np.clip(part, EDGE, 1 - EDGE))).numpy()

    def from_normal(self, u: Array) -> Array:
        """Within the box, its edges included."""
        low, high = np.array(self.low), np.array(self.high)
        part = torch.special.ndtr(torch.from_numpy(np.asarray(u, np.float64))).numpy()
        return np.clip(low + (high - low) * part, low, high)

    def log_prob(self, theta: Array) -> Array:
        """Constant in the box, −∞ outside of it."""
        low, high = np.array(self.low), np.array(self.high)
        inside = ((theta >= low) & (theta <= high)).all(1)
        return np.where(inside, -np.log(high - low).sum(), -np.inf)

    def truncated(self, low: Array, high: Array) -> "Box":
        """The box of both."""
        return Box(np.maximum(self.low, low), np.minimum(self.high, high))  # type: ignore[arg-type]


@dataclass(frozen=True)
class IndependentNormal:
    """N(mean, std²) of each parameter, a number or one for each. u = (θ − mean)/std.

    Raises UsageError for numbers that are not finite, or a std that is not positive.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __init__(self, mean: Sequence[float] | float, std: Sequence[float] | float) -> None:
        means, stds = np.broadcast_arrays(np.atleast_1d(np.asarray(mean, float)), np.atleast_1d(np.asarray(std, float)))
        if means.ndim != 1 or not (np.isfinite(means).all() and np.isfinite(stds).all() and (stds > 0).all()):
            raise UsageError(f"IndependentNormal: mean {mean} and std {std} must be finite, and std positive")
        object.__setattr__(self, "mean", tuple(means.tolist()))
        object.__setattr__(self, "std", tuple(stds.tolist()))

    @property
    def size(self) -> int:
        """The number of parameters."""
        return len(self.mean)

    def to_normal(self, theta: Array) -> Array:
        """(θ − mean)/std."""
        return np.asarray((theta - np.array(self.mean)) / np.array(self.std))

    def from_normal(self, u: Array) -> Array:
        """mean + std·u."""
        return np.array(self.mean) + np.array(self.std) * np.asarray(u, np.float64)

    def log_prob(self, theta: Array) -> Array:
        """The normal density."""
        u = self.to_normal(theta)
        return np.asarray(-0.5 * np.square(u).sum(1) - (np.log(self.std) + 0.5 * math.log(2 * math.pi)).sum())


@dataclass(frozen=True)
class JoinedPriors:
    """Parameters of several priors behind each other, independent."""

    parts: tuple[Any, ...]

    @property
    def size(self) -> int:
        """The number of parameters."""
        return sum(part.size for part in self.parts)

    def to_normal(self, theta: Array) -> Array:
        """By the map of each."""
        return np.concatenate([part.to_normal(some) for part, some in self._split(theta)], 1)

    def from_normal(self, u: Array) -> Array:
        """By the map of each."""
        return np.concatenate([part.from_normal(some) for part, some in self._split(u)], 1)

    def log_prob(self, theta: Array) -> Array:
        """The sum of theirs."""
        return np.asarray(sum(part.log_prob(some) for part, some in self._split(theta)))

    def _split(self, values: Array) -> list[tuple[Any, Array]]:
        edges = np.cumsum([part.size for part in self.parts])[:-1]
        return list(zip(self.parts, np.split(np.asarray(values), edges, axis=1), strict=True))


def as_prior(value: Any) -> Prior | None:
    """A prior, or a pair (low, high) as a `Box`. Raises TypeError for anything else."""
    if value is None:
        return None
    if isinstance(value, tuple) and len(value) == 2:
        return Box(*value)
    if not all(hasattr(value, name) for name in ("size", "to_normal", "from_normal", "log_prob")):
        raise TypeError(
            f"prior = {value!r:.80} must be a pair (low, high), a prior of ornstein.inference, or "
            "an object with size, to_normal, from_normal and log_prob"
        )
    prior: Prior = value
    return prior
