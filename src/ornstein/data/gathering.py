"""Items that are read in parts: in memory where they are few, else in a file."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ornstein.data.arrays import SMALL, WITHOUT_DISK
from ornstein.data.cache import Items
from ornstein.data.rows import read_npy
from ornstein.errors import OrnsteinError


def must_have_place(size: int, scratch: Path | None, where: Path) -> None:
    """Raises OrnsteinError where `gathered` has no room for so many bytes."""
    if scratch is None and size > WITHOUT_DISK:
        raise OrnsteinError(f"{where} holds {size / 1e6:,.0f} MB, too many for this; cut out what is needed as .npy.")
    if scratch is not None and size > SMALL:
        free = shutil.disk_usage(scratch).free
        if free < 2 * size:
            raise OrnsteinError(
                f"{where} takes {size / 1e6:,.0f} MB, and the disk of {scratch.parent} has {free / 1e6:,.0f} free, where twice "
                "as much is needed; free some space, or point ORNSTEIN_CACHE or --cache at a larger disk."
            )


def gathered(parts: Iterable[NDArray[Any]], size: int, scratch: Path | None, where: Path) -> NDArray[Any]:
    """The items (n, ...) of all parts, `size` bytes together: more than 4 MB in a file of the folder `scratch`, if given.

    Raises OrnsteinError where there is no room for them.
    """
    must_have_place(size, scratch, where)
    if size <= SMALL or scratch is None:
        return np.concatenate(list(parts))
    place = scratch / "gathered.npy"
    with place.open("w+b") as file:
        grown = Items(file)
        for part in parts:
            for item in part:
                grown.append(item)
        grown.close()
    return read_npy(place, own=True)
