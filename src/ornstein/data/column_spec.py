"""The description of a table: that of its columns in place of scales."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ornstein.data.cells import UnreadableCell
from ornstein.data.columns import Column, ColumnScaling
from ornstein.data.content import chunks, content_hash, digest_of, measured
from ornstein.data.spec import LINE, REACH, Adopted, ColumnDimensions, DataSpec, checked
from ornstein.errors import NotFinite, OrnsteinError, UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from ornstein.data.arrays import Arrays

FITTED = 1_000_000  # rows that coders are fitted to; of more these evenly spaced, and the least and the largest numbers


@dataclass(frozen=True)
class ColumnSpec(DataSpec):
    """Items are `(N, C)`, float64: a number for each column, as `cells` says what it stands for, NaN where it is missing.

    The model sees `(N, D)`: `dimensions` of each column.
    """

    columns: tuple[Column, ...] = ()

    def to_json(self) -> dict[str, Any]:
        plain = DataSpec.to_json(replace(self, columns=()))
        return {**plain, "columns": [column.to_json() for column in self.columns]}

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> ColumnSpec:
        columns = [Column.from_json(column) for column in values["columns"]]
        spec = checked(ColumnSpec, {**values, "columns": columns})
        if ColumnScaling(spec.columns).width != spec.shape[0] or spec.kind != "table":
            raise ValueError("data: columns are not what they must be")
        return spec

    @cached_property
    def scaling(self) -> ColumnScaling:
        return ColumnScaling(self.columns)

    @property
    def dimensions(self) -> tuple[ColumnDimensions, ...]:
        return self.scaling.dimensions

    @property
    def codes(self) -> dict[str, Any]:
        states = []
        for column, own in zip(self.columns, self.dimensions, strict=True):
            first = own.states[0] if own.states else 0
            for shares, scale in () if column.states is None else column.states.parts:
                states.append((first, shares, scale))
                first += len(shares)
        return {"data_std": self.data_std, "states": states}

    @property
    def item_shape(self) -> tuple[int, ...]:
        return (len(self.columns),)

    @property
    def may_lack(self) -> bool:
        return True

    def place(self, name: str) -> int:
        """The place of a column. Raises UsageError where there is none of this name, with the nearest one."""
        from ornstein.spelling import near

        names = [column.name for column in self.columns]
        if name not in names:
            nearest = near(name, names)
            hint = f"did you mean {nearest!r}?" if nearest else f"there are {', '.join(map(repr, names[:12]))}"
            raise UsageError(f"the run has no column {name!r}; {hint}")
        return names.index(name)

    def unseen(self, rows: NDArray[Any]) -> NDArray[np.bool_]:
        """Which cells of rows (N, C) the model has no state for: missing where none was, another value than the constant one."""
        strange = np.zeros(rows.shape, np.bool_)
        for i, column in enumerate(self.columns):
            lacking, constant = np.isnan(rows[:, i]), column.constant
            strange[:, i] = lacking & (not column.missing) if constant is None else ~lacking & (rows[:, i] != constant)
        return strange

    def known(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """A row (1, C) of what texts NAME=VALUE say, with NaN in all other columns. Raises UsageError that says what is wrong."""
        row = np.full((1, len(self.columns)), math.nan)
        for text in texts:
            names = [column.name for column in self.columns if text.startswith(f"{column.name}=")]
            if not names:
                name, equals, _ = text.partition("=")
                if not equals or not name or any(column.name == text for column in self.columns):
                    raise UsageError(f"--where {text}: give COLUMN=VALUE, such as {self.columns[0].name}=...")
                self.place(name)
            name = max(names, key=len)
            place, value = self.place(name), text[len(name) + 1 :].strip()
            column = self.columns[place]
            if not np.isnan(row[0, place]):
                raise UsageError(f"--where {name} is said twice; say it once")
            try:
                row[0, place] = column.cells.read([value])[0]
            except UnreadableCell as error:
                raise UsageError(f"--where {name}={value}: {error.reason}{_choices(column)}") from None
            if np.isnan(row[0, place]):
                raise UsageError(f"--where {name}={value}: a missing value cannot be given; leave it out")
            written = column.cells.text(float(row[0, place]))
            if column.cells.number(written) != row[0, place]:
                raise UsageError(
                    f"--where {name}={value}: the column has no such values, it would say {written}; give that, or another"
                )
            low, high = getattr(column.value, "low", -math.inf), getattr(column.value, "high", math.inf)
            if row[0, place] not in column.atoms and not low <= row[0, place] <= high:
                ends = f"{column.cells.text(low)} to {column.cells.text(high)}"
                raise UsageError(
                    f"--where {name}={value}: the training data go from {ends}; give a value in that range"
                )
        return row

    def units(self) -> list[str]:
        lines = [f"{column.name}: {column.type}, {column.words}" for column in self.columns]
        return lines if len(lines) <= 4 * LINE else [*lines[: 4 * LINE], f"... ({len(lines)} columns)"]

    def to_model(self, array: NDArray[Any], wide: bool = False, dither: NDArray[np.float64] | None = None) -> Tensor:
        """Rows `(N, C)` in own units to model units `(N, D)`; `dither` (N, C) in [−½, ½): where in its bin a number lies."""
        import torch

        if array.shape[1:] != self.item_shape:
            raise ValueError(f"These data have items of shape {self.item_shape}, not {array.shape[1:]}.")
        x = self.scaling.to_model(array, dither)
        return torch.from_numpy(np.ascontiguousarray(x, np.float64 if wide else np.float32))

    def within(self, array: NDArray[Any]) -> NDArray[Any]:
        return array

    def from_model(self, x: Tensor) -> NDArray[Any]:
        """Model units `(N, D)` to rows `(N, C)`: the nearest states, numbers rounded as they are written, within their range."""
        if tuple(x.shape[1:]) != self.shape:
            raise ValueError(f"These data have model shape {self.shape}, not {tuple(x.shape[1:])}.")
        own = x.detach().cpu().double().numpy()
        if not np.isfinite(own).all():
            bad = int((~np.isfinite(own)).any(1).sum())
            raise NotFinite(
                f"{bad} of {len(own)} samples hold NaN or infinite numbers; the training that made this model has diverged."
            )
        return self.scaling.from_model(own)

    def log_slope(self, array: NDArray[Any]) -> NDArray[np.float64]:
        """log |dx/dv| of the numbers of each column (N, C), 0 where there is none: of a density in own units."""
        return np.stack([column.log_slope(array[:, i]) for i, column in enumerate(self.columns)], 1)

    def in_units_of(self, run: DataSpec) -> DataSpec:
        if not self.has_units_of(run):
            raise UsageError(f"{self.source} has other columns than the run; read it with like=run.spec")
        return replace(self, data_std=run.data_std)

    def has_units_of(self, run: DataSpec) -> bool:
        return isinstance(run, ColumnSpec) and run.to_json()["columns"] == self.to_json()["columns"]

    def adopt(self, items: NDArray[Any], where: str) -> Adopted:
        rows = np.asarray(items, np.float64)
        rows = rows[None] if rows.ndim == 1 else rows
        if rows.ndim != 2 or rows.shape[1:] != self.item_shape:
            raise UsageError(
                f"{where} has shape {items.shape}, but the run makes rows of {len(self.columns)} columns; give one for each"
            )
        if np.isinf(rows).any():
            raise NotFinite(f"{where} holds infinite numbers; remove them")
        return Adopted(rows, ())

    def notes_on(self, items: NDArray[Any], where: str) -> list[str]:
        notes = []
        for i, column in enumerate(self.columns):
            if column.value is None:
                continue
            low, high = getattr(column.value, "low", -math.inf), getattr(column.value, "high", math.inf)
            outside = 0
            for chunk in chunks(items):
                numbers = chunk[column.has_number(chunk[:, i]), i]
                outside += int(((numbers < low) | (numbers > high)).sum())
            if outside:
                notes.append(
                    f"{outside:,} of {len(items):,} numbers of column {column.name} of {where} lie outside the range of the "
                    "training data."
                )
        return notes


def _choices(column: Column) -> str:
    """The categories of a column, as the end of a sentence; in quotes, since a name may hold a comma."""
    names = [repr(name) for name in getattr(column.cells, "names", ())]
    return f"; give one of {', '.join(names[:8])}{', ...' if len(names) > 8 else ''}" if names else ""


def measure_columns(arrays: Arrays, source: str, digest: str | None = None) -> ColumnSpec:
    """The description of a table, its coders fitted to its rows. Raises OrnsteinError where no column varies."""
    items = arrays.items
    columns = tuple(
        column if isinstance(column, Column) else column.fitted(_column(items, i, source, column.name))
        for i, column in enumerate(arrays.columns)
    )
    scaling = ColumnScaling(columns)
    if not scaling.width:
        raise OrnsteinError(f"{source}: no column varies, so there is nothing to learn")
    some = scaling.to_model(np.asarray(measured(items)))
    return ColumnSpec(
        kind="table",
        shape=(scaling.width,),
        dtype="float64",
        low=0.0,
        high=1.0,
        mean=(),
        std=(),
        classes=(),
        source=source,
        count=len(items),
        content_hash=content_hash(arrays, 0.0, 1.0, digest or digest_of(items)),
        data_std=float(some.std()),
        layout="NK",
        columns=columns,
    )


def _column(items: NDArray[Any], i: int, source: str, name: str) -> NDArray[np.float64]:
    """The values of a column, of which the coders are made. Raises OrnsteinError for numbers of no use."""
    if len(items) <= FITTED:
        values = np.array(items[:, i], np.float64)
    else:
        low, high, lacking = math.inf, -math.inf, False
        for chunk in chunks(items):
            part = np.asarray(chunk[:, i])
            low, high = np.fmin(low, np.fmin.reduce(part)), np.fmax(high, np.fmax.reduce(part))
            lacking |= bool(np.isnan(part).any())
        rows = np.arange(FITTED, dtype=np.int64) * len(items) // FITTED
        values = np.concatenate([np.asarray(items[rows])[:, i], [low, high], [math.nan] * lacking])
    there = np.abs(values[~np.isnan(values)])
    if len(there) and float(there.max()) > REACH:
        raise OrnsteinError(f"{source}: column {name} holds numbers beyond {REACH:g}; give it other units")
    return values
