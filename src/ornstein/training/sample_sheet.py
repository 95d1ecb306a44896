"""The sample grid of a run: what is asked for in each cell, and where it stands."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ornstein.conditions import Conditions, Rows
from ornstein.data import Dataset

EACH = 6  # samples that are given one image


@dataclass(frozen=True, eq=False)
class SampleSheet:
    """`count` samples that are told `rows`; of a run that is given images each row shows one, the whole of it, and samples."""

    count: int
    rows: Rows | None
    conditions: Conditions
    columns: int | None
    left: NDArray[Any] | None = None
    """What samples were given, and the whole images, (items, 2, H, W, C)."""

    @staticmethod
    def of(conditions: Conditions, dataset: Dataset, count: int) -> "SampleSheet":
        """Of classes alone: each in turn. Else: what belongs to evenly spaced items of the data."""
        label, image = conditions.label, conditions.image
        if not conditions:
            return SampleSheet(count, None, conditions, None)
        if label is not None and len(conditions.parts) == 1:
            classes = len(label.classes)
            return SampleSheet(
                count, (torch.arange(count) % classes,), conditions, classes if 4 <= classes <= 16 else None
            )
        wanted = count if image is None else max(1, count // EACH)
        items = np.arange(wanted) * len(dataset) // wanted
        rows = conditions.of_items(dataset, items)
        if image is None:
            return SampleSheet(count, rows, conditions, None)
        given = dataset.spec.from_model(image.visible(rows[conditions.parts.index(image)]))
        left = np.stack([given, np.asarray(dataset.items[items])], 1)
        each = tuple(row.repeat_interleave(EACH, 0) for row in rows)
        return SampleSheet(wanted * EACH, each, conditions, EACH + 2, left)

    def told(self, first: int, last: int) -> Any:
        """What the network is told for samples first..last−1."""
        return self.conditions.network_input(None if self.rows is None else tuple(row[first:last] for row in self.rows))

    def laid(self, samples: NDArray[Any]) -> NDArray[Any]:
        """The cells of the grid, row by row."""
        if self.left is None:
            return samples
        together = np.concatenate([self.left, samples.reshape(-1, EACH, *samples.shape[1:])], 1)
        return together.reshape(-1, *samples.shape[1:])
