"""Some items of an array, read as they are asked for."""

from __future__ import annotations

import math
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

IN_MEMORY = 64 << 20  # bytes of a selection up to which it is copied


def select(items: NDArray[Any], rows: NDArray[np.int64]) -> NDArray[Any]:
    """These items: small ones in memory, many as a view that is indexed along its first axis, as `Rows` are."""
    if items[:1].nbytes * len(rows) <= IN_MEMORY:
        return np.asarray(items[rows])
    return cast("NDArray[Any]", Selected(items, rows))


class Selected:
    """The items `rows` of an array or of `Rows`; indexing along the first axis gives those items in memory."""

    def __init__(self, items: NDArray[Any], rows: NDArray[np.int64]) -> None:
        self._items, self._rows = items, rows
        self.dtype, self.shape = items.dtype, (len(rows), *items.shape[1:])

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def ndim(self) -> int:
        """Of all axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """The count of numbers."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Of all items."""
        return self.size * self.dtype.itemsize

    def __getitem__(self, key: int | slice | NDArray[Any]) -> NDArray[Any]:
        return np.asarray(self._items[self._rows[key]])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return self[:].astype(dtype or self.dtype, copy=False)
