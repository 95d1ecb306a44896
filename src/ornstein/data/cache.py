"""Decoded data on disk: made once, memory-mapped by every process that wants it.

An entry is a folder named by a hash of the source and the options, holding `items.npy`, its labels and the like as .npy, and
`entry.json`.
It appears whole, by a rename; one that fails its check is made again.
"""

from __future__ import annotations

import json
import os
import time
import zlib
from collections.abc import Callable, Iterable
from hashlib import sha256
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ornstein.data.arrays import Arrays
from ornstein.data.beside import Beside
from ornstein.errors import OrnsteinError
from ornstein.files.atomic import new_folder

FORMAT = 1  # of the entries; a change makes every old entry unknown
CHECKED = 512 << 20  # bytes of items up to which the checksum is computed at every opening; beyond, the size is


class Items:
    """A .npy file that grows item by item: how many there will be is only known at the end."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._count, self._item = file, 0, np.zeros(0)

    def append(self, item: NDArray[Any]) -> None:
        """Adds one item; all have the same shape and type."""
        if self._count == 0:
            self._item = np.empty((0, *item.shape), item.dtype)
            self._write_header()
        self._file.write(np.ascontiguousarray(item).data)
        self._count += 1

    def close(self) -> None:
        """Writes the count. NumPy pads its header so that the first axis may grow without moving the data."""
        end = self._file.tell()
        self._file.seek(0)
        self._write_header()
        self._file.seek(end)

    def _write_header(self) -> None:
        described = np.lib.format.header_data_from_array_1_0(self._item)
        described["shape"] = (self._count, *self._item.shape[1:])
        np.lib.format.write_array_header_1_0(self._file, described)


def default_folder() -> Path:
    """`$XDG_CACHE_HOME/ornstein/data`, or `~/.cache/ornstein/data`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ornstein" / "data"


def cached(folder: Path, fingerprint: Iterable[object], build: Callable[[Items], Arrays]) -> Arrays:
    """The entry for `fingerprint`, made by `build` when there is none or it is damaged.

    `build` appends every item and returns the rest (its `items` are not looked at).
    Raises what `build` raises, and `OrnsteinError` when the disk refuses.
    """
    digest = sha256(str(FORMAT).encode())
    for part in fingerprint:
        digest.update(f"\n{part}".encode(errors="surrogateescape"))
    entry = folder / digest.hexdigest()[:32]
    found = _read(entry)
    if found is not None:
        return found
    with new_folder(entry) as fresh:
        with (fresh / "items.npy").open("w+b") as file:
            items = Items(file)
            arrays = build(items)
            items.close()
        beside = arrays.beside
        for name, array in (("labels", arrays.labels), ("sets", beside.sets), ("vectors", beside.vectors)):
            if array is not None:
                np.save(fresh / f"{name}.npy", array)
        about = {
            "classes": arrays.classes,
            "low": arrays.low,
            "high": arrays.high,
            "notes": arrays.notes,
            "tags": beside.tags,
            "captions": beside.captions,
            "files": {path.name: [path.stat().st_size, _checksum(path)] for path in sorted(fresh.glob("*.npy"))},
        }
        (fresh / "entry.json").write_text(json.dumps(about))
    for _ in range(100):  # another process may be putting its own copy there this very moment
        made = _read(entry)
        if made is not None:
            return made
        time.sleep(0.02)
    raise OrnsteinError(f"{entry} was written but does not read back as it was; check the disk or give another cache.")


def _read(entry: Path) -> Arrays | None:
    """The entry, or `None` if there is none or anything about it is wrong."""
    try:
        about = json.loads((entry / "entry.json").read_text())
        for name, (size, checksum) in about["files"].items():
            path = entry / name
            if path.stat().st_size != size or (size <= CHECKED and _checksum(path) != checksum):
                return None
        items = np.load(entry / "items.npy", mmap_mode="r")
        labels, sets, vectors = (
            np.load(entry / f"{name}.npy") if f"{name}.npy" in about["files"] else None
            for name in ("labels", "sets", "vectors")
        )
        captions = about.get("captions")
        beside = Beside(sets, tuple(about.get("tags", ())), vectors, None if captions is None else tuple(captions))
        return Arrays(
            items, labels, tuple(about["classes"]), about["low"], about["high"], tuple(about["notes"]), beside
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _checksum(path: Path) -> int:
    value = 0
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            value = zlib.crc32(block, value)
    return value
