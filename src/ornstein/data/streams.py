"""Data that can only be read in turn: the first items are measured, and the batch of a step is what comes next."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ornstein.data.dataset import Dataset
from ornstein.errors import OrnsteinError

HEAD = 10_000  # items that are read to measure the data
MOST = 256 << 20  # bytes of them

Row = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Stream(Dataset):
    """A data set whose `items` are the first of a stream, and whose batches are the stream itself, each item once."""

    is_indexed: ClassVar[bool] = False
    rows: Iterator[Row] = iter(())
    pack: Callable[[Sequence[Row]], Dataset] | None = None
    """Rows as a data set in the types and classes of the first."""

    def drawn(self, seed: int, step: int, total: int) -> tuple[Dataset, NDArray[np.int64]]:
        """The next `total` items, whatever the step. Raises OrnsteinError where there are no more."""
        rows = list(islice(self.rows, total))
        if len(rows) < total or self.pack is None:
            raise OrnsteinError(
                f"data: the stream ended before step {step + 1:,} and cannot be read again; give one that can be iterated anew, "
                "or train for fewer steps"
            )
        return self.pack(rows), np.arange(total)


def beginning(make: Callable[[], Iterable[Row]]) -> tuple[list[Row], Iterator[Row] | None]:
    """The first rows, up to HEAD of them or MOST bytes, and all rows again and again; None where the first are all."""
    rows, first, total = iter(make()), list[Row](), 0
    for row in rows:
        first.append(row)
        total += sum(array.nbytes for array in row.values())
        if len(first) >= HEAD or total >= MOST:
            return first, chain(first, rows, _again(make))
    return first, None


def _again(make: Callable[[], Iterable[Row]]) -> Iterator[Row]:
    """The rows anew, as long as there are any: a generator that has ended has none."""
    while True:
        empty = True
        for row in make():
            empty = False
            yield row
        if empty:
            return
