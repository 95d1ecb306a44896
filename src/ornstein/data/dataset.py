"""Decoded data, ready to be indexed: a batch is one index and one copy."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ornstein.data.annotations import Annotations
from ornstein.data.spec import DataSpec

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Dataset:
    """Items in their own type, `(N, H, W, C)` or `(N, D)`, with labels and a description.

    `items` may be `Rows`, read as they are asked for; `labels` is int64 `(N,)`, or `None`; `beside` holds what else is known of
    each item. `use` keeps an entry of the cache from being removed.
    """

    items: NDArray[Any]
    labels: NDArray[np.int64] | None
    spec: DataSpec
    annotations: Annotations = Annotations()
    use: object = None

    def __len__(self) -> int:
        return len(self.items)

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of labels `0, 1, …`; empty without labels."""
        return self.spec.classes

    def in_units_of(self, spec: DataSpec) -> Dataset:
        """The same items, for a model that was trained on data of `spec`: vectors take its mean and deviation, not their own."""
        if spec.kind != "vector":
            return self
        return replace(self, spec=replace(self.spec, mean=spec.mean, std=spec.std))

    def batch(self, indices: NDArray[np.integer[Any]], flip: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """The items `indices` in model units: float32 `(B, C, H, W)` or `(B, D)`, and int64 labels `(B,)` or `None`.

        `flip`, boolean `(B,)`, mirrors those images left to right; the caller's generator makes that choice.
        Raises `ValueError` when vectors are to be flipped.
        """
        import torch

        x = self.spec.to_model(np.asarray(self.items[indices]))
        if flip is not None:
            if self.spec.kind != "image":
                raise ValueError("Vectors have no left and right: batch(flip=...) is for images.")
            x = torch.where(flip[:, None, None, None], x.flip(-1), x)
        return x, None if self.labels is None else torch.from_numpy(self.labels[indices])
