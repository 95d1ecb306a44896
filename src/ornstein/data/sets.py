"""Sets of labels in sparse form: memory for the labels that occur, not for items times labels."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCK = 1 << 24  # cells of a dense table that are looked at at once


@dataclass(frozen=True, eq=False)
class Sets:
    """A boolean table `(N, width)`, of which the true cells are held, row after row, as their columns in rising order.

    Row i has `columns[starts[i] : starts[i + 1]]`. Indexing along the first axis gives those rows as bool
    `(B, width)`.
    """

    starts: NDArray[np.int64]
    columns: NDArray[Any]
    width: int

    @property
    def shape(self) -> tuple[int, int]:
        """Items and labels: the shape of the table."""
        return len(self), self.width

    @property
    def nbytes(self) -> int:
        """In memory."""
        return int(self.starts.nbytes + self.columns.nbytes)

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, key: int | slice | NDArray[Any]) -> NDArray[np.bool_]:
        if isinstance(key, np.ndarray) and key.dtype.kind in "iu":
            indices = np.where(key < 0, key + len(self), key)
        else:
            indices = np.arange(len(self))[key]
        some = self.take(np.atleast_1d(indices))
        members = np.zeros(some.shape, np.bool_)
        members[np.repeat(np.arange(len(some)), np.diff(some.starts)), some.columns] = True
        return members if np.ndim(indices) else members[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return self[:].astype(dtype or np.bool_, copy=False)

    def tolist(self) -> list[list[bool]]:
        """All rows."""
        return self[:].tolist()

    def take(self, indices: NDArray[np.int64]) -> Sets:
        """Only these rows."""
        counts = self.starts[indices + 1] - self.starts[indices]
        starts = _ends(counts)
        places = np.arange(starts[-1]) + np.repeat(self.starts[indices] - starts[:-1], counts)
        return Sets(starts, self.columns[places], self.width)

    def moved(self, places: NDArray[np.int64], width: int) -> Sets:
        """The table with column i at `places[i]` of `width`; those at −1 are left out, and the others are false."""
        columns = places[self.columns]
        rows = np.repeat(np.arange(len(self)), np.diff(self.starts))[columns >= 0]
        cells = np.sort(rows * width + columns[columns >= 0])
        rows, columns = np.divmod(cells, max(width, 1))
        return Sets(_ends(np.bincount(rows, minlength=len(self))), columns.astype(_type(width)), width)


def from_names(rows: Iterable[Sequence[str]]) -> tuple[Sets, tuple[str, ...]]:
    """From the names of the labels in each row; and all those names in order, which are the columns."""
    codes, counts, number = array("L"), array("L"), dict[str, int]()
    for names in rows:
        codes.extend(number.setdefault(name, len(number)) for name in names)
        counts.append(len(names))
    tags = sorted(number)
    place = np.empty(len(tags), np.int64)
    place[[number[tag] for tag in tags]] = np.arange(len(tags))
    row = np.repeat(np.arange(len(counts)), np.array(counts, np.int64))
    row, columns = np.divmod(np.unique(row * max(len(tags), 1) + place[np.array(codes, np.int64)]), max(len(tags), 1))
    return Sets(_ends(np.bincount(row, minlength=len(counts))), columns.astype(_type(len(tags))), len(tags)), tuple(
        tags
    )


def from_table(table: NDArray[Any]) -> Sets:
    """From a table `(N, width)` of 0 and 1, in memory or read in parts. Raises ValueError where it holds anything else."""
    count, width = table.shape
    step = max(1, BLOCK // width)
    counts, columns = [], []
    for start in range(0, count, step):
        block = np.asarray(table[start : start + step])
        if not ((block == 0) | (block == 1)).all():
            raise ValueError("cells that are neither 0 nor 1")
        true = block.astype(np.bool_)
        counts.append(true.sum(axis=1, dtype=np.int64))
        columns.append(np.nonzero(true)[1].astype(_type(width)))
    return Sets(_ends(np.concatenate(counts)), np.concatenate(columns), width)


def _ends(counts: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])


def _type(width: int) -> type[np.unsignedinteger[Any]]:
    return np.uint16 if width <= 1 << 16 else np.uint32
