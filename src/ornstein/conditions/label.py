"""One class of several, as integers; and sets of labels, of which an item has any number."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ornstein.conditions.condition import Condition, require
from ornstein.data.classes import checked_index, index_of
from ornstein.errors import UsageError
from ornstein.noise import mix

if TYPE_CHECKING:
    from ornstein.data.dataset import Dataset
    from ornstein.data.spec import DataSpec


@dataclass(frozen=True)
class Label(Condition):
    """One of K classes: an integer, embedded as a row of a table; the null label is K.

    `classes` are their names, `frequencies` how often each occurs in the data.
    """

    classes: tuple[str, ...]
    frequencies: tuple[float, ...]

    names = ("label", "label_index")
    place = 0
    optional = True

    def __post_init__(self) -> None:
        count, wrong = len(self.frequencies), len(self.classes)
        require(count == wrong > 0, f"there are {count} frequencies for {wrong} classes")
        valid = min(self.frequencies) >= 0 and 0 < sum(self.frequencies) < math.inf
        require(valid, "frequencies must be positive numbers")

    @classmethod
    def from_data(cls, dataset: Dataset) -> Label | None:
        if dataset.labels is None:
            return None
        count = len(dataset.classes)
        counts = np.bincount(dataset.labels, minlength=count)[:count]  # without those missing
        return cls(dataset.classes, tuple((counts / counts.sum()).tolist()))

    @property
    def arguments(self) -> dict[str, int]:
        return {"classes": len(self.classes)}

    @property
    def description(self) -> str:
        return f"one of {len(self.classes)} classes"

    def null(self, count: int) -> Tensor:
        return torch.full((count,), len(self.classes))

    def missing(self, dataset: Dataset) -> str:
        lacks = dataset.labels is None or dataset.classes != self.classes
        return f"lacks the {len(self.classes)} classes" if lacks else ""

    def of(self, dataset: Dataset, indices: NDArray[np.int64], x: Tensor, numbers: Tensor) -> Tensor:
        """The indices (B,) of the items' classes; K, the null label, where one is missing."""
        assert dataset.labels is not None
        return torch.from_numpy(dataset.labels[indices])

    def requested(self, values: Mapping[str, Any], count: int, spec: DataSpec) -> Tensor:
        """`values["label"]`: a class of the data, by number or name, for all, or one for each; `values["label_index"]`: indices.

        None for a sample is the null label. Raises UsageError for what is no class.
        """
        key = _one_of(values)
        entries = _plain(values[key])
        several = isinstance(entries, Sequence) and not isinstance(entries, (str, bytes))
        choice = entries if several else [entries]
        if several and len(choice) != count:
            raise UsageError(f"{key}: {len(choice)} labels for {count} samples; give one, or one for each")
        known: dict[Any, int] = {None: len(self.classes)} if several else {}
        for entry in choice:
            if isinstance(entry, (list, tuple)):
                raise UsageError(f"{key}: {entry!r:.80} is no label; give one, or one for each sample")
            if entry not in known:
                known[entry] = _index(key, entry, self.classes)
        return torch.tensor([known[entry] for entry in choice]).expand(count)

    def drawn(self, first: int, last: int, seed: int) -> Tensor:
        """A class for each of the samples first..last−1, drawn as often as it occurs in the data; a function of (seed, i)."""
        levels = np.cumsum(self.frequencies)
        units = [mix(seed, i, 0x1ABE1) / 2**63 for i in range(first, last)]
        return torch.from_numpy(np.searchsorted(levels / levels[-1], units, side="right"))


