"""One of a few states as a scaled indicator of each, and the largest back."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ornstein.data.coders.coder import SPREAD, Numbers, StateCoder, require


@dataclass(frozen=True)
class OneHot(StateCoder):
    """`x_k = scale·(1[state = k] − shares_k)`: `shares` are those of the training data, so that its mean is 0.

    `scale` makes the variances of all dimensions add up to `SPREAD`².
    """

    shares: tuple[float, ...]
    scale: float

    def __post_init__(self) -> None:
        numbers = (*self.shares, self.scale)
        require(all(type(v) in (int, float) and math.isfinite(v) for v in numbers), "a coder's numbers must be finite")
        require(len(self.shares) >= 2 and self.scale > 0, "states must be two or more, and the scale positive")

    @staticmethod
    def of(counts: NDArray[np.int64]) -> OneHot:
        """The coder of states that occur so often."""
        shares = counts / counts.sum()
        variance = max(1.0 - float(np.square(shares).sum()), 0.05)
        return OneHot(tuple(shares.tolist()), SPREAD * variance**-0.5)

    @property
    def count(self) -> int:  # type: ignore[override]
        return len(self.shares)

    @property
    def width(self) -> int:
        return len(self.shares)

    @property
    def words(self) -> str:
        return f"one-hot of {self.count}"

    @property
    def parts(self) -> tuple[tuple[tuple[float, ...], float], ...]:
        return ((self.shares, self.scale),)

    def encode(self, states: NDArray[np.int64]) -> Numbers:
        return np.asarray(self.scale * (np.eye(self.count)[states] - np.array(self.shares)))

    def decode(self, x: Numbers) -> NDArray[np.int64]:
        return np.argmax(x / self.scale + np.array(self.shares), axis=1)

    def probabilities(self, x: Numbers) -> Numbers:
        raw = np.clip(x / self.scale + np.array(self.shares), 0.0, None)
        total = raw.sum(1, keepdims=True)
        return np.where(total > 0, raw / np.where(total > 0, total, 1.0), 1.0 / self.count)
