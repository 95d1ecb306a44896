"""Vectors as conditions, in the user's own units; and texts, which an encoder makes vectors of."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ornstein.conditions.condition import Condition, require
from ornstein.conditions.text import embed
from ornstein.errors import UsageError

if TYPE_CHECKING:
    from ornstein.data.dataset import Dataset
    from ornstein.data.spec import DataSpec


@dataclass(frozen=True)
class Vector(Condition):
    """C numbers, standardised: rows ((v − mean)/std, 1); the null condition is 0 in all C + 1, also in the flag at the end.

    So the mean of the data is not the same as nothing, and what the network learns of the flag is its null vector.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    names: ClassVar[tuple[str, ...]] = ("vector",)
    place = 20

    def __post_init__(self) -> None:
        numbers = (*self.mean, *self.std)
        require(len(self.mean) == len(self.std) > 0, "the mean and std of a vector condition are not alike")
        finite = all(type(v) in (int, float) and math.isfinite(v) for v in numbers)
        require(
            finite and min(self.std) >= 0, "the mean and std of a vector condition must be numbers, std not negative"
        )

    @classmethod
    def from_data(cls, dataset: Dataset) -> Vector | None:
        vectors = dataset.annotations.vectors
        return None if vectors is None or dataset.annotations.encoder else cls(*_moments(vectors))

    @property
    def arguments(self) -> dict[str, int]:
        return {"vector": len(self.mean) + 1}

    @property
    def description(self) -> str:
        return f"vectors of {len(self.mean)} numbers"

    def null(self, count: int) -> Tensor:
        return torch.zeros(count, len(self.mean) + 1)

    def missing(self, dataset: Dataset) -> str:
        vectors = dataset.annotations.vectors
        lacks = vectors is None or vectors.shape[1] != len(self.mean) or dataset.annotations.encoder
        return f"lacks a vector of {len(self.mean)} numbers for each item" if lacks else ""

    def of(self, dataset: Dataset, indices: NDArray[np.int64], x: Tensor, numbers: Tensor) -> Tensor:
        """The rows (B, C + 1) of the items; the null row where a vector is missing."""
        assert dataset.annotations.vectors is not None
        vectors = dataset.annotations.vectors[indices]
        missing = np.isnan(vectors[:, :1]).any(1)
        rows = self._rows(vectors)
        return self.dropped(rows, torch.from_numpy(missing)) if missing.any() else rows

    def requested(self, named: Mapping[str, Any], count: int, spec: DataSpec) -> Tensor:
        """`values["vector"]`: C numbers for all samples, or (N, C), in the units of the data.

        Raises UsageError that says what is wrong.
        """
        width = len(self.mean)
        try:
            values = np.asarray(named["vector"], np.float64)
        except (TypeError, ValueError):
            values = np.full(0, np.nan)
        values = values[None] if values.ndim < 2 and values.size == width else values
        values = np.atleast_1d(values)
        if values.shape not in ((1, width), (count, width)) or not np.isfinite(values).all():
            raise UsageError(
                f"condition: this run takes {width} finite numbers, or ({count}, {width}) of them, one row for each sample; "
                f"these are of shape {values.shape}"
            )
        return self._rows(np.broadcast_to(values.reshape(-1, width), (count, width)))

    def _rows(self, values: NDArray[Any]) -> Tensor:
        scale = np.where(np.array(self.std) > 0, self.std, 1.0)
        own = torch.from_numpy(((values - np.array(self.mean)) / scale).astype(np.float32))
        return torch.cat([own, torch.ones(len(own), 1)], 1)


@dataclass(frozen=True)
class Text(Vector):
    """A text, as the vector that the encoder of this name makes of it (`conditions.encoded`)."""

    encoder: str

    names: ClassVar[tuple[str, ...]] = ("text", "vector")
    place = 30

    def __post_init__(self) -> None:
        super().__post_init__()
        require(type(self.encoder) is str and self.encoder != "", "the encoder of a text condition has a name")

    @classmethod
    def from_data(cls, dataset: Dataset) -> Text | None:
        vectors, encoder = dataset.annotations.vectors, dataset.annotations.encoder
        return cls(*_moments(vectors), encoder) if vectors is not None and encoder else None

    def named(self, value: Any) -> dict[str, Any]:
        texts = isinstance(value, str) or (isinstance(value, list) and all(isinstance(text, str) for text in value))
        return {"text" if texts else "vector": value}

    @property
    def description(self) -> str:
        return f"texts, as {len(self.mean)} numbers by {self.encoder}"

    def missing(self, dataset: Dataset) -> str:
        vectors, by = dataset.annotations.vectors, dataset.annotations.encoder
        lacks = vectors is None or by != self.encoder or vectors.shape[1] != len(self.mean)
        return f"lacks captions that were encoded by {self.encoder}" if lacks else ""

    def requested(self, values: Mapping[str, Any], count: int, spec: DataSpec) -> Tensor:
        """`values["text"]`: one text for all samples, or one for each; or `values["vector"]`, what the encoder made of them.

        Raises UsageError that says what is wrong.
        """
        if "text" not in values:
            return super().requested(values, count, spec)
        texts = [values["text"]] if isinstance(values["text"], str) else list(values["text"])
        if not texts or not all(isinstance(text, str) for text in texts):
            raise UsageError("text: give one text, or a list with a text for each sample")
        return super().requested({"vector": embed(texts, self.encoder)}, count, spec)


def _moments(vectors: NDArray[np.float32]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of the vectors that are there."""
    known = vectors[~np.isnan(vectors[:, 0])].astype(np.float64)
    return tuple(known.mean(0).tolist()), tuple(known.std(0).tolist())


ALL = (Vector((1.0, 2.0), (2.0, 0.0)), Text((0.0,) * 256, (1.0,) * 256, "words"))
