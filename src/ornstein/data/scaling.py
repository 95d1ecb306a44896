"""The way between the data's own units and the model's, for numbers in model order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

BATCH_AXES = 2  # the items and the channels


@dataclass(frozen=True)
class Range:
    """`x = 2 (v - low) / (high - low) - 1`: a declared range of all channels becomes [-1, 1]."""

    low: float
    high: float

    def to_model(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Own units to model units."""
        scaled: NDArray[np.float64] = (values.astype(np.float64) - self.low) * (2.0 / (self.high - self.low)) - 1.0
        return scaled

    def of_bytes(self, x: Tensor) -> Tensor:
        """The same of bytes in float32, in place."""
        return x.sub_(self.low).mul_(2.0 / (self.high - self.low)).sub_(1.0)

    def from_model(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Model units to own units."""
        return (x + 1.0) * ((self.high - self.low) / 2.0) + self.low

    def log_slopes(self, channels: int) -> NDArray[np.float64]:
        """log |dx/dv|: one number, the same in all channels."""
        return np.array(np.log(2.0 / (self.high - self.low)))


@dataclass(frozen=True)
class Standard:
    """`x = (v - mean) / std` in each channel; a constant channel has std 0, is 0 for the model, and comes back so."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def to_model(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Own units (N, C, ...) to model units."""
        mean, std = (_along(part, values.ndim) for part in (self.mean, self.std))
        scaled: NDArray[np.float64] = (values - mean) / np.where(std > 0, std, 1.0)
        return scaled

    def from_model(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Model units (N, C, ...) to own units."""
        mean, std = (_along(part, x.ndim) for part in (self.mean, self.std))
        return x * std + mean

    def log_slopes(self, channels: int) -> NDArray[np.float64]:
        """log |dx/dv| of each channel (C,); infinite for a constant one."""
        with np.errstate(divide="ignore"):
            slopes: NDArray[np.float64] = -np.log(np.array(self.std))
        return slopes


def _along(numbers: tuple[float, ...], ndim: int) -> NDArray[np.float64]:
    """One number for each channel of an array (N, C, ...)."""
    return np.array(numbers).reshape(-1, *(1,) * (ndim - BATCH_AXES))
