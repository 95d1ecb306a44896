"""Coders of columns: one small class each, with its inverse and its Jacobian."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ornstein.data.coders.bits import AnalogBits
from ornstein.data.coders.coder import Coder, Numbers, StateCoder, ValueCoder
from ornstein.data.coders.lattice import Lattice
from ornstein.data.coders.logit import LogitCoder
from ornstein.data.coders.one_hot import OneHot
from ornstein.data.coders.quantile import QuantileNormal
from ornstein.data.coders.sign import Sign
from ornstein.data.coders.standard import StandardCoder

VALUES: tuple[type[ValueCoder], ...] = (QuantileNormal, StandardCoder, LogitCoder, Lattice)
STATES: tuple[type[StateCoder], ...] = (OneHot, Sign, AnalogBits)
ALL: tuple[type[Coder], ...] = (*VALUES, *STATES)
NAMED = {kind.__name__: kind for kind in ALL}


def from_json(values: Mapping[str, Any]) -> Any:
    """The coder of `to_json`. Raises KeyError, TypeError or ValueError."""
    inner = {key: from_json(value) if isinstance(value, Mapping) else value for key, value in values.items()}
    return NAMED[str(inner.pop("type"))].from_json(inner)


__all__ = [
    "ALL",
    "NAMED",
    "STATES",
    "VALUES",
    "AnalogBits",
    "Coder",
    "Lattice",
    "LogitCoder",
    "Numbers",
    "OneHot",
    "QuantileNormal",
    "Sign",
    "StandardCoder",
    "StateCoder",
    "ValueCoder",
    "from_json",
]
