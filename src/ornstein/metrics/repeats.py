"""Repeated items within and between sets, counted exactly on the items and not on their features."""

from collections import Counter
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from ornstein.data.content import chunks
from ornstein.data.spec import DataSpec

BYTES = 16


def identities(items: NDArray[np.generic], spec: DataSpec) -> list[bytes]:
    """A name for each item (N, ...) in own units, the same for the same numbers, whatever their type."""
    names = []
    for chunk in chunks(items):
        rows = (spec.to_model(np.array(chunk)).flatten(1) + 0.0).numpy()  # −0 equals 0
        names += [blake2b(row.tobytes(), digest_size=BYTES).digest() for row in rows]
    return names


@dataclass(frozen=True, eq=False)
class Repeats:
    """Counts of items that samples, real items and training items have in common.

    `copies` (N,): which samples are training items; None where these are not known.
    """

    notes: tuple[str, ...]
    copies: NDArray[np.bool_] | None


def repeats(samples: list[bytes], real: list[bytes] | None, training: list[bytes] | None) -> Repeats:
    """Repeats from the names of items; `real` are held-out items, None if they are training items."""
    notes = []
    for what, names in (("samples", samples), ("held-out items", real), ("training items", training)):
        if names is not None and (again := len(names) - len(set(names))):
            most = Counter(names).most_common(1)[0][1]
            notes.append(f"{again:,} of {len(names):,} {what} repeat an earlier one, one of them {most:,} times in all")
    if training is None:
        return Repeats(tuple(notes), None)
    known = set(training)
    copies = np.array([name in known for name in samples])
    overlap = 0 if real is None else sum(name in known for name in real)
    if real is not None and overlap:
        notes.append(f"{overlap:,} of {len(real):,} held-out items are also in the training data")
    if copies.any():
        notes.append(f"{int(copies.sum()):,} of {len(copies):,} samples are exact copies of training items")
    return Repeats(tuple(notes), copies)
