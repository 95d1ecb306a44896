"""Conditions of a model: classes, sets of labels, vectors, texts, images, known numbers, each with a null condition.

A kind of condition is described once, by a frozen `Condition`: how its rows are made from data and from a request of the user,
what the null row is, and which arguments the network needs. `Conditions` are those of one model. A new kind is a file here
which ends with `ALL = (Kind(...),)`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ornstein._declared import declared
from ornstein._lazy import attach
from ornstein.conditions.condition import Condition
from ornstein.conditions.image import ImageCondition
from ornstein.conditions.known import Known
from ornstein.conditions.label import Label, LabelSet
from ornstein.conditions.text import ENCODERS, Encoder, Words, embed
from ornstein.conditions.vector import Text, Vector
from ornstein.degradations import Degradation, Grey, LowRes, RandomMask
from ornstein.errors import UsageError
from ornstein.masking import AnyColumns, Every, Gaps, MaskLaw, Past
from ornstein.noise import mix

if TYPE_CHECKING:
    from ornstein.conditions.captions import encoded
    from ornstein.data.dataset import Dataset
    from ornstein.data.spec import DataSpec
else:
    __getattr__, __dir__ = attach(__name__, {"encoded": "captions"})

ALL: tuple[Condition, ...] = tuple(sorted(declared(__name__, without=("captions",)), key=lambda part: part.place))
"""Small ones of every kind, which every property test runs over."""

KINDS: dict[str, type[Condition]] = {type(part).__name__: type(part) for part in ALL}
"""By the names in config.json, in the order in which a network takes them."""

Rows = tuple[Tensor, ...]
"""A batch of all conditions of a model: one tensor for each, in their order."""


@dataclass(frozen=True)
class Conditions:
    """The conditions of one model, in order; `augmented` columns of zeros follow the vector in all but training.

    Raises ValueError when two of them would enter the network in the same way.
    """

    parts: tuple[Condition, ...] = ()
    augmented: int = 0

    def __post_init__(self) -> None:
        keys = [key for part in self.parts for key in part.arguments]
        for key in keys:
            if keys.count(key) > 1:
                raise ValueError(f"a model has one condition of a kind, and these are two that need {key!r}")

    def __bool__(self) -> bool:
        return bool(self.parts)

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, or of the labels of sets; empty where there are none."""
        named = next((part for part in self.parts if isinstance(part, (Label, LabelSet))), None)
        return () if named is None else named.classes if isinstance(named, Label) else named.labels

    @property
    def label(self) -> Label | None:
        """The classes, where there are any."""
        return next((part for part in self.parts if isinstance(part, Label)), None)

    @property
    def image(self) -> ImageCondition | None:
        """The image, where there is one."""
        return next((part for part in self.parts if isinstance(part, ImageCondition)), None)

    @property
    def known(self) -> Known | None:
        """Known numbers of an item, where a model takes them."""
        return next((part for part in self.parts if isinstance(part, Known)), None)

    @property
    def arguments(self) -> dict[str, int]:
        """Arguments of a network's constructor: `classes` and `vector`, 0 if there is none; `image` only if there is one."""
        arguments = {"classes": 0, "vector": 0}
        for part in self.parts:
            arguments |= part.arguments
        arguments["vector"] += self.augmented
        return arguments

    @property
    def numbers(self) -> int:
        """Uniform numbers that a row of all of them takes."""
        return sum(part.numbers for part in self.parts)

    def null(self, count: int) -> Rows:
        """The null condition of every kind, `count` rows."""
        return tuple(part.null(count) for part in self.parts)

    def fitted(self, dataset: Dataset, run: object) -> Dataset:
        """The data with classes and labels as this model has them, matched by name.

        Raises UsageError if data lack a condition of the run, or have other classes.
        """
        moved, note = self.matched(dataset)
        if len(moved) < len(dataset):
            how = f"give dataset.with_classes(run.spec.classes)[0] for {run}"
            raise UsageError(f"{dataset.spec.source}: {note.rstrip('.')}; {how}")
        self.must_fit(moved, run)
        return moved

    def matched(self, dataset: Dataset) -> tuple[Dataset, str]:
        """The items of the data whose classes this model has, matched by name, and a sentence of what is left out or lacks."""
        label = self.label
        sets = next((part for part in self.parts if isinstance(part, LabelSet)), None)
        dataset, note = (dataset, "") if label is None else dataset.with_classes(label.classes)
        if sets is None:
            return dataset, note
        annotations, other = dataset.annotations.with_tags(sets.labels)
        return replace(dataset, annotations=annotations), " ".join(filter(None, (note, other)))

    def must_fit(self, dataset: Dataset, run: object) -> None:
        """Raises UsageError when data lack a condition that a run was trained with."""
        for part in self.parts:
            lack = part.missing(dataset)
            if lack:
                raise UsageError(f"{dataset.spec.source} {lack} that {run} was trained with; give data that have it")

    def of(self, dataset: Dataset, indices: NDArray[np.int64], x: Tensor, numbers: Tensor) -> Rows:
        """The rows of items of data, which are x in model units; `numbers` (B, self.numbers) where chance has a part."""
        edges = np.cumsum([0, *(part.numbers for part in self.parts)]).tolist()
        slices = (numbers[:, a:b] for a, b in pairwise(edges))
        return tuple(part.of(dataset, indices, x, some) for part, some in zip(self.parts, slices, strict=True))

    def of_items(self, dataset: Dataset, indices: NDArray[np.int64], seed: int = 0) -> Rows:
        """The rows of items of data, outside of training: chance has its part as a function of (seed, index) alone."""
        numbers, draws = torch.zeros(len(indices), self.numbers), torch.Generator()
        for row, index in zip(numbers, indices.tolist(), strict=True):
            row.uniform_(generator=draws.manual_seed(mix(seed, index, 0xC0DE)))
        rows = self.of(dataset, indices, dataset.batch(indices)[0], numbers)
        hidden = torch.tensor([part.drawn_in_training for part in self.parts], dtype=torch.bool)
        return self.dropped(rows, hidden[:, None].expand(-1, len(indices))) if bool(hidden.any()) else rows

    def scored(self, rows: Rows) -> Tensor | None:
        """1 where a number of an item is to be estimated given these rows, else 0; None: everywhere."""
        known = [part.scored(row) for part, row in zip(self.parts, rows, strict=True)]
        return next((where for where in known if where is not None), None)

    def dropped(self, rows: Rows, where: Tensor) -> Rows:
        """The rows with the null condition where `where` (parts, B) is true."""
        return tuple(part.dropped(row, w) for part, row, w in zip(self.parts, rows, where, strict=True))

    def requested(
        self, count: int, spec: DataSpec, label: Any = None, condition: Any = None, label_index: Any = None
    ) -> Rows | None:
        """`count` rows of what a user asks for; conditions that are not named take their null. None when no condition is.

        `condition` is a mapping of names to values (`Condition.names`), or the value of the one condition that is no label.
        Raises UsageError that says what is wrong.
        """
        values = self.by_name(condition)
        if label is not None:
            values = {"label": label, **values}
        if label_index is not None:
            values = {"label_index": label_index, **values}
        if not values:
            return None
        for key in values:
            if not any(key in part.names for part in self.parts):
                has = ", ".join(part.description for part in self.parts)
                if not has and key in Label.names:
                    raise UsageError("label: this run was trained without classes; leave the label out")
                raise UsageError(f"{key}: this model has no condition of that name; it has {has or 'none'}")
        rows = []
        for part in self.parts:
            own = {key: values[key] for key in part.names if values.get(key) is not None}
            rows.append(part.requested(own, count, spec) if own else part.null(count))
        return tuple(rows)

    def by_name(self, condition: Any) -> dict[str, Any]:
        """A user's condition as a mapping of names to values.

        Raises UsageError where a value alone could be of several conditions, or of none.
        """
        if condition is None:
            return {}
        if isinstance(condition, Mapping):
            return dict(condition)
        others = [part for part in self.parts if "label" not in part.names]
        if len(others) > 1:
            others = [part for part in others if not isinstance(part, Known)]
        if len(others) != 1:
            names = [part.names[0] for part in others]
            how = f"say which of {', '.join(names)} by condition={{name: value}}" if names else "leave it out"
            raise UsageError(f"condition: this run takes {len(others)} conditions besides labels; {how}")
        return others[0].named(condition)

    def network_input(self, rows: Rows | None, augmentation: Tensor | None = None) -> Any:
        """The condition argument of a network: None, a tensor or a tuple. `augmentation` (B, A) follows the vector."""
        inputs = list(rows or ())
        place = next((i for i, part in enumerate(self.parts) if "vector" in part.arguments), None)
        if inputs and place is not None and self.augmented:
            vector = inputs[place]
            behind = vector.new_zeros(len(vector), self.augmented) if augmentation is None else augmentation
            inputs[place] = torch.cat([vector, behind], 1)
        elif augmentation is not None:
            inputs.append(augmentation)
        return None if not inputs else inputs[0] if len(inputs) == 1 else tuple(inputs)

    def to_json(self) -> list[dict[str, Any]]:
        """All as plain values but the classes, which a model's file has as `classes` and `frequencies`."""
        return [part.to_json() for part in self.parts if part is not self.label]


