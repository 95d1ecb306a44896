"""A number between two bounds that no sample may cross, by its logit."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ornstein.data.coders.coder import Numbers, ValueCoder, require

EDGE = 1e-6  # of the width: a number nearer to a bound is taken for one so near


@dataclass(frozen=True)
class LogitCoder(ValueCoder):
    """`x = (logit u − mean)/std` with `u = (v − low)/(high − low)`, held to 10⁻⁶ from both bounds."""

    low: float
    high: float
    mean: float = 0.0
    std: float = 1.0

    def __post_init__(self) -> None:
        numbers = (self.low, self.high, self.mean, self.std)
        require(all(type(v) in (int, float) and math.isfinite(v) for v in numbers), "a coder's numbers must be finite")
        require(self.low < self.high and self.std > 0, "low must be below high, and std positive")

    @staticmethod
    def of(values: Numbers, low: float, high: float) -> LogitCoder:
        """The coder of values between bounds."""
        logits = LogitCoder(low, high).encode(values)
        return LogitCoder(low, high, float(logits.mean()), float(logits.std()) or 1.0)

    @property
    def words(self) -> str:
        return f"logit between {self.low:g} and {self.high:g}"

    def encode(self, values: Numbers) -> Numbers:
        u = self._unit(values)
        return np.asarray((np.log(u) - np.log1p(-u) - self.mean) / self.std)

    def decode(self, x: Numbers) -> Numbers:
        u = 0.5 * (1 + np.tanh(0.5 * (x * self.std + self.mean)))
        return np.clip(self.low + (self.high - self.low) * u, self.low, self.high)

    def log_slope(self, values: Numbers) -> Numbers:
        u = self._unit(values)
        return np.asarray(-np.log(u) - np.log1p(-u) - math.log(self.std * (self.high - self.low)))

    def _unit(self, values: Numbers) -> Numbers:
        return np.clip((values - self.low) / (self.high - self.low), EDGE, 1 - EDGE)
