"""One class of several, as integers; and sets of labels, of which an item has any number."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ornstein.conditions.condition import Condition, require
from ornstein.data import Dataset, DataSpec
from ornstein.errors import UsageError
from ornstein.noise import mix
from ornstein.spelling import near


@dataclass(frozen=True)
class Label(Condition):
    """One of K classes: an integer, embedded as a row of a table; the null label is K.

    `classes` are their names, `frequencies` how often each occurs in the data.
    """

    classes: tuple[str, ...]
    frequencies: tuple[float, ...]

    names = ("label",)

    def __post_init__(self) -> None:
        count, wrong = len(self.frequencies), len(self.classes)
        require(count == wrong > 0, f"there are {count} frequencies for {wrong} classes")
        valid = min(self.frequencies) >= 0 and 0 < sum(self.frequencies) < math.inf
        require(valid, "frequencies must be positive numbers")

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
        assert dataset.labels is not None
        return torch.from_numpy(dataset.labels[indices])

    def requested(self, values: Mapping[str, Any], count: int, spec: DataSpec) -> Tensor:
        """`values["label"]`: a class by number or name for all, or one number for each."""
        label = values["label"]
        label = number_of(label, self.classes) if isinstance(label, str) else label
        numbers = torch.as_tensor(label)
        numbers = numbers.expand(count) if numbers.ndim == 0 else numbers
        if numbers.shape != (count,):
            raise UsageError(f"label: {tuple(numbers.shape)} labels for {count} samples; give one, or one for each")
        for wrong in numbers[(numbers < 0) | (numbers >= len(self.classes))].tolist():
            number_of(wrong, self.classes)
        return numbers

    def drawn(self, first: int, last: int, seed: int) -> Tensor:
        """A class for each of the samples first..last−1, drawn as often as it occurs in the data; a function of (seed, i)."""
        levels = np.cumsum(self.frequencies)
        units = [mix(seed, i, 0x1ABE1) / 2**63 for i in range(first, last)]
        return torch.from_numpy(np.searchsorted(levels / levels[-1], units, side="right"))


@dataclass(frozen=True)
class LabelSet(Condition):
    """Any number of K labels: boolean rows of K + 1 columns, embedded as the sum of the labels' rows of a table.

    The last column says that the set is told; the null condition is false in all. An empty set is therefore something else: an
    item that is known to have none of the labels.
    """

    labels: tuple[str, ...]

    names = ("label",)

    def __post_init__(self) -> None:
        require(len(self.labels) > 0 and all(isinstance(name, str) for name in self.labels), "labels must be names")

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
        assert dataset.annotations.sets is not None
        return _marked(torch.from_numpy(dataset.annotations.sets[indices]))

    def requested(self, values: Mapping[str, Any], count: int, spec: DataSpec) -> Tensor:
        """`values["label"]`: labels by number or name, one or a sequence of them ("a,b" is one too), for all samples; or for
        each a sequence of them; or booleans (K,) or (N, K)."""
        label = values["label"]
        width = len(self.labels)
        if isinstance(label, (np.ndarray, Tensor)):
            sets = torch.as_tensor(label)
            if sets.shape[-1:] != (width,) or not bool(((sets == 0) | (sets == 1)).all()):
                raise UsageError(
                    f"label: an array must be ({width},) or ({count}, {width}) of 0 and 1; one for each label"
                )
            rows = sets.bool()
        elif isinstance(label, (int, str)):
            rows = self._set([label])
        elif label and all(isinstance(entry, Sequence) and not isinstance(entry, str) for entry in label):
            rows = torch.stack([self._set(entry) for entry in label])
        else:
            rows = self._set(label)
        rows = rows.expand(count, -1) if rows.ndim == 1 else rows
        if rows.shape != (count, width):
            raise UsageError(f"label: {len(rows)} sets of labels for {count} samples; give one, or one for each")
        return _marked(rows)

    def _set(self, entries: Sequence[int | str]) -> Tensor:
        row = torch.zeros(len(self.labels), dtype=torch.bool)
        for entry in entries:
            whole = not isinstance(entry, str) or entry in self.labels
            for part in [entry] if whole else [part.strip() for part in str(entry).split(",") if part.strip()]:
                row[number_of(part, self.labels)] = True
        return row


def _marked(sets: Tensor) -> Tensor:
    return torch.cat([sets, torch.ones(len(sets), 1, dtype=torch.bool)], 1)


def number_of(label: int | str, classes: Sequence[str]) -> int:
    """The number of a class that is given by number or name. Raises UsageError, with the nearest name."""
    if isinstance(label, str):
        if label in classes:
            return list(classes).index(label)
        if not label.lstrip("-").isdigit():
            nearest = near(label, classes)
            hint = f"did you mean {nearest!r}? " if nearest else ""
            raise UsageError(f"label: {label!r} is no class; {hint}the classes are {', '.join(classes)}")
    if not 0 <= int(label) < len(classes):
        raise UsageError(
            f"label: {label} is not one of the {len(classes)} classes 0 ({classes[0]}) to "
            f"{len(classes) - 1} ({classes[-1]})"
        )
    return int(label)
