"""Some items of an array, read on demand."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from ornstein.data.shaped import Shaped

IN_MEMORY = 64 << 20  # bytes of a selection up to which it is copied


def select(items: NDArray[Any], rows: NDArray[np.int64]) -> NDArray[Any]:
    """These items: small ones in memory, many as a view that is indexed along its first axis, as `Rows` are."""
    if items[:1].nbytes * len(rows) <= IN_MEMORY:
        return np.asarray(items[rows])
    return cast("NDArray[Any]", Selected(items, rows))


class Selected(Shaped):
    """The items `rows` of an array or of `Rows`; indexing along the first axis gives those items in memory."""

    def __init__(self, items: NDArray[Any], rows: NDArray[np.int64]) -> None:
        self._items, self._rows = items, rows
        self.dtype, self.shape = items.dtype, (len(rows), *items.shape[1:])

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, key: int | slice | NDArray[Any]) -> NDArray[Any]:
        return np.asarray(self._items[self._rows[key]])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return self[:].astype(dtype or self.dtype, copy=False)
