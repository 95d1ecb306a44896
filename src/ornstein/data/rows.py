"""Items of a large file, read by their place: memory holds what was asked for, whatever the size of the file.

A memory map of the same file would count every page it has touched as the process's own until the system wants it back, and end
the process when the file is cut short.
"""

from __future__ import annotations

import os
import weakref
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from ornstein.errors import OrnsteinError

MAPPED = 256 << 20  # bytes up to which a memory map is left as it is: it is a little faster


class Rows:
    """An array `(N, ...)` in a file, C order from byte `offset`; indexing it along its first axis reads those items.

    Reads at once in several threads and processes do not disturb each other. Raises `OrnsteinError` when the file has become
    shorter than it was.
    """

    def __init__(self, path: Path, offset: int, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
        self.dtype, self.shape, self.ndim = dtype, shape, len(shape)
        self._path, self._offset = path, offset
        self._item = dtype.itemsize * int(np.prod(shape[1:]))
        self._file = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._file)

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def nbytes(self) -> int:
        """Of all items."""
        return self._item * len(self)

    def __getitem__(self, key: int | slice | NDArray[Any]) -> NDArray[Any]:
        if isinstance(key, (int, np.integer)):
            return self[np.array([key])][0]
        if isinstance(key, slice):
            start, stop, step = key.indices(len(self))
            if step == 1:
                out = np.empty((max(stop - start, 0), *self.shape[1:]), self.dtype)
                self._read(out, start)
                return out
            key = np.arange(start, stop, step)
        key = np.flatnonzero(key) if key.dtype == bool else key
        if len(key) and not -len(self) <= key.min() <= key.max() < len(self):
            raise IndexError(f"items {key.min()} to {key.max()} of {len(self)}")
        out = np.empty((len(key), *self.shape[1:]), self.dtype)
        for row, index in zip(out, key.tolist(), strict=True):
            self._read(row, index if index >= 0 else index + len(self))
        return out

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return self[:].astype(dtype or self.dtype, copy=False)

    def _read(self, out: NDArray[Any], first: int) -> None:
        """Fills `out` with what begins at item `first`."""
        view, place = memoryview(cast(Any, out.reshape(-1).view(np.uint8))), self._offset + first * self._item
        while len(view):
            count = os.preadv(self._file, [view], place)
            if count == 0:
                raise OrnsteinError(f"{self._path} has become shorter than it was when it was opened; bring it back.")
            view, place = view[count:], place + count


def by_place(items: NDArray[Any]) -> NDArray[Any]:
    """A large memory map as `Rows`, which serve as an array where items are only indexed; anything else as it is."""
    mapped = isinstance(items, np.memmap) and getattr(items, "_mmap", None) is not None
    if not mapped or items.nbytes <= MAPPED or not items.flags.c_contiguous or not hasattr(os, "preadv"):
        return items
    of = cast(Any, items)
    return cast("NDArray[Any]", Rows(Path(of.filename), of.offset, items.dtype, items.shape))
