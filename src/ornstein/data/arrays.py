"""Arrays as data: .npy, .npz and IDX files, and their labels."""

from __future__ import annotations

import gzip
import math
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from ornstein.errors import OrnsteinError, UsageError

DATA_KEYS = ("x", "images", "image", "data", "samples", "x_train", "arr_0")
LABEL_KEYS = ("y", "label", "labels", "y_train")
OTHER_KEYS = ("low", "high", "classes")
SMALL = 4 << 20  # bytes of a file that is read anew each time instead of being kept in the cache

# The element types of IDX files, by the third byte (the format's description on the MNIST page).
IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


@dataclass(frozen=True, eq=False)
class Arrays:
    """Decoded items `(N, H, W, C)` or `(N, D)` in their own type; `low`, `high` where the source states a range.

    `notes` are the sentences that the user is to be warned with.
    """

    items: NDArray[Any]
    labels: NDArray[np.int64] | None = None
    classes: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None
    notes: tuple[str, ...] = ()

    def take(self, indices: NDArray[np.int64]) -> Arrays:
        """Only these items."""
        labels = None if self.labels is None else self.labels[indices]
        return replace(self, items=self.items[indices], labels=labels)


@dataclass(frozen=True)
class ArrayFile:
    """One file of items, perhaps with a file of labels. `half` 0 or 1: one half of each class."""

    path: Path
    labels: Path | None = None
    classes: tuple[str, ...] = ()
    half: Literal[0, 1] | None = None

    @property
    def direct(self) -> bool:
        """Whether the file needs no copy in the cache: it can be memory-mapped as it is, or is tiny."""
        return self.path.suffix not in (".npz", ".gz") or self.path.stat().st_size < SMALL

    def fingerprint(self) -> str:
        """Changes when the file does."""
        stat = self.path.stat()
        return f"{self.path.resolve()} {stat.st_size} {stat.st_mtime_ns} {self.labels} {self.half}"

    def load(self) -> Arrays:
        """Raises `OrnsteinError` for a damaged file, `UsageError` for arrays that are no images or vectors."""
        try:
            arrays = self._read()
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise OrnsteinError(f"{self.path} could not be read as arrays ({error}); make it anew.") from error
        return arrays if self.half is None else arrays.take(half_of(arrays.labels, self.half, len(arrays.items)))

    def _read(self) -> Arrays:
        if self.path.suffix == ".npy":
            return Arrays(as_items(np.load(self.path, mmap_mode="r", allow_pickle=False), str(self.path)))
        if self.path.suffix == ".npz":
            with np.load(self.path, allow_pickle=False) as archive:
                return from_mapping(archive, str(self.path))
        items = as_items(read_idx(self.path), str(self.path))
        if self.labels is None:
            return Arrays(items)
        if self.classes:
            labels = checked_labels(read_idx(self.labels), len(items), self.classes, str(self.labels))
            return Arrays(items, labels, self.classes)
        return Arrays(items, *named_labels(read_idx(self.labels), len(items), str(self.labels)))


def from_mapping(archive: Mapping[str, NDArray[Any]], where: str) -> Arrays:
    """The items, labels, class names and range held by an .npz file's arrays.

    Items are under x, images, data, samples, … or the only array that is no label; labels under y, label or labels;
    `low`, `high` and `classes` are optional. Raises `UsageError` when it is unclear which array holds the items.
    """
    keys = list(archive)
    known = [key for key in DATA_KEYS if key in keys] or [k for k in keys if k not in (*LABEL_KEYS, *OTHER_KEYS)]
    if not known or (known[0] not in DATA_KEYS and len(known) > 1):
        raise UsageError(f"{where} holds the arrays {', '.join(keys)}: call the one with the items x and labels y.")
    items = as_items(archive[known[0]], f"{known[0]} in {where}")
    label_key = next((key for key in LABEL_KEYS if key in keys), None)
    low = float(archive["low"]) if "low" in keys else None
    high = float(archive["high"]) if "high" in keys else None
    if label_key is None:
        return Arrays(items, low=low, high=high)
    where = f"{label_key} in {where}"
    if "classes" in keys:
        classes = tuple(str(name) for name in archive["classes"])
        labels = checked_labels(archive[label_key], len(items), classes, where)
    else:
        labels, classes = named_labels(archive[label_key], len(items), where)
    return Arrays(items, labels, classes, low, high)


