"""Columns of a table: what each holds, how it is written, and which dimensions of the model belong to it.

A column has a state, a number, or both. The state of a category is the category; that of a number says whether it is a number
like others, one of its atoms (a value that repeats), or missing. Each state is coded by a `StateCoder`, the number by a
`ValueCoder`; where a number has no value (an atom, a missing one), its dimension is 0. A constant column has no dimension.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ornstein.data import cells as writing
from ornstein.data import coders
from ornstein.data.cells import Cells, NumberCells
from ornstein.data.coders import AnalogBits, Numbers, OneHot, Sign, StateCoder, ValueCoder
from ornstein.data.coders.coder import require
from ornstein.data.spec import ColumnDimensions

NARROW = 0.999  # of a bin that noise fills, so that rounding in 32 bits does not leave it
ONE_HOT = 64  # states up to which each has a dimension of its own


@dataclass(frozen=True)
class Column:
    """One column. `atoms` are the values that are states; `missing`: the last state is a missing value.

    `constant` is the one value of a column that has no other (NaN: it is always missing), which has no coder.
    """

    name: str
    type: str
    cells: Cells
    value: ValueCoder | None = None
    states: StateCoder | None = None
    atoms: tuple[float, ...] = ()
    missing: bool = False
    constant: float | None = None

    def __post_init__(self) -> None:
        require(type(self.name) is str and type(self.type) is str, "a column has a name and a type")
        own = 0 if self.states is None else self.states.count
        if self.value is not None:
            count = 1 + len(self.atoms) + self.missing
            require(own == count or (count == 1 and own == 0), f"column {self.name}: its states do not fit its atoms")
        else:
            require((own == 0) == (self.constant is not None), f"column {self.name}: it has neither states nor a value")

    @property
    def width(self) -> int:
        """The number of dimensions."""
        return (0 if self.states is None else self.states.width) + (self.value is not None)

    @property
    def is_numeric(self) -> bool:
        """Whether it holds numbers, dates among them, and not categories."""
        return self.value is not None

    @property
    def state_names(self) -> tuple[str, ...]:
        """A word for each state, as cells write it; `value` for numbers that have none of their own."""
        if self.value is not None:
            named = ("value", *(self.cells.text(atom) for atom in self.atoms))
        else:
            named = getattr(self.cells, "names", ())
        return (*named, self.cells.blank) if self.missing else named

    def state_of(self, values: Numbers) -> NDArray[np.int64]:
        """The states of values (N,)."""
        lacking = np.isnan(values)
        last = 0 if self.states is None else self.states.count - 1
        if self.value is None:
            return np.where(lacking, last, np.nan_to_num(values)).astype(np.int64)
        states = np.zeros(len(values), np.int64)
        for place, atom in enumerate(self.atoms, 1):
            states[values == atom] = place
        states[lacking] = last
        return states

    def has_number(self, values: Numbers) -> NDArray[np.bool_]:
        """Whether values (N,) are numbers in the dimension of the column's number."""
        if self.value is None:
            return np.zeros(len(values), np.bool_)
        return (self.state_of(values) == 0) & ~np.isnan(values)

    def encode(self, values: Numbers, dither: Numbers | None = None) -> Numbers:
        """Own units (N,) to model units (N, width). `dither` in [−½, ½) is where in its bin a value of a lattice lies."""
        parts: list[Numbers] = []
        if self.states is not None:
            parts.append(self.states.encode(self.state_of(values)))
        if self.value is not None:
            there = self.has_number(values)
            own = np.where(there, values, 0.0)
            if dither is not None and self.value.step:
                own = own + dither * (NARROW * self.value.step)
            parts.append(np.where(there, self.value.encode(own), 0.0)[:, None])
        return np.concatenate(parts, 1) if parts else np.empty((len(values), 0))

    def decode(self, x: Numbers) -> Numbers:
        """Model units (N, width) to own units (N,): the nearest state, rounded as the cells are."""
        if self.constant is not None:
            return np.full(len(x), self.constant)
        width = 0 if self.states is None else self.states.width
        states = np.zeros(len(x), np.int64) if self.states is None else self.states.decode(x[:, :width])
        if self.value is None:
            made = states.astype(np.float64)
        else:
            made = self.value.decode(x[:, width])
            if isinstance(self.cells, NumberCells):
                made = self.cells.rounded(made)
            for place, atom in enumerate(self.atoms, 1):
                made[states == place] = atom
        return (
            np.where(states == self.states.count - 1, np.nan, made)
            if self.missing and self.states is not None
            else made
        )

    def log_slope(self, values: Numbers) -> Numbers:
        """log |dx/dv| of values (N,), 0 where there is no number."""
        if self.value is None:
            return np.zeros(len(values))
        there = self.has_number(values)
        return np.where(there, self.value.log_slope(np.where(there, values, 0.0)), 0.0)

    def to_json(self) -> dict[str, Any]:
        """A dictionary of plain values."""
        return {
            "name": self.name,
            "type": self.type,
            "cells": self.cells.to_json(),
            "value": None if self.value is None else self.value.to_json(),
            "states": None if self.states is None else self.states.to_json(),
            "atoms": list(self.atoms),
            "missing": self.missing,
            "constant": "missing" if self.constant is not None and np.isnan(self.constant) else self.constant,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Column:
        """The inverse of `to_json`. Raises KeyError, TypeError or ValueError."""
        fields = dict(values)
        for key in ("value", "states"):
            fields[key] = None if fields[key] is None else coders.from_json(fields[key])
        fields["cells"] = writing.from_json(fields["cells"])
        fields["atoms"] = tuple(float(atom) for atom in fields["atoms"])
        fields["constant"] = float("nan") if fields["constant"] == "missing" else fields["constant"]
        return cls(**fields)

    @property
    def words(self) -> str:
        """What it is, for a line of text."""
        if self.constant is not None:
            return f"always {'missing' if np.isnan(self.constant) else self.cells.text(self.constant)}"
        parts = [] if self.value is None else [self.value.words]
        if self.value is None and self.states is not None:
            parts.append(self.states.words)
        if self.atoms:
            parts.append(f"atoms {', '.join(self.cells.text(atom) for atom in self.atoms)}")
        return ", ".join([*parts, *(["may be missing"] if self.missing else [])])


@dataclass(frozen=True)
class ColumnScaling:
    """The way between the own units of all columns (N, C) and model units (N, D), for `DataSpec.scaling`."""

    columns: tuple[Column, ...]

    @cached_property
    def dimensions(self) -> tuple[ColumnDimensions, ...]:
        """Of each column, in order; a constant one has none."""
        made, first = [], 0
        for column in self.columns:
            states = 0 if column.states is None else column.states.width
            last = first + column.width
            own = (*range(first, first + states),), (*range(first + states, last),)
            made.append(ColumnDimensions(column.name, *own))
            first = last
        return tuple(made)

    @property
    def width(self) -> int:
        """D."""
        return sum(column.width for column in self.columns)

    def to_model(self, values: Numbers, dither: Numbers | None = None) -> Numbers:
        """Own units (N, C) to model units (N, D); `dither` (N, C) in [−½, ½)."""
        parts = [
            column.encode(values[:, i].astype(np.float64), None if dither is None else dither[:, i])
            for i, column in enumerate(self.columns)
        ]
        return np.concatenate(parts, 1) if parts else np.empty((len(values), 0))

    def from_model(self, x: Numbers) -> Numbers:
        """Model units (N, D) to own units (N, C)."""
        return np.stack([column.decode(x[:, part]) for column, part in self.parts()], 1)

    def parts(self) -> Iterator[tuple[Column, slice]]:
        """Each column with the dimensions that are its own."""
        first = 0
        for column in self.columns:
            yield column, slice(first, first + column.width)
            first += column.width

    def log_slopes(self, channels: int) -> NDArray[np.float64]:
        """log |dx/dv| differs from row to row (`Column.log_slope`): none here."""
        return np.array(0.0)


def states_of(counts: NDArray[np.int64], bits: bool | None = None) -> StateCoder:
    """The coder of states that occur so often: two in one dimension, a few one-hot, many in bits."""
    if bits is None:
        bits = len(counts) > ONE_HOT
    if bits:
        return AnalogBits.of(counts)
    return Sign.of(counts) if len(counts) == 2 else OneHot.of(counts)
