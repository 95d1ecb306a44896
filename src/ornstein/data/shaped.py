"""The attributes that an array-like object has by its shape and type."""

from __future__ import annotations

import math
from typing import Any

import numpy as np


class Shaped:
    """`ndim`, `size` and `nbytes` of what has a `shape` and a `dtype`, as numpy defines them."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return self.size * self.dtype.itemsize