def as_items(array: NDArray[Any], where: str) -> NDArray[Any]:
    """`(N, H, W, C)` or `(N, D)`: grey images get their channel axis, single numbers become vectors of one.

    Raises `UsageError` for any other shape or type, and for images that seem to have their channels first.
    """
    if array.dtype.kind not in "biuf":
        raise UsageError(f"{where} has type {array.dtype}; items must be whole or floating numbers.")
    if array.size == 0:
        raise UsageError(f"{where} is empty (shape {array.shape}); there is nothing to learn from.")
    if array.ndim == 1:
        return array[:, None]
    if array.ndim == 3:
        return array[..., None]
    if array.ndim == 4 and array.shape[1] in (1, 3, 4) and array.shape[3] > 4 * array.shape[1]:
        raise UsageError(f"{where} has shape {array.shape}; images are (N, H, W, C), so move axis 1 to the end.")
    if array.ndim not in (2, 4):
        raise UsageError(f"{where} has shape {array.shape}; give (N, H, W), (N, H, W, C) or (N, D).")
    return array


def checked_labels(array: NDArray[Any], count: int, classes: Sequence[str], where: str) -> NDArray[np.int64]:
    """Labels `(count,)` that index `classes`. Raises `UsageError` otherwise."""
    flat = array.reshape(-1) if array.size == count else array
    if flat.shape != (count,):
        raise UsageError(f"{where} has shape {array.shape}, but there are {count} items: give one label for each.")
    if flat.dtype.kind not in "biu" or flat.min() < 0 or flat.max() >= len(classes):
        raise UsageError(
            f"{where} must hold whole numbers from 0 to {len(classes) - 1}, one for each of the {len(classes)} classes."
        )
    return np.ascontiguousarray(flat, dtype=np.int64)


def named_labels(array: NDArray[Any], count: int, where: str) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Labels `0, 1, …` in the order of the sorted values found (numbers or words), and those values as names."""
    if array.dtype.kind not in "biuUS" or array.size != count:
        raise UsageError(
            f"{where} has type {array.dtype} and shape {array.shape}; give {count} whole numbers or words, "
            "one for each item, or rename it if it is no label."
        )
    values, labels = np.unique(array.reshape(-1), return_inverse=True)
    names = tuple(value.decode() if isinstance(value, bytes) else str(value) for value in values.tolist())
    return labels.astype(np.int64), names


def half_of(labels: NDArray[np.int64] | None, half: Literal[0, 1], count: int) -> NDArray[np.int64]:
    """The sorted indices of half 0 or 1: each class is shuffled with a fixed seed and dealt out in turn."""
    shuffled = np.random.default_rng(0).permutation(count)
    if labels is not None:
        shuffled = shuffled[np.argsort(labels[shuffled], kind="stable")]
    return np.sort(shuffled[half::2])


def read_idx(path: Path) -> NDArray[Any]:
    """The array of an IDX file, plain (memory-mapped) or gzipped, in the machine's byte order.

    Raises `OrnsteinError` when the file is no IDX file or is shorter than its header says.
    """
    packed = path.suffix == ".gz"
    with gzip.open(path) if packed else path.open("rb") as file:
        dtype, shape, offset = _idx_header(cast(IO[bytes], file), path)
        size = math.prod(shape) * dtype.itemsize
        if not packed:
            if path.stat().st_size < offset + size:
                raise OrnsteinError(f"{path} is shorter than its header says; fetch it again.")
            array: NDArray[Any] = np.memmap(path, dtype, "r", offset, shape)
        else:
            data = file.read(size)
            if len(data) < size:
                raise OrnsteinError(f"{path} is shorter than its header says; fetch it again.")
            array = np.frombuffer(data, dtype).reshape(shape)
    return array.view(dtype.newbyteorder("=")) if dtype.itemsize == 1 else array.astype(dtype.newbyteorder("="))


def _idx_header(file: IO[bytes], path: Path) -> tuple[np.dtype[Any], tuple[int, ...], int]:
    magic = file.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in IDX_TYPES or magic[3] == 0:
        raise OrnsteinError(f"{path} is not an IDX file: it does not begin as one.")
    sizes = file.read(4 * magic[3])
    if len(sizes) < 4 * magic[3]:
        raise OrnsteinError(f"{path} is shorter than its header says; fetch it again.")
    return np.dtype(IDX_TYPES[magic[2]]), tuple(np.frombuffer(sizes, ">u4").tolist()), 4 + len(sizes)


def idx_labels_beside(path: Path) -> Path | None:
    """The file of labels that belongs to a file of images by its name: `train-images-idx3-ubyte` has
    `train-labels-idx1-ubyte` beside it, gzipped or not."""
    name = path.name.replace("images", "labels").replace("idx3", "idx1").replace("idx4", "idx1")
    plain = name.removesuffix(".gz")
    if plain == path.name.removesuffix(".gz"):
        return None
    candidates = [path.with_name(name), path.with_name(plain), path.with_name(plain + ".gz")]
    return next((candidate for candidate in candidates if candidate.is_file()), None)