@dataclass(frozen=True)
class LabelSet(Condition):
    """Any number of K labels: boolean rows of K + 1 columns, embedded as the sum of the labels' rows of a table.

    The last column says that there is a set; the null condition is false in all. An empty set is therefore something else: an
    item that is known to have none of the labels.
    """

    labels: tuple[str, ...]

    names = ("label", "label_index")
    place = 10

    def __post_init__(self) -> None:
        require(len(self.labels) > 0 and all(isinstance(name, str) for name in self.labels), "labels must be names")

    @classmethod
    def from_data(cls, dataset: Dataset) -> LabelSet | None:
        return None if dataset.annotations.sets is None else cls(dataset.annotations.tags)

    @property
    def arguments(self) -> dict[str, int]:
        return {"classes": len(self.labels)}

    @property
    def description(self) -> str:
        return f"any of {len(self.labels)} labels"

    def null(self, count: int) -> Tensor:
        return torch.zeros(count, len(self.labels) + 1, dtype=torch.bool)

    def missing(self, dataset: Dataset) -> str:
        lacks = dataset.annotations.sets is None or dataset.annotations.tags != self.labels
        return f"lacks the sets of {len(self.labels)} labels" if lacks else ""

    def of(self, dataset: Dataset, indices: NDArray[np.int64], x: Tensor, numbers: Tensor) -> Tensor:
        """The marked sets (B, K + 1) of the items; the null row where a set is missing."""
        assert dataset.annotations.sets is not None
        rows, unknown = _marked(torch.from_numpy(dataset.annotations.sets[indices])), dataset.annotations.unknown
        return rows if unknown is None else self.dropped(rows, torch.from_numpy(unknown[indices]))

    def requested(self, values: Mapping[str, Any], count: int, spec: DataSpec) -> Tensor:
        """`values["label"]`: labels of the data by number or name, one or a sequence of them ("a,b" is one too), for all samples;
        or for each a sequence of them; or an array of booleans (K,) or (N, K). `values["label_index"]`: the same by indices.

        Raises UsageError that says what is wrong.
        """
        key = _one_of(values)
        label, width = values[key], len(self.labels)
        if isinstance(label, (np.ndarray, Tensor)) and label.ndim:
            sets = torch.as_tensor(label)
            if sets.shape[-1:] != (width,) or not bool(((sets == 0) | (sets == 1)).all()):
                raise UsageError(
                    f"{key}: an array must be ({width},) or ({count}, {width}) of 0 and 1; one for each label"
                )
            rows = sets.bool()
        elif not isinstance(label, Sequence) or isinstance(label, (str, bytes)):
            rows = self._set(key, [label])
        elif label and all(isinstance(entry, Sequence) and not isinstance(entry, str) for entry in label):
            rows = torch.stack([self._set(key, entry) for entry in label])
        else:
            rows = self._set(key, label)
        rows = rows.expand(count, -1) if rows.ndim == 1 else rows
        if rows.shape != (count, width):
            raise UsageError(f"{key}: {len(rows)} sets of labels for {count} samples; give one, or one for each")
        return _marked(rows)

    def _set(self, key: str, entries: Sequence[Any]) -> Tensor:
        row = torch.zeros(len(self.labels), dtype=torch.bool)
        for entry in entries:
            whole = not isinstance(entry, str) or entry in self.labels
            for part in [entry] if whole else [part.strip() for part in str(entry).split(",") if part.strip()]:
                row[_index(key, part, self.labels)] = True
        return row


def _marked(sets: Tensor) -> Tensor:
    return torch.cat([sets, torch.ones(len(sets), 1, dtype=torch.bool)], 1)


def _one_of(values: Mapping[str, Any]) -> str:
    """By which of its names a label is requested."""
    if len(values) > 1:
        raise UsageError("label, label_index: give one of them; a label is a class of the data, an index its place")
    return next(iter(values))


BY = {"label": index_of, "label_index": checked_index}  # what an entry is the index of a class by


def _index(key: str, entry: Any, classes: Sequence[str]) -> int:
    index: int = BY[key](entry, classes, key)
    return index


def _plain(value: Any) -> Any:
    """Arrays and tensors as lists of plain values."""
    return value.tolist() if hasattr(value, "tolist") else value


ALL = (Label(("a", "b", "c"), (1.0, 1.0, 1.0)), LabelSet(("red", "round", "a,b")))
