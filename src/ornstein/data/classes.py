"""Names of classes: one rule for the labels of data and for those of a user's request.

A label is the label of the data: 3, 3.0 and "3" are the class "3", whatever its place among the classes, and True is "True". The
place of a class is called its index. A label that is missing has the index K, one more than the last of K classes: the null
condition of networks.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ornstein.errors import UsageError
from ornstein.spelling import near

NUMBER = re.compile(r"[+-]?\d{1,30}(\.\d{0,30})?")
WHOLE = re.compile(r"([+-]?\d{1,30})\.0*")
TRUTH = {"false": Decimal(0), "true": Decimal(1)}
DOUBTFUL = frozenset(("nan", "na", "n/a", "null", "none", "<na>", "-1"))  # how some programs write a missing label
NAMED = 12  # names in a sentence


def name_of(label: Any) -> str | None:
    """The name of the class that a label means; None for a missing one: None, NaN, a masked number, an empty or blank word."""
    if label is None or label is np.ma.masked or type(label).__name__ in ("NAType", "NaTType"):
        return None
    if isinstance(label, (np.generic, np.ndarray)) or (hasattr(label, "item") and getattr(label, "ndim", None) == 0):
        label = label.item()
    if isinstance(label, bytes):
        label = label.decode(errors="replace")
    if isinstance(label, float):
        if math.isnan(label):
            return None
        return str(int(label)) if label.is_integer() else str(label)
    text = str(label)
    return text if text.strip() else None


def indexed(labels: Iterable[Any]) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """The index of each label of a column, K where it is missing, and the names of the K classes: numbers in the order of their
    values, then words in the order of their characters.

    Where all are whole numbers, "1.0" is "1"; where all are truth values, "true" is "True" if both occur.
    """
    names = [name_of(label) for label in labels]
    distinct = {name for name in names if name is not None}
    if distinct and all(re.fullmatch(r"[+-]?\d+(\.0*)?", name) for name in distinct):
        plain = {name: WHOLE.sub(r"\1", name) for name in distinct}
        names = [None if name is None else plain[name] for name in names]
        distinct = set(plain.values())
    if distinct and all(name.lower() in TRUTH for name in distinct):
        spelled = {name: [other for other in distinct if other.lower() == name.lower()] for name in distinct}
        one = {name: name if len(others) == 1 else name.capitalize() for name, others in spelled.items()}
        names = [None if name is None else one[name] for name in names]
        distinct = set(one.values())
    classes = tuple(sorted(distinct, key=rank))
    places: dict[str | None, int] = {name: place for place, name in enumerate(classes)}
    return np.array([places.get(name, len(classes)) for name in names], np.int64), classes


def rank(name: str) -> tuple[bool, Decimal, str]:
    """Sort key of classes: numbers by their values, before words."""
    number = _value(name)
    return number is None, number or Decimal(0), name


def index_of(label: Any, classes: Sequence[str], where: str = "label") -> int:
    """The index of the class that a label means. Raises UsageError for none or several, with the nearest name."""
    name = name_of(label)
    alike = [] if name is None else _alike(name, classes)
    if len(alike) == 1:
        return alike[0]
    if alike:
        raise UsageError(
            f"{where}: {len(alike)} classes are called {name!r}; say which by label_index, one of "
            f"{', '.join(map(str, alike))}"
        )
    number = name if name is not None and _value(name) is not None else ""
    nearest = near(str(name), classes)
    hint = f"did you mean {nearest!r}? " if nearest and _value(nearest) is None else ""
    raise UsageError(
        f"{where}: {number or repr(name)} is no class; {hint}the classes are {listed(classes)}{_by_index(label, classes)}"
    )


def checked_index(index: Any, classes: Sequence[str], where: str = "label_index") -> int:
    """A place among the classes. Raises UsageError for what is none."""
    whole = not isinstance(index, (bool, np.bool_)) and isinstance(index, (int, np.integer))
    if not whole or not 0 <= int(index) < len(classes):
        raise UsageError(f"{where}: {index!r} is not one of the {len(classes)} indices 0 to {len(classes) - 1}")
    return int(index)


class Matched(NamedTuple):
    """Labels of data as a run has them: `labels` of the items `rows` are indices of the run's classes, `note` is one sentence or
    more of what was left out, or lacks."""

    labels: NDArray[np.int64]
    rows: NDArray[np.int64]
    note: str


def matched(run: Sequence[str], data: Sequence[str], labels: NDArray[np.int64]) -> Matched:
    """Labels (N,), indices of the classes of data, matched with the classes of a run by name.

    Items of other classes are left out; those whose label is missing stay, with the index len(run). Raises UsageError where
    no item is left.
    """
    place = np.full(len(data) + 1, -1, np.int64)
    place[len(data)] = run.index("") if "" in run else len(run)  # an empty cell was a class once
    for index, name in enumerate(data):
        alike = _alike(name, run)
        if len(alike) > 1 and tuple(run) == tuple(data):  # several of one name
            alike = [index]
        if len(alike) == 1:
            place[index] = alike[0]
    moved = place[labels]
    rows = np.flatnonzero(moved >= 0)
    strange = [data[i] for i in sorted(set(labels[moved < 0].tolist()))]
    labelled_as = moved[rows]
    if not len(rows) or (strange and not (labelled_as < len(run)).any()):
        raise UsageError(
            f"the classes of these data are {listed(data)}, and those of the run {listed(run)}: none is both"
        )
    notes = []
    if strange:
        notes.append(
            f"{len(labels) - len(rows):,} of {len(labels):,} items are left out, whose classes the run does not have: "
            f"{listed(strange)}."
        )
    counts = np.bincount(labelled_as, minlength=len(run) + 1)
    lacking = [name for name, count in zip(run, counts.tolist(), strict=False) if not count]
    if lacking:
        notes.append(f"There are no items of {len(lacking)} of the run's {len(run)} classes: {listed(lacking)}.")
    if counts[len(run)]:
        notes.append(f"{counts[len(run)]:,} items have no label.")
    return Matched(labelled_as, rows, " ".join(notes))


def notes_of(labels: NDArray[np.int64], classes: Sequence[str]) -> tuple[str, ...]:
    """Remarks on the labels of data: how many are missing, and which may be meant as missing."""
    notes, missing = [], int((labels == len(classes)).sum())
    if missing:
        notes.append(f"{missing:,} of {len(labels):,} items have no label, and are learned without a class.")
    doubtful = [name for name in classes if name.strip().lower() in DOUBTFUL]
    if doubtful and set(classes) != {"-1", "1"}:
        notes.append(
            f"{listed(doubtful)} is taken for the name of a class; leave the cell empty (in arrays: NaN) for a missing label."
        )
    plain = [" ".join(name.split()).lower() for name in classes]
    twins = [name for name, other in zip(classes, plain, strict=True) if plain.count(other) > 1]
    if twins:
        quoted = listed([repr(name) for name in twins])
        notes.append(
            f"The classes {quoted} differ in capitals or spaces alone, and are learned as {len(twins)} classes."
        )
    return tuple(notes)


def listed(names: Sequence[str]) -> str:
    """The first few names, for a sentence."""
    more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def _alike(name: str, classes: Sequence[str]) -> list[int]:
    """The indices of classes of this name; where there are none, of those of the same value."""
    same = [index for index, other in enumerate(classes) if other == name]
    value = None if same else _value(name, truth=True)
    return same if value is None else [i for i, other in enumerate(classes) if _value(other, truth=True) == value]


def _value(name: str, truth: bool = False) -> Decimal | None:
    """The number that a name is, if it is one; with `truth`, also of true and false."""
    text = name.strip()
    if NUMBER.fullmatch(text):
        return Decimal(text)
    return TRUTH.get(text.lower()) if truth else None


def _by_index(label: Any, classes: Sequence[str]) -> str:
    name = str(name_of(label))
    inside = name.isdecimal() and len(name) < 10 and int(name) < len(classes)
    return (
        f" (the class at index {name} is {classes[int(name)]!r}: label_index={name}, --label-index {name})"
        if inside
        else ""
    )