def to(condition: Any, device: torch.device, dtype: torch.dtype | None = None) -> Any:
    """The condition argument of a network, moved to a device; floating numbers converted to a type."""
    if isinstance(condition, tuple):
        return tuple(to(part, device, dtype) for part in condition)
    if not isinstance(condition, Tensor):
        return condition
    return condition.to(device, dtype if condition.is_floating_point() else None)


def from_json(values: Sequence[Mapping[str, Any]]) -> tuple[Condition, ...]:
    """The inverse of `Conditions.to_json`. Raises KeyError, TypeError or ValueError for what describes no conditions."""
    fields = [dict(entry) for entry in values]
    return tuple(KINDS[entry.pop("type")].from_json(entry) for entry in fields)


def of(dataset: Dataset, degradation: Degradation | None = None, law: MaskLaw | None = None) -> tuple[Condition, ...]:
    """The conditions that data bring, the image that a degradation leaves, and the numbers that a mask law gives.

    Raises ValueError for a degradation or a law that does not fit the items.
    """
    parts = tuple(part for kind in KINDS.values() if (part := kind.from_data(dataset)) is not None)
    image = () if degradation is None else (ImageCondition(degradation, dataset.spec.shape),)
    known = () if law is None else (Known(law, dataset.spec.shape),)
    return (*parts, *image, *known)


__all__ = [
    "ALL",
    "ENCODERS",
    "AnyColumns",
    "Condition",
    "Conditions",
    "Degradation",
    "Encoder",
    "Every",
    "Gaps",
    "Grey",
    "ImageCondition",
    "Known",
    "Label",
    "LabelSet",
    "LowRes",
    "MaskLaw",
    "Past",
    "RandomMask",
    "Rows",
    "Text",
    "Vector",
    "Words",
    "embed",
    "encoded",
    "from_json",
    "of",
    "to",
]
