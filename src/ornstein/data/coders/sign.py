"""One of two states as one dimension."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ornstein.data.coders.coder import SPREAD, Numbers, StateCoder, require


@dataclass(frozen=True)
class Sign(StateCoder):
    """`x = scale·(state − share)` of the states 0 and 1; `share` is the part of 1 in the training data, so that its mean is 0."""

    share: float
    scale: float

    def __post_init__(self) -> None:
        numbers = (self.share, self.scale)
        require(all(type(v) in (int, float) and math.isfinite(v) for v in numbers), "a coder's numbers must be finite")
        require(0 <= self.share <= 1 and self.scale > 0, "the share must be from 0 to 1, and the scale positive")

    @staticmethod
    def of(counts: NDArray[np.int64]) -> Sign:
        """The coder of two states that occur so often."""
        share = float(counts[1] / counts.sum())
        return Sign(share, SPREAD * max(share * (1 - share), 0.025) ** -0.5)

    @property
    def count(self) -> int:  # type: ignore[override]
        return 2

    @property
    def width(self) -> int:
        return 1

    @property
    def words(self) -> str:
        return "two states in one dimension"

    @property
    def parts(self) -> tuple[tuple[tuple[float, ...], float], ...]:
        return (((self.share,), self.scale),)

    def encode(self, states: NDArray[np.int64]) -> Numbers:
        return np.asarray(self.scale * (states[:, None] - self.share), np.float64)

    def decode(self, x: Numbers) -> NDArray[np.int64]:
        return (x[:, 0] / self.scale + self.share > 0.5).astype(np.int64)

    def probabilities(self, x: Numbers) -> Numbers:
        one = np.clip(x[:, 0] / self.scale + self.share, 0.0, 1.0)
        return np.stack([1 - one, one], 1)
