"""Mask laws: which numbers of an item a model is given in training. Pure functions of uniform numbers and the item's shape.

A law is a frozen dataclass that can be called, visible(numbers, shape) -> booleans that broadcast against (B, *shape), true where
the item is given; `numbers` (B, count(shape)) are uniform on [0, 1). `shape` is (D,) of vectors and (C, ...) of all else.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor


class MaskLaw(Protocol):
    """Which numbers of each training item are known, drawn at random, and which requests a model trained on it can answer."""

    def count(self, shape: tuple[int, ...]) -> int:
        """Uniform numbers for one item."""
        ...

    def check(self, shape: tuple[int, ...]) -> None:
        """Raises ValueError, naming what would fit, for items that the law does not fit."""
        ...

    def refusal(self, visible: Tensor, shape: tuple[int, ...]) -> str:
        """What is wrong with a request that gives the numbers `visible`, boolean (B, *shape); empty if nothing is."""
        ...

    def __call__(self, numbers: Tensor, shape: tuple[int, ...]) -> Tensor: ...


@dataclass(frozen=True)
class AnyColumns(MaskLaw):
    """A random subset of the columns of a vector: its size uniform from none to all but one, then each subset of it as likely.

    `sizes` are the dimensions of the columns in order (a category may take several); empty, each dimension is a column. One
    model of all conditionals p(any | any), as in Ivanov et al. 2019, "Variational autoencoder with arbitrary conditioning".
    Raises ValueError for sizes that are not positive whole numbers.
    """

    sizes: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not all(type(size) is int and size > 0 for size in self.sizes):
            raise ValueError(f"any: sizes of columns are positive whole numbers, not {self.sizes}")

    def __str__(self) -> str:
        return "any" + (f":{','.join(map(str, self.sizes))}" if set(self.sizes) - {1} else "")

    def columns(self, shape: tuple[int, ...]) -> Tensor:
        """The column of each dimension, (D,)."""
        sizes = torch.tensor(self.sizes or (1,) * shape[0])
        return torch.arange(len(sizes)).repeat_interleave(sizes)

    def count(self, shape: tuple[int, ...]) -> int:
        return 1 + len(self.sizes or range(shape[0]))

    def check(self, shape: tuple[int, ...]) -> None:
        if len(shape) != 1:
            raise ValueError("any is for vectors; give past:N, for the first N of a series, gaps or every:N")
        if self.sizes and sum(self.sizes) != shape[0]:
            raise ValueError(
                f"{self}: the columns have {sum(self.sizes)} dimensions, and the vectors {shape[0]}; give sizes that add up"
            )

    def refusal(self, visible: Tensor, shape: tuple[int, ...]) -> str:
        column = self.columns(shape)
        for k in range(int(column[-1]) + 1):
            some = visible[:, column == k]
            if bool((some.any(1) != some.all(1)).any()):
                first = int((column == k).nonzero()[0])
                return f"dimensions {first} to {first + some.shape[1] - 1} are one column; give all of them or none of them"
        return ""

    def __call__(self, numbers: Tensor, shape: tuple[int, ...]) -> Tensor:
        draws = numbers[:, 1:]
        size = (numbers[:, :1] * draws.shape[1]).floor()
        rank = draws.argsort(1).argsort(1)
        return (rank < size)[:, self.columns(shape)]


@dataclass(frozen=True)
class Past(MaskLaw):
    """The first `length` places along the first axis besides channels: a forecast of a series, or of a film's later frames.

    Raises ValueError for a length that is no positive whole number.
    """

    length: int

    def __post_init__(self) -> None:
        if type(self.length) is not int or self.length < 1:
            raise ValueError(f"past: the length is {self.length} and must be a whole number, 1 or more")

    def __str__(self) -> str:
        return f"past:{self.length}"

    def count(self, shape: tuple[int, ...]) -> int:
        return 0

    def check(self, shape: tuple[int, ...]) -> None:
        if len(shape) < 2:
            raise ValueError("past is for series; give any for vectors")
        if self.length >= shape[1]:
            raise ValueError(f"{self} leaves nothing of length {shape[1]} to forecast; give less")

    def refusal(self, visible: Tensor, shape: tuple[int, ...]) -> str:
        if bool((visible == self(torch.zeros(1, 0), shape)).all()) or not bool(visible.any()):
            return ""
        return f"this run was trained with --given {self}; give the first {self.length} and NaN for all that follows"

    def __call__(self, numbers: Tensor, shape: tuple[int, ...]) -> Tensor:
        early = torch.arange(shape[1]) < self.length
        return early.reshape(1, 1, -1, *(1,) * (len(shape) - 2)).expand(len(numbers), 1, *shape[1:])


@dataclass(frozen=True)
class Gaps(MaskLaw):
    """All but one gap along the first axis besides channels, of any length and at any place: interpolation, and forecasts too."""

    def __str__(self) -> str:
        return "gaps"

    def count(self, shape: tuple[int, ...]) -> int:
        return 2

    def check(self, shape: tuple[int, ...]) -> None:
        if len(shape) < 2 or shape[1] < 2:
            raise ValueError("gaps is for series; give any for vectors")

    def refusal(self, visible: Tensor, shape: tuple[int, ...]) -> str:
        return ""

    def __call__(self, numbers: Tensor, shape: tuple[int, ...]) -> Tensor:
        length = shape[1]
        size = 1 + (numbers[:, :1] * length).floor()
        start = (numbers[:, 1:2] * (length - size + 1)).floor()
        place = torch.arange(length)
        hidden = (place >= start) & (place < start + size)
        visible: Tensor = ~hidden.reshape(len(numbers), 1, length, *(1,) * (len(shape) - 2))
        return visible.expand(len(numbers), 1, *shape[1:])


@dataclass(frozen=True)
class Every(MaskLaw):
    """Every `step`-th place along an axis besides channels, from the first on: super-resolution along that axis.

    `axis` 1 is the first such axis: of a series its length, of a volume its depth. Raises ValueError for a step below 2 and an
    axis below 1.
    """

    step: int
    axis: int = 1

    def __post_init__(self) -> None:
        if not all(type(value) is int for value in (self.step, self.axis)) or self.step < 2 or self.axis < 1:
            raise ValueError(
                f"every: the step is {self.step} along axis {self.axis}; give 2 or more, along axis 1 or another"
            )

    def __str__(self) -> str:
        return f"every:{self.step}" + (f",{self.axis}" if self.axis > 1 else "")

    def count(self, shape: tuple[int, ...]) -> int:
        return 0

    def check(self, shape: tuple[int, ...]) -> None:
        if len(shape) < 2:
            raise ValueError("every is for series, images and volumes; give any for vectors")
        if self.axis >= len(shape):
            raise ValueError(f"{self}: there is no axis {self.axis} of {len(shape) - 1}; give one of them")
        if shape[self.axis] < 2:
            raise ValueError(f"{self} leaves nothing of length {shape[self.axis]} to be found; give another axis")
        if self.step >= shape[self.axis]:
            raise ValueError(f"{self} gives one place of {shape[self.axis]} alone; give a smaller step")

    def refusal(self, visible: Tensor, shape: tuple[int, ...]) -> str:
        if bool((visible == self(torch.zeros(1, 0), shape)).all()) or not bool(visible.any()):
            return ""
        return f"this run was trained with --given {self}; give these places and NaN for all others"

    def __call__(self, numbers: Tensor, shape: tuple[int, ...]) -> Tensor:
        places = torch.arange(shape[self.axis]) % self.step == 0
        sides = [-1 if axis == self.axis else 1 for axis in range(len(shape))]
        return places.reshape(1, *sides).expand(len(numbers), 1, *shape[1:])


LAWS: dict[str, Any] = {kind.__name__: kind for kind in (AnyColumns, Past, Gaps, Every)}
