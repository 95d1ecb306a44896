"""In which order items are seen: a pure function of (seed, step), so that a resumed run goes on as it would have."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

LARGE = 1 << 20  # items beyond which no table of the permutation is kept
ROUNDS = 4  # of the cipher that stands in for it


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
    pieces = []
    for epoch in epochs:
        first, last = max(start - epoch * count, 0), min(stop - epoch * count, count)
        if count > LARGE:
            pieces.append(permuted(np.arange(first, last), count, (seed, epoch)))
        else:
            pieces.append(_permutation(seed, epoch, count)[first:last])
    return np.concatenate(pieces)


def permuted(places: NDArray[np.int64], count: int, key: tuple[int, int]) -> NDArray[np.int64]:
    """Where one permutation of `range(count)` takes these places, without a table of it: memory does not grow with count.

    A Feistel cipher on pairs of digits of base b, the least with b² ≥ count, applied again to the few places that it takes
    outside (Black and Rogaway 2002, "Ciphers with arbitrary finite domains", sections 4 and 5).
    """
    base = np.uint64(math.isqrt(count - 1) + 1)
    keys = np.random.default_rng(key).integers(0, 1 << 64, ROUNDS, dtype=np.uint64)
    mixed = places.astype(np.uint64)
    outside = np.arange(len(mixed))
    while len(outside):
        left, right = np.divmod(mixed[outside], base)
        for round_key in keys:
            left, right = right, (left + _scrambled(right ^ round_key) % base) % base
        mixed[outside] = left * base + right
        outside = outside[mixed[outside] >= count]
    return mixed.astype(np.int64)


def _scrambled(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of splitmix64 (Steele, Lea and Flood 2014), whose every bit depends on every bit of the word."""
    words = (words ^ words >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ words >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return words ^ words >> np.uint64(31)


@lru_cache(maxsize=4)  # a million indices take 10 ms to shuffle: once an epoch, not once a step
def _permutation(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    return np.random.default_rng((seed, epoch)).permutation(count).astype(np.int64, copy=False)
