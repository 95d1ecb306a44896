"""The content hash of data, a function of their values alone: not of place, dates or kind of file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from ornstein.data.arrays import Arrays
    from ornstein.data.dataset import Dataset

FORM = "sha256-"  # what a hash of all content begins with; those without are of up to 4096 items, as they once were
DIGITS = 32
CHUNK = 4 << 20
MEASURED = 4096  # items looked at for `data_std` and the old hash,
MEASURED_BYTES = 32 << 20  # while they are no more than this (but 64 items at least)


def chunks(items: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """The items in pieces of about 4 MB, so that those in a file are read through, never loaded whole."""
    step = max(1, CHUNK // max(1, items[:1].nbytes))
    return (np.asarray(items[start : start + step]) for start in range(0, len(items), step))


def item_bytes(items: NDArray[Any]) -> memoryview:
    """The numbers in C order and little-endian, the same on every machine."""
    return np.ascontiguousarray(items, items.dtype.newbyteorder("<")).reshape(-1).view(np.uint8).data


def digest_of(items: NDArray[Any]) -> str:
    """SHA-256 of all items' numbers."""
    digest = sha256()
    for chunk in chunks(items):
        digest.update(item_bytes(chunk))
    return digest.hexdigest()


def content_hash(arrays: Arrays, low: float, high: float, items: str) -> str:
    """Hash of everything that a model can learn from: the items (by their digest `items`), their type, shape and range, labels,
    names of classes, sets and vectors. Captions count where they are used (`derived`)."""
    shape = hashed_shape(arrays.items, arrays.layout)
    digest = sha256(f"{arrays.items.dtype.name} {shape} {arrays.classes} {low} {high} {items}".encode())
    if arrays.labels is not None:
        digest.update(b"\0labels")
        digest.update(item_bytes(arrays.labels))
    for part in arrays.annotations.content():
        digest.update(part)
    return FORM + digest.hexdigest()[:DIGITS]


def hashed_shape(items: NDArray[Any], layout: str) -> tuple[Any, ...]:
    """The shape as it enters the hash: axes that (N, H, W) and (N,) lack count with length 1, as in earlier versions."""
    shape = tuple(items.shape)
    if layout in ("NHW", "N"):
        return (*shape, 1)
    return shape if layout in ("", "NHWC", "ND") else (*shape, layout)


def derived(content: str, name: str, captions: Sequence[str]) -> str:
    """The hash of data that a text encoder of that name has made conditions for."""
    digest = sha256("\0".join([content, name, *captions]).encode("utf-8", "surrogatepass")).hexdigest()
    return FORM + digest[:DIGITS] if content.startswith(FORM) else digest[:16]


def is_of(dataset: Dataset, known: str) -> bool:
    """Whether a hash that was noted once is that of these data; also one of the old form, which saw no more than 4096 items."""
    if known.startswith(FORM):
        return known == dataset.spec.content_hash
    return known == _old_hash(dataset)


def measured(items: NDArray[Any]) -> NDArray[Any]:
    """Up to 4096 evenly spaced items, in memory."""
    count = min(len(items), MEASURED, max(64, MEASURED_BYTES // items[:1].nbytes))
    return np.asarray(items[np.arange(count) * len(items) // count])


def _old_hash(dataset: Dataset) -> str:
    spec, items, annotations = dataset.spec, dataset.items, dataset.annotations
    shape = hashed_shape(items, spec.layout)
    digest = sha256(f"{spec.dtype} {shape} {spec.classes} {spec.low} {spec.high}".encode())
    digest.update(np.ascontiguousarray(measured(items)).data)
    if dataset.labels is not None:
        digest.update(dataset.labels.tobytes())
    if annotations.sets is not None:
        digest.update(str(annotations.tags).encode())
        for start in range(0, len(items), MEASURED):
            digest.update(annotations.sets[np.arange(start, min(start + MEASURED, len(items)))].tobytes())
    if annotations.vectors is not None and not annotations.encoder:
        digest.update(str(annotations.vectors.shape).encode())
        digest.update(annotations.vectors.tobytes())
    base = digest.hexdigest()[:16]
    return derived(base, annotations.encoder, annotations.captions or ()) if annotations.encoder else base
