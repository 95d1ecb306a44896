"""In which order items are seen: a pure function of (seed, step), so that a resumed run goes on as it would have."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray


def order(seed: int, step: int, batch_size: int, count: int) -> NDArray[np.int64]:
    """The indices of batch `step`: `(batch_size,)` int64 in `[0, count)`.

    Each epoch is one permutation of `range(count)` drawn from (seed, epoch); the permutations follow each other
    and are cut into batches of exactly `batch_size`. A batch may cross an epoch's border (or several, when
    `count < batch_size`), and every index comes exactly once per epoch.

    Raises `ValueError` when an argument is negative, or `batch_size` or `count` is zero.
    """
    if seed < 0 or step < 0 or batch_size < 1 or count < 1:
        raise ValueError(
            f"order needs seed >= 0, step >= 0, batch_size >= 1 and count >= 1, "
            f"not seed={seed}, step={step}, batch_size={batch_size}, count={count}."
        )
    start, stop = step * batch_size, (step + 1) * batch_size
    epochs = range(start // count, (stop - 1) // count + 1)
    pieces = [
        _permutation(seed, epoch, count)[max(start - epoch * count, 0) : stop - epoch * count] for epoch in epochs
    ]
    return np.concatenate(pieces)


@lru_cache(maxsize=4)  # a million indices take 10 ms to shuffle: once an epoch, not once a step
def _permutation(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    return np.random.default_rng((seed, epoch)).permutation(count).astype(np.int64, copy=False)
