"""One of many states as the digits of its number in base two (Chen, Zhang and Hinton 2022, "Analog Bits")."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ornstein.data.coders.coder import Numbers, StateCoder, require


@dataclass(frozen=True)
class AnalogBits(StateCoder):
    """The bits of the state's number, −1 and 1, the lowest first; back to the nearest of those that are states."""

    states: int

    def __post_init__(self) -> None:
        require(type(self.states) is int and 2 <= self.states <= 1 << 20, "states must be a whole number, 2 or more")

    @staticmethod
    def of(counts: NDArray[np.int64]) -> AnalogBits:
        """The coder of states that occur so often."""
        return AnalogBits(len(counts))

    @property
    def count(self) -> int:  # type: ignore[override]
        return self.states

    @property
    def width(self) -> int:
        return (self.states - 1).bit_length()

    @property
    def words(self) -> str:
        return f"{self.width} analog bits for {self.states} states"

    @property
    def parts(self) -> tuple[tuple[tuple[float, ...], float], ...]:
        return (((0.5,), 2.0),) * self.width

    def encode(self, states: NDArray[np.int64]) -> Numbers:
        return np.asarray(2.0 * ((states[:, None] >> np.arange(self.width)) & 1) - 1.0)

    def decode(self, x: Numbers) -> NDArray[np.int64]:
        plain = ((x > 0).astype(np.int64) << np.arange(self.width)).sum(1)
        beyond = plain >= self.states
        if beyond.any():
            plain[beyond] = np.argmax(x[beyond] @ self.encode(np.arange(self.states)).T, axis=1)
        return np.asarray(plain)

    def probabilities(self, x: Numbers) -> Numbers:
        """The product of the bits' chances, as if they were independent."""
        one = np.clip((x + 1) / 2, 1e-6, 1 - 1e-6)
        codes = self.encode(np.arange(self.states)) > 0
        log = np.log(one) @ codes.T + np.log1p(-one) @ (~codes).T
        weights = np.exp(log - log.max(1, keepdims=True))
        return np.asarray(weights / weights.sum(1, keepdims=True))
