"""The mean of an item as its condition, a trial."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ornstein.conditions.condition import Condition, require
from ornstein.errors import UsageError

if TYPE_CHECKING:
    from ornstein.data.dataset import Dataset
    from ornstein.data.spec import DataSpec


@dataclass(frozen=True)
class Mean(Condition):
    """The mean of all numbers of an item in model units, times `by`, and 1 behind it; the null condition is two zeros."""

    by: float

    names = ("mean",)
    place = 90

    def __post_init__(self) -> None:
        require(type(self.by) in (int, float), "the factor of a mean must be a number")

    @property
    def arguments(self) -> dict[str, int]:
        return {"vector": 2}

    @property
    def description(self) -> str:
        return "the mean of an item"

    def null(self, count: int) -> Tensor:
        return torch.zeros(count, 2)

    def missing(self, dataset: Dataset) -> str:
        return ""

    def of(self, dataset: Dataset, indices: NDArray[np.int64], x: Tensor, numbers: Tensor) -> Tensor:
        return self._rows(x.flatten(1).mean(1))

    def requested(self, values: Mapping[str, Any], count: int, spec: DataSpec) -> Tensor:
        """`values["mean"]`: a number for all. Raises UsageError for anything else."""
        try:
            return self._rows(torch.full((count,), float(values["mean"])))
        except (TypeError, ValueError):
            raise UsageError(f"mean: {values['mean']!r:.80} is no number") from None

    def _rows(self, means: Tensor) -> Tensor:
        return torch.stack([self.by * means, torch.ones_like(means)], 1)


ALL = (Mean(2.0),)
