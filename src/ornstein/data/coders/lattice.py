"""Values of a lattice, such as whole numbers: dequantised by uniform noise within their bins, and rounded back exactly."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ornstein.data.coders.coder import Numbers, ValueCoder, require


@dataclass(frozen=True)
class Lattice(ValueCoder):
    """The values `width·k`, coded by `inner` with noise from −width/2 to width/2, which the caller adds."""

    width: float
    inner: ValueCoder
    low: float
    high: float

    def __post_init__(self) -> None:
        numbers = (self.width, self.low, self.high)
        require(all(type(v) in (int, float) and math.isfinite(v) for v in numbers), "a coder's numbers must be finite")
        require(self.width > 0 and self.low <= self.high, "width must be positive, and low no more than high")

    @property
    def step(self) -> float:
        return self.width

    @property
    def words(self) -> str:
        whole = "whole numbers" if self.width == 1 else f"multiples of {self.width:g}"
        return f"{whole}, dequantised, {self.inner.words}"

    def encode(self, values: Numbers) -> Numbers:
        return self.inner.encode(values)

    def decode(self, x: Numbers) -> Numbers:
        rounded = np.rint(self.inner.decode(x) / self.width) * self.width
        return np.clip(rounded, self.low, self.high) + 0.0  # no −0

    def log_slope(self, values: Numbers) -> Numbers:
        return self.inner.log_slope(values)
