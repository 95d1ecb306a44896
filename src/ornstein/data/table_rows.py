"""Rows of a table as a data set: whole numbers are dequantised anew in each step of a training."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ornstein.data.balance import Balance
from ornstein.data.column_spec import ColumnSpec
from ornstein.data.content import chunks
from ornstein.data.dataset import Dataset
from ornstein.data.shuffle import order
from ornstein.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

TURN = (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)  # of SplitMix64


@dataclass(frozen=True, eq=False)
class ColumnDataset(Dataset):
    """`step`: the seed and the step of a training whose batch is drawn; without, whole numbers lie in the middle of their bin.

    `balance`: how rows are drawn, where not each as often.
    """

    spec: ColumnSpec
    step: tuple[int, int] | None = None
    balance: Balance | None = None

    def balanced(self, column: str | None = None) -> Dataset:
        spec = self.spec
        if column is None:
            raise UsageError(f"balance: {spec.source} has several columns; say --balance-by {spec.columns[-1].name}")
        place = spec.place(column)
        chosen = spec.columns[place]
        if chosen.is_numeric or not chosen.width:
            held = "numbers" if chosen.is_numeric else "one value alone"
            raise UsageError(f"balance_by: column {column} holds {held}; give a column of categories")
        states = np.concatenate([chosen.state_of(np.asarray(chunk)[:, place]) for chunk in chunks(self.items)])
        return replace(self, balance=Balance.of(states, len(chosen.state_names) - chosen.missing))

    def drawn(self, seed: int, step: int, total: int) -> tuple[Dataset, NDArray[np.int64]]:
        rows = order(seed, step, total, len(self)) if self.balance is None else self.balance.drawn(seed, step, total)
        return replace(self, step=(seed, step)), rows

    def batch(
        self,
        indices: NDArray[np.integer[Any]],
        flip: Tensor | None = None,
        wide: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Rows in model units (B, D), and no labels."""
        if flip is not None:
            raise ValueError("rows have no left and right: batch(flip=...) is for images.")
        rows = np.asarray(self.items[indices])
        dither = None if self.step is None else uniform(*self.step, np.asarray(indices), rows.shape[1]) - 0.5
        return self.spec.to_model(rows, wide, dither), None


def uniform(seed: int, step: int, indices: NDArray[np.integer[Any]], columns: int) -> NDArray[np.float64]:
    """Uniform numbers in [0, 1) (N, columns), a function of the seed, the step, the row and the column (SplitMix64)."""
    keys = np.array([seed % (1 << 64), step], np.uint64)
    with np.errstate(over="ignore"):
        key = _mixed(keys * np.array(TURN[1:], np.uint64)).sum(dtype=np.uint64)
        places = indices.astype(np.uint64)[:, None] * np.uint64(columns) + np.arange(columns, dtype=np.uint64)
        mixed = _mixed(key + (places + np.uint64(1)) * np.uint64(TURN[0]))
    return (mixed >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mixed(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    state = (state ^ (state >> np.uint64(30))) * np.uint64(TURN[1])
    state = (state ^ (state >> np.uint64(27))) * np.uint64(TURN[2])
    return np.asarray(state ^ (state >> np.uint64(31)))
