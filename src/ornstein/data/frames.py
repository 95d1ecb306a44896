"""Frames of Python (pandas, polars and others with `.columns`) as tables; none of these libraries is imported."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ornstein.data.cells import LARGEST, text_of
from ornstein.data.column_spec import ColumnSpec, measure_columns
from ornstein.data.column_types import must_be_learnable, read_wanted
from ornstein.data.spec import DataSpec
from ornstein.data.table_files import NUMERIC, Part, TableReader, checked_names, read, read_like, survey
from ornstein.data.table_rows import ColumnDataset


@dataclass(frozen=True, eq=False)
class FrameReader(TableReader):
    """A frame: `.columns`, and `frame[name].to_numpy()` or something that is an array."""

    frame: Any
    where: str = "data"

    def header(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        names = checked_names([str(name) for name in self.frame.columns], self.where)
        kinds = [self._values(name).dtype.name for name in self.frame.columns]
        return names, tuple(kind if kind in (*NUMERIC, "bool") else "" for kind in kinds)

    def parts(self) -> Iterator[Part]:
        yield [_cells(self._values(name)) for name in self.frame.columns]

    def _values(self, name: Any) -> NDArray[Any]:
        column = self.frame[name]
        return np.asarray(column.to_numpy() if hasattr(column, "to_numpy") else column)


def _cells(values: NDArray[Any]) -> Any:
    if values.dtype.kind in "iu" and len(values) and max(abs(int(values.min())), abs(int(values.max()))) > LARGEST:
        return [str(value) for value in values.tolist()]
    if values.dtype.kind in "iuf":
        return values.astype(np.float64)
    if values.dtype.kind == "M":
        days = values.astype("datetime64[D]")
        whole = bool(((values == days) | np.isnat(values)).all())
        return [text_of(value) for value in (days if whole else values.astype("datetime64[us]")).tolist()]
    return [text_of(value) for value in values.tolist()]


def table_of(
    frame: Any, columns: Iterable[str] | Mapping[str, str] = (), like: DataSpec | None = None
) -> ColumnDataset:
    """The rows of a frame, with types that are recognised or said, such as {"zip": "category"}; `like`: in the columns of a run.

    Raises UsageError for columns that cannot be learned.
    """
    opened = FrameReader(frame)
    if isinstance(like, ColumnSpec):
        arrays = read_like(opened, like.columns)
    else:
        guesses = survey(opened, read_wanted(columns))
        must_be_learnable(guesses, opened.where)
        arrays = read(opened, guesses)
    return ColumnDataset(arrays.items, None, measure_columns(arrays, "memory"))
