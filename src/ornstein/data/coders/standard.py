"""A number by its mean and deviation."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ornstein.data.coders.coder import Numbers, ValueCoder, require


@dataclass(frozen=True)
class StandardCoder(ValueCoder):
    """`x = (v − mean)/std`. Samples are held to `low` and `high`, the range of the training data."""

    mean: float
    std: float
    low: float
    high: float

    def __post_init__(self) -> None:
        numbers = (self.mean, self.std, self.low, self.high)
        require(all(type(v) in (int, float) and math.isfinite(v) for v in numbers), "a coder's numbers must be finite")
        require(self.std > 0 and self.low <= self.high, "std must be positive and low no more than high")

    @staticmethod
    def of(values: Numbers) -> StandardCoder:
        """The coder of the values of a column, which are not all the same."""
        return StandardCoder(float(values.mean()), float(values.std()) or 1.0, float(values.min()), float(values.max()))

    @property
    def words(self) -> str:
        return f"standard, {self.mean:.4g} ± {self.std:.4g}"

    def encode(self, values: Numbers) -> Numbers:
        return (values - self.mean) / self.std

    def decode(self, x: Numbers) -> Numbers:
        return np.clip(x * self.std + self.mean, self.low, self.high)

    def log_slope(self, values: Numbers) -> Numbers:
        return np.full(np.shape(values), -math.log(self.std))
