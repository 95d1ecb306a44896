"""How the values of one column are written in files: between texts and the numbers that stand for them.

A column is one number for each row: a number itself, the place of a category among the names, a date in its own unit since
1970-01-01; NaN is a missing one. What is written comes back as it was: names, decimal places, the decimal mark, the form of
dates, the word for a missing value.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ornstein.data.coders.coder import Numbers, require

MISSING = frozenset(("", "na", "n/a", "nan", "null", "none", "?", "-", "#n/a", "nil", "<na>", "nat"))
"""Words for a missing value, in small letters."""
EPOCH = datetime(1970, 1, 1)
UNITS = {"days": 86_400_000_000, "minutes": 60_000_000, "seconds": 1_000_000, "microseconds": 1}
"""Units of dates, in microseconds."""
UNKNOWN = -1.0  # of a category that the training data do not have
LARGEST = 2.0**53  # a whole number up to which float64 holds all


class UnreadableCell(ValueError):
    """A cell that is no value of its column: its place among the cells, its text, and why."""

    def __init__(self, place: int, text: str, reason: str) -> None:
        super().__init__(reason)
        self.place, self.text, self.reason = place, text, reason


class Cells(ABC):
    """Abstract, frozen. `blank` is the text of a missing value."""

    blank: str

    @abstractmethod
    def number(self, text: str) -> float:
        """The number that a text stands for, which is not missing. Raises ValueError that says why it is none."""

    @abstractmethod
    def text(self, value: float) -> str:
        """The inverse of `number`."""

    @abstractmethod
    def typed(self, values: Numbers) -> NDArray[Any]:
        """The column in a type of NumPy of its own: numbers, objects of texts with None, dates; what frames are made of."""

    def is_missing(self, text: str | None) -> bool:
        """Whether a cell holds no value."""
        return text is None or text.strip().lower() in MISSING or text.strip() == self.blank

    def read(self, column: Sequence[str | None] | Numbers, unknown: set[str] | None = None) -> Numbers:
        """The numbers of the cells of a column. Raises `UnreadableCell` for the first that is none.

        Where there is a set `unknown`, categories that are not known go into it, and are `UNKNOWN`.
        """
        if isinstance(column, np.ndarray):
            return self._numbers(column, unknown)
        known: dict[str | None, float] = {}
        for text in set(column):
            if text is None or self.is_missing(text):
                known[text] = math.nan
                continue
            try:
                known[text] = self.number(text.strip())
            except ValueError as error:
                if unknown is not None and isinstance(self, NameCells):
                    unknown.add(text.strip())
                    known[text] = UNKNOWN
                    continue
                raise UnreadableCell(list(column).index(text), text, str(error)) from None
        return np.array([known[text] for text in column], np.float64)

    def write(self, values: Numbers) -> list[str]:
        """The texts of a column."""
        distinct, places = np.unique(values, return_inverse=True)
        texts = np.array([self.blank if math.isnan(v) else self.text(v) for v in distinct.tolist()], object)
        return list(texts[places.reshape(-1)])

    def _numbers(self, column: Numbers, unknown: set[str] | None) -> Numbers:
        """Of a column of numbers by its type."""
        raise UnreadableCell(0, str(column[0]), "it is a number")

    def to_json(self) -> dict[str, Any]:
        """Its type and fields as plain values."""
        plain = {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(self).items()}  # type: ignore[call-overload]
        return {"type": type(self).__name__, **plain}


@dataclass(frozen=True)
class NumberCells(Cells):
    """Numbers: with so many `decimals` (None: as many as they need), always or at most, and a decimal mark.

    `whole`: whole numbers. `stored` is the type that the file has for them, if it has one.
    """

    decimals: int | None = None
    always: bool = False
    mark: str = "."
    whole: bool = False
    blank: str = ""
    stored: str = ""

    def __post_init__(self) -> None:
        require(self.decimals is None or (type(self.decimals) is int and 0 <= self.decimals <= 20), "decimals: 0 to 20")
        require(self.mark in (".", ","), "the decimal mark is a point or a comma")

    def number(self, text: str) -> float:
        plain = text.replace(",", ".") if self.mark == "," else text
        try:
            if "_" in plain:
                raise ValueError
            value = float(plain)
        except ValueError:
            raise ValueError("it is no number") from None
        if not math.isfinite(value):
            raise ValueError("it is no finite number")
        if self.whole and value != round(value):
            raise ValueError("it is no whole number")
        if abs(value) > LARGEST and self.whole:
            raise ValueError("it is too large to be told from its neighbours")
        return value

    def text(self, value: float) -> str:
        if self.whole and not self.always:
            return str(round(value))
        if self.decimals is None:
            plain = str(np.float32(value)) if self.stored == "float32" else repr(value)
        else:
            plain = f"{value:.{self.decimals}f}"
            if not self.always and "." in plain:
                plain = plain.rstrip("0").rstrip(".")
            if float(plain) == 0 and plain.startswith("-"):
                plain = plain[1:]
        return plain.replace(".", ",") if self.mark == "," else plain

    def typed(self, values: Numbers) -> NDArray[Any]:
        whole = self.whole and not np.isnan(values).any() and self.stored not in ("float32", "float64")
        kind = self.stored or ("int64" if whole else "float64")
        if np.dtype(kind).kind in "iu" and not whole:
            kind = "float64"
        return values.astype(kind)

    def rounded(self, values: Numbers) -> Numbers:
        """As they would be read again once written."""
        if self.decimals is None:
            return values.astype(np.float32).astype(np.float64) if self.stored == "float32" else values
        return np.round(values, self.decimals)

    def _numbers(self, column: Numbers, unknown: set[str] | None) -> Numbers:
        wrong = np.isinf(column) | (self.whole & (column != np.rint(column)) & ~np.isnan(column))
        if wrong.any():
            place = int(np.argmax(wrong))
            reason = "it is no finite number" if np.isinf(column[place]) else "it is no whole number"
            raise UnreadableCell(place, f"{column[place]:g}", reason)
        return column


@dataclass(frozen=True)
class NameCells(Cells):
    """Categories by their names, in order; truth values are two of them."""

    names: tuple[str, ...] = ()
    blank: str = ""
    stored: str = ""

    def __post_init__(self) -> None:
        require(all(type(name) is str for name in self.names), "the names of categories are texts")

    def is_missing(self, text: str | None) -> bool:
        return text is None or (text.strip() not in self._places and text.strip().lower() in (self.blank.lower(), ""))

    def number(self, text: str) -> float:
        place = self._places.get(text)
        if place is None:
            raise ValueError("the training data have no such category")
        return float(place)

    def text(self, value: float) -> str:
        return self.names[round(value)]

    def typed(self, values: Numbers) -> NDArray[Any]:
        if self.stored == "bool" and not np.isnan(values).any():
            truth = np.array([name.lower() == "true" for name in self.names])
            return truth[values.astype(np.int64)]
        names = np.array([*self.names, None], object)
        return names[np.where(np.isnan(values), len(self.names), values).astype(np.int64)]

    @property
    def _places(self) -> dict[str, int]:
        known: dict[str, int] | None = self.__dict__.get("_known")
        if known is None:
            known = {name: place for place, name in enumerate(self.names)}
            object.__setattr__(self, "_known", known)
        return known

    def _numbers(self, column: Numbers, unknown: set[str] | None) -> Numbers:
        """Numbers that were taken for categories: by their shortest texts."""
        return self.read([None if math.isnan(v) else f"{v:.17g}" for v in column.tolist()], unknown)


@dataclass(frozen=True)
class DateCells(Cells):
    """Dates and times in a form of `strptime`, as whole `unit`s since 1970-01-01 (of a time of day: since midnight)."""

    form: str
    unit: str = "days"
    blank: str = ""
    stored: str = ""

    def __post_init__(self) -> None:
        require(self.unit in UNITS, f"the unit of dates is one of {', '.join(UNITS)}")

    def number(self, text: str) -> float:
        try:
            at = datetime.strptime(text, self.form)
        except ValueError:
            raise ValueError(f"it is no date of the form {self.form}, such as {self.text(0.0)}") from None
        if not any(part in self.form for part in ("%Y", "%y")):
            at = at.replace(year=1970, month=1, day=1)
        return float((at - EPOCH) // timedelta(microseconds=1) // UNITS[self.unit])

    def text(self, value: float) -> str:
        made = self._at(value)
        text = made.strftime(self.form)
        if "%Y" in self.form and made.year < 1000:  # strftime writes no zeros before them on some systems
            text = made.strftime(self.form.replace("%Y", f"{made.year:04d}"))
        return text[:-3] if self.form.endswith("%f") and self.unit == "milliseconds" else text

    def typed(self, values: Numbers) -> NDArray[Any]:
        units = {"days": "D", "minutes": "m", "seconds": "s", "microseconds": "us"}
        made = np.full(len(values), "NaT", f"datetime64[{units[self.unit]}]")
        there = ~np.isnan(values)
        made[there] = values[there].astype(np.int64).astype(f"datetime64[{units[self.unit]}]")
        return made

    def _at(self, value: float) -> datetime:
        try:
            return EPOCH + timedelta(microseconds=round(value) * UNITS[self.unit])
        except OverflowError:
            return datetime.max if value > 0 else datetime.min


def finest(texts: Sequence[str], form: str) -> str:
    """The coarsest unit in which dates of this form are whole."""
    if not any(part in form for part in ("%H", "%I")):
        return "days"
    times = [datetime.strptime(text, form) for text in texts]
    if any(at.microsecond for at in times):
        return "microseconds"
    return "seconds" if any(at.second for at in times) else "minutes"


def text_of(value: Any) -> str | None:
    """A value of a frame as the text of a cell; None where it is missing."""
    if value is None or (isinstance(value, float) and math.isnan(value)) or str(value) in ("NaT", "<NA>"):
        return None
    if isinstance(value, datetime):
        moved = value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value
        return moved.isoformat(sep=" ")
    return value.isoformat() if isinstance(value, date) else str(value)


KINDS: dict[str, type[Cells]] = {kind.__name__: kind for kind in (NumberCells, NameCells, DateCells)}


def from_json(values: Mapping[str, Any]) -> Cells:
    """The inverse of `Cells.to_json`. Raises KeyError, TypeError or ValueError."""
    fields = {key: tuple(v) if isinstance(v, list) else v for key, v in values.items() if key != "type"}
    return KINDS[str(values["type"])](**fields)
