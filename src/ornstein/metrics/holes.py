"""Real items with missing numbers beside samples without: both sides get the same holes, filled alike."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ornstein.data import Dataset
from ornstein.data.content import chunks
from ornstein.errors import UsageError


@dataclass(frozen=True, eq=False)
class Holes:
    """Where the items of a data set lack numbers, `places` (N, *item_shape), and what stands there: the middle of each channel,
    which is 0 for the model.

    Two sets of items whose law is the same have the same law with the same holes, where these do not depend on the numbers.
    """

    places: NDArray[np.bool_]
    middle: NDArray[Any]

    @staticmethod
    def of(data: Dataset) -> Holes:
        """The holes of a data set."""
        import torch

        middle = data.spec.from_model(torch.zeros(1, *data.spec.shape))[0]
        return Holes(np.concatenate([np.isnan(chunk) for chunk in chunks(data.items)]), middle)

    @property
    def share(self) -> float:
        """The part of all numbers that is missing."""
        return float(self.places.mean())

    def fill(self, data: Dataset) -> Dataset:
        """The data whose holes these are, without NaN."""
        items = np.where(self.places, self.middle, np.asarray(data.items)).astype(np.asarray(data.items[:1]).dtype)
        return replace(data, items=items, spec=replace(data.spec, missing=False))

    def punch(self, items: NDArray[Any], first: int = 0) -> NDArray[Any]:
        """Items (n, *item_shape) with the holes of items of the data, drawn by the number of each, `first` and those after it."""
        order = np.random.default_rng(0).permutation(len(self.places))
        rows = order[np.arange(first, first + len(items)) % len(order)]
        punched: NDArray[Any] = np.where(self.places[rows], self.middle, items).astype(items.dtype)
        return punched


def alike(data: Dataset, training: Dataset | None) -> tuple[Dataset, Dataset | None, Holes | None, str]:
    """Real and training data as samples can be compared with them: without NaN, with the holes for the samples (None: none), and
    a sentence.

    Training data without holes get those of the real ones; where only training data have holes, their whole items are taken.
    """
    if not data.spec.missing:
        if training is None or not training.spec.missing:
            return data, training, None, ""
        try:
            some, note = training.whole()
        except UsageError as error:
            return data, None, None, f"The training data are left out: {error}."
        return data, some, None, note
    holes = Holes.of(data)
    filled = holes.fill(data)
    note = (
        f"{holes.share:.1%} of the numbers of {data.spec.source} are missing: samples get the same holes, and both sides the "
        "middle of the channel there. What is measured is right where the holes do not depend on the numbers."
    )
    if training is None or training is data:
        return filled, None if training is None else filled, holes, note
    if training.spec.missing:
        return filled, Holes.of(training).fill(training), holes, note
    return filled, replace(training, items=holes.punch(np.asarray(training.items))), holes, note
