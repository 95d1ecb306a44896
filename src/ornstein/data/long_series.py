"""Series from a table in long form: a row for each series and time, a column for each channel.

The times of all series lie on one even grid, whose step is the least distance of neighbours; a place without a row, and an empty
cell, are missing. Other times are refused: what happened between them is not in the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ornstein.data.arrays import Arrays, ArraySource
from ornstein.data.cells import NumberCells, text_of
from ornstein.data.classes import rank
from ornstein.data.column_types import Guess, Survey, WantedType
from ornstein.data.columns import Column
from ornstein.data.layout import own_shape
from ornstein.data.origins import Append, FileForm
from ornstein.data.stamps import stamp
from ornstein.data.table_files import TableReader, place_of, read, reader
from ornstein.errors import UsageError, brief

if TYPE_CHECKING:
    from ornstein.data.spec import DataSpec
    from ornstein.files.output import Output

EVEN = 1e-4  # of a step, by which a time may be off the grid
THIN = 100  # places of the grid for each row, from which on the times are no series


@dataclass(frozen=True)
class LongForm(FileForm):
    """A table of these columns (JSON), of which `id` names the series and `time` begins at `start` and goes by `step`."""

    columns: list[dict[str, Any]]
    id: str
    time: str
    start: float
    step: float

    name = "long"
    endings = (".csv", ".tsv", ".parquet", ".feather", ".xlsx")

    @contextmanager
    def new(self, output: Output, count: int, spec: DataSpec) -> Iterator[Append]:
        from ornstein.data.table_writing import new_table

        columns = [Column.from_json(column) for column in self.columns]
        names = [column.name for column in columns]
        series, when = names.index(self.id), names.index(self.time)
        channels = [i for i in range(len(names)) if i not in (series, when)]
        done = 0
        with new_table(output, columns) as append:

            def write(items: NDArray[Any]) -> None:
                nonlocal done
                items = items.reshape(len(items), items.shape[1], -1)
                length = items.shape[1]
                rows = np.empty((len(items) * length, len(names)))
                rows[:, series] = np.repeat(np.arange(done, done + len(items)), length)
                rows[:, when] = np.tile(self.start + self.step * np.arange(length), len(items))
                rows[:, channels] = items.reshape(len(rows), -1)
                append(rows)
                done += len(items)

            yield write


@dataclass(frozen=True, kw_only=True)
class LongFile(ArraySource):
    """A table in long form. `crop`: series are cut into pieces of so many times; `wanted`: types of columns that are said."""

    source: str
    time: str
    id: str
    wanted: tuple[tuple[str, WantedType], ...] = ()
    crop: int | None = None
    direct = False

    def fingerprint(self) -> str:
        path = place_of(self.source)
        said = f"{self.source} {self.time} {self.id} {self.wanted} {self.crop}"
        return f"long {path.resolve()} {stamp(path)} {said} {self._how}"

    @cached_property
    def _reader(self) -> TableReader:
        return reader(self.source)

    def _read(self, scratch: Path | None) -> Arrays:
        if self.layout is not None:
            raise UsageError("layout: a table in long form holds series; leave it out")
        opened = self._reader
        names, stored = opened.header()
        for flag, name in (("time", self.time), ("id", self.id)):
            if name not in names:
                raise UsageError(f"{flag}: {opened.where} has no column {brief(name)}; it has {', '.join(names[:12])}")
        if self.time == self.id:
            raise UsageError(f"time and id are both {self.time}; name two columns")
        surveys = [Survey(name, kind) for name, kind in zip(names, stored, strict=True)]
        series: list[str] = []
        for part in opened.parts():
            for one, column in zip(surveys, part, strict=True):
                one.add(column)
            ids = part[names.index(self.id)]
            series += [
                "" if text is None else text.strip()
                for text in (map(text_of, ids) if isinstance(ids, np.ndarray) else ids)
            ]
        if not series:
            raise UsageError(f"{opened.where} has no rows; there is nothing to learn from")
        if "" in series:
            raise UsageError(
                f"{opened.where}: row {series.index('') + 1} has no {self.id}; give one, or leave the row out"
            )
        guesses = [self._guess(survey) for survey in surveys if survey.name != self.id]
        learned = [guess for guess in guesses if guess.type != "drop"]
        if len(learned) < 2:
            raise UsageError(
                f"{opened.where} has no column besides {self.time} and {self.id}; there is nothing to learn from"
            )
        columns = {guess.name: guess for guess in learned}
        ordered = [Guess(self.id, "drop", NumberCells(0, False, ".", True), ""), *learned]
        ordered.sort(key=lambda guess: names.index(guess.name))
        numbers = read(opened, ordered_for(ordered, names), scratch).items
        ordered_names = [guess.name for guess in ordered if guess.type != "drop"]
        when = np.asarray(numbers[:, ordered_names.index(self.time)])
        channels = [i for i, name in enumerate(ordered_names) if name != self.time]
        items, holes, start, step, notes = self._series(np.array(series), when, numbers, channels, opened.where)
        whole = not holes and all(columns[ordered_names[i]].type == "integer" for i in channels)
        if len(channels) == 1:
            items = items[..., 0]
        form = LongForm(
            [Column(g.name, "numeric", g.cells, constant=0.0).to_json() for g in ordered],
            self.id,
            self.time,
            start,
            step,
        )
        return Arrays(
            items.astype(np.int64) if whole else items,
            layout="NL" if len(channels) == 1 else "NLC",
            masked=holes,
            notes=(*opened.notes(), *notes),
            origin=form.origin,
        )

    def _guess(self, survey: Survey) -> Guess:
        """The type of a column, which must be numbers; of the times it may be dates."""
        said = dict(self.wanted).get(survey.name)
        if said is not None:
            guess = survey.as_wanted(said)
        elif survey.kinds and set(survey.kinds) <= {"integer", "decimal", "exponent"}:
            whole = set(survey.kinds) == {"integer"}
            guess = survey.as_wanted(WantedType("integer" if whole else "numeric"))
        else:
            guess = survey.guess()
        numbers = ("numeric", "integer", "drop") if survey.name != self.time else ("numeric", "integer", "date")
        if guess.type not in numbers or (guess.problem and guess.type == "drop" and said is None):
            wanted = "--column " + (f"{survey.name}=date:FORM" if survey.name == self.time else f"{survey.name}=drop")
            raise UsageError(
                f"{self._reader.where}: column {survey.name} holds no numbers ({guess.type}: {guess.why}); mend it, or "
                f"say {wanted}"
            )
        return guess

    def _series(
        self, names: NDArray[Any], when: NDArray[Any], numbers: NDArray[Any], channels: list[int], where: str
    ) -> tuple[NDArray[np.float64], bool, float, float, list[str]]:
        """Series (N, L, C) on one grid, whether numbers are missing, the grid's start and step, and sentences."""
        if np.isnan(when).any():
            raise UsageError(f"{where}: row {int(np.argmax(np.isnan(when))) + 1} has no {self.time}; give one")
        distinct, place = np.unique(names, return_inverse=True)
        by_rank = np.array(sorted(range(len(distinct)), key=lambda i: rank(str(distinct[i]))))  # 2 before 10
        distinct, place = distinct[by_rank], np.argsort(by_rank)[place]
        order = np.lexsort((when, place))
        place, when = place[order], when[order]
        bounds = np.flatnonzero(np.r_[True, np.diff(place) > 0, True])
        inside = np.diff(place) == 0
        gaps = np.diff(when)[inside]
        if (gaps == 0).any():
            at = int(np.flatnonzero(inside & (np.diff(when) == 0))[0])
            raise UsageError(f"{where}: {self.id} {distinct[place[at]]} has two rows of one {self.time}; leave one out")
        if not len(gaps):
            raise UsageError(f"{where}: each {self.id} has one row alone, which is no series; name other columns")
        step = float(gaps.min())
        begin = when[bounds[:-1]]
        offset = (when - begin[place]) / step
        index = np.rint(offset).astype(np.int64)
        off = np.abs(offset - index) > EVEN
        if off.any():
            at, near = int(np.argmax(off)), int(np.flatnonzero(inside & (np.diff(when) == step))[0])
            raise UsageError(
                f"{where}: the times are not even: {when[at]:g} of {self.id} {distinct[place[at]]} is no whole number of steps "
                f"of {step:g} after {begin[place[at]]:g}, and {self.id} {distinct[place[near]]} has times as near as that; bring "
                "them to an even grid"
            )
        lengths = index[bounds[1:] - 1] + 1
        if int(lengths.sum()) > THIN * len(when):
            raise UsageError(
                f"{where}: rows lie {step:g} apart and fill less than 1 % of the times; bring them to an even grid"
            )
        length, notes = self._length(distinct, lengths, where)
        items = []
        for row, (a, b) in enumerate(pairwise(bounds.tolist())):
            pieces = int(lengths[row]) // length
            if not pieces:
                continue
            values = np.full((int(lengths[row]), len(channels)), np.nan)
            values[index[a:b]] = np.asarray(numbers[order[a:b]])[:, channels]
            items.append(values[: pieces * length].reshape(pieces, length, len(channels)))
        made = np.concatenate(items)
        holes = bool(np.isnan(made).any())
        if holes:
            notes.append(
                f"{int(np.isnan(made).sum()):,} numbers of {where} are missing: 0 for the network and no part of the loss."
            )
        return made, holes, float(begin[0]), step, notes

    def _length(self, names: NDArray[Any], lengths: NDArray[np.int64], where: str) -> tuple[int, list[str]]:
        low, high = int(lengths.argmin()), int(lengths.argmax())
        wanted = self.crop
        if wanted is None and self.like is not None:
            wanted = own_shape(self.like[1], self.like[0])[0]
        if wanted is None:
            if lengths[low] != lengths[high]:
                raise UsageError(
                    f"{where} has series of {lengths[low]:,} ({self.id} {names[low]}) to {lengths[high]:,} times ({self.id} "
                    f"{names[high]}); cut them into pieces of one length by --crop {lengths[low]}, in Python crop={lengths[low]}"
                )
            return int(lengths[low]), []
        if lengths[high] < wanted:
            raise UsageError(f"crop: the longest series of {where} has {lengths[high]:,} times; give fewer")
        left = int((lengths % wanted).sum())
        note = f"{left:,} times at the ends of series in {where} fill no piece of {wanted:,} and are left out."
        return wanted, [note] if left else []


def ordered_for(guesses: list[Guess], names: tuple[str, ...]) -> list[Guess]:
    """A guess for each column of a table: what is not learned is dropped."""
    known = {guess.name: guess for guess in guesses}
    return [known.get(name, Guess(name, "drop", NumberCells(), "")) for name in names]
