"""Interfaces of coders: from the numbers of one column to dimensions of the model and back. NumPy alone."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
SPREAD = 2.0  # deviation of a code of states, all its dimensions together: twice that of a number


class Coder(ABC):
    """Abstract, frozen: plain numbers say all of it, so JSON holds it."""

    def to_json(self) -> dict[str, Any]:
        """Its type and fields as plain values."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}  # type: ignore[arg-type]
        plain = {
            key: value.to_json() if isinstance(value, Coder) else list(value) if isinstance(value, tuple) else value
            for key, value in values.items()
        }
        return {"type": type(self).__name__, **plain}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`, without the type. Raises KeyError, TypeError or ValueError."""
        return cls(**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})

    @property
    @abstractmethod
    def words(self) -> str:
        """A few words for people."""


class ValueCoder(Coder):
    """Numbers `(N,)` of a column as one dimension of the model, and back: strictly increasing where it is not rounded."""

    @property
    def step(self) -> float:
        """The distance of neighbouring values where the column is a lattice, whose values are dequantised; else 0."""
        return 0.0

    @abstractmethod
    def encode(self, values: Numbers) -> Numbers:
        """Own units to model units."""

    @abstractmethod
    def decode(self, x: Numbers) -> Numbers:
        """Model units to own units, within the range of the training data."""

    @abstractmethod
    def log_slope(self, values: Numbers) -> Numbers:
        """log |dx/dv| at own values: what is added to a log-density in model units for one in own units."""


class StateCoder(Coder):
    """One of `count` states `(N,)` as `width` dimensions of the model, and the nearest state back."""

    count: int

    @property
    @abstractmethod
    def width(self) -> int:
        """The number of dimensions."""

    @property
    @abstractmethod
    def parts(self) -> tuple[tuple[tuple[float, ...], float], ...]:
        """Of each independent part of the code, in order, the shares of its values and its scale (`networks.codes`)."""

    @abstractmethod
    def encode(self, states: NDArray[np.int64]) -> Numbers:
        """States (N,) to model units (N, width)."""

    @abstractmethod
    def decode(self, x: Numbers) -> NDArray[np.int64]:
        """Model units (N, width) to the nearest states (N,)."""

    @abstractmethod
    def probabilities(self, x: Numbers) -> Numbers:
        """The chances (N, count) of the states, of the mean (N, width) of what encodes them."""


def require(condition: bool, message: str) -> None:
    """Raises ValueError with the message unless the condition holds: for values that come from files."""
    if not condition:
        raise ValueError(message)
