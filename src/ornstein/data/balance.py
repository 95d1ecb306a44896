"""Items of rare groups drawn as often as those of others: a pure function of (seed, step), with replacement."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Balance:
    """Each of `count` groups as often; the items of no group, which have the number `count`, as often as they occur.

    rows: the items in the order of their groups; of each group that has any, `starts` and `counts` among them, and its chance.
    """

    rows: NDArray[np.int64]
    starts: NDArray[np.int64]
    counts: NDArray[np.int64]
    chances: NDArray[np.float64]

    @staticmethod
    def of(groups: NDArray[np.int64], count: int) -> Balance:
        """The balance of items whose groups (N,) are numbers from 0 to `count`."""
        rows = np.argsort(groups, kind="stable")
        present, starts, counts = np.unique(groups[rows], return_index=True, return_counts=True)
        known = present < count
        others = np.where(known, 0.0, counts / len(groups))
        chances = np.where(known, (1 - others.sum()) / max(known.sum(), 1), others)
        return Balance(rows, starts, counts, chances / chances.sum())

    def drawn(self, seed: int, step: int, total: int) -> NDArray[np.int64]:
        """The items (total,) of a training step."""
        rng = np.random.default_rng((seed, step, 0xBA1A))
        group = rng.choice(len(self.counts), size=total, p=self.chances)
        return np.asarray(self.rows[self.starts[group] + rng.integers(self.counts[group])])
