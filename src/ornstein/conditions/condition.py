"""The interface of a condition, for data, networks, training and sampling."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

if TYPE_CHECKING:
    from ornstein.data.dataset import Dataset
    from ornstein.data.spec import DataSpec


class Condition(ABC):
    """Abstract, frozen: one input of a network besides x_t and t, with all that gives it a meaning.

    A batch of it is one tensor, its rows: what the network is called with. The null condition, which says nothing, is a row too:
    examples whose condition is dropped are trained on it (Ho and Salimans 2022, section 3.2), and samples without a condition
    take it.
    """

    names: ClassVar[tuple[str, ...]]
    """Names of its values for users: the keys of `requested`."""
    place: ClassVar[int] = 80
    """Networks take the conditions of a model in this order; classes are the first."""
    numbers: ClassVar[int] = 0
    """Uniform numbers in [0, 1) that the rows of an item take where they are made at random."""
    optional: ClassVar[bool] = False
    """Whether samples can do without it also where training never dropped it, such as classes, which are drawn then."""
    drawn_in_training: ClassVar[bool] = False
    """Whether it says nothing of an item outside of training unless a user gives it."""

    @classmethod
    def from_data(cls, dataset: Dataset) -> Self | None:
        """The condition of this kind that data bring with their items; None where they bring none."""
        return None

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`, without the type. Raises KeyError, TypeError or ValueError."""
        return cls(**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})

    @property
    @abstractmethod
    def arguments(self) -> dict[str, int]:
        """The arguments with which a network is built to take this condition."""

    @abstractmethod
    def null(self, count: int) -> Tensor:
        """`count` rows that say nothing."""

    @abstractmethod
    def of(self, dataset: Dataset, indices: NDArray[np.int64], x: Tensor, numbers: Tensor) -> Tensor:
        """The rows of items of data, which are x in model units; `numbers` (B, self.numbers) where chance has a part."""

    @abstractmethod
    def requested(self, values: Mapping[str, Any], count: int, spec: DataSpec) -> Tensor:
        """`count` rows of what a user asks for, by `names`. Raises UsageError that says what is wrong."""

    def named(self, value: Any) -> dict[str, Any]:
        """A value without a name as `requested` takes it."""
        return {self.names[0]: value}

    @abstractmethod
    def missing(self, dataset: Dataset) -> str:
        """What these data lack for this condition, as the end of a sentence; empty if nothing."""

    @property
    @abstractmethod
    def description(self) -> str:
        """A few words for people."""

    def scored(self, rows: Tensor) -> Tensor | None:
        """1 where a number of an item is to be estimated given these rows, else 0, shaped as items; None: everywhere."""
        return None

    def dropped(self, rows: Tensor, where: Tensor) -> Tensor:
        """The rows with the null condition where `where` (B,) is true."""
        where = where.reshape(-1, *[1] * (rows.ndim - 1)).to(rows.device)
        return torch.where(where, self.null(1).to(rows), rows)

    def to_json(self) -> dict[str, Any]:
        """The type and the fields of the condition as plain values."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}  # type: ignore[arg-type]
        plain = {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}
        return {"type": type(self).__name__, **plain}


def require(to: bool, message: str) -> None:
    """Raises ValueError with the message unless `to` is true: for values that come from files."""
    if not to:
        raise ValueError(message)
