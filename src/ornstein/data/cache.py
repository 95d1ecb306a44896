"""Decoded data on disk: made once, used by every process that wants it.

An entry is a folder named by a hash of the source and the options, holding `items.npy`, its labels and the like as .npy, and
`entry.json`, which says what they are and when they were used last (by its date). It appears whole, by a rename; one that fails
its check is made again. An entry that a process uses is locked by it; the others go, the least recently used first, when all
together are larger than the limit.
"""

from __future__ import annotations

import json
import os
import re
import time
import weakref
import zlib
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ornstein.data.annotations import Annotations
from ornstein.data.arrays import Arrays
from ornstein.data.content import digest_of, item_bytes
from ornstein.data.measuring import measure
from ornstein.data.rows import Rows, read_npy
from ornstein.data.sets import Sets
from ornstein.data.spec import DataSpec
from ornstein.errors import OrnsteinError, UsageError
from ornstein.files.atomic import discard, new_folder
from ornstein.files.owner import open_here, try_lock
from ornstein.files.reading import read_json

FORMAT = 3  # of the entries; a change makes every old entry unknown
CHECKED = 512 << 20  # bytes of items up to which the checksum is computed at every opening; beyond, the size is
LIMIT = 50_000_000_000  # bytes of all entries together, unless ORNSTEIN_CACHE_LIMIT says otherwise
ELSEWHERE = "point ORNSTEIN_CACHE or --cache at another folder"
ABOUT = "entry.json"
NAME = re.compile(r"[0-9a-f]{32}")
TEXTS = re.compile(r"text-[0-9a-f]{32}\.npy")  # vectors of captions
MAKER = "ornstein"
OLD_KEYS = {"classes", "low", "high", "notes", "tags", "captions", "files"}  # of the first format, which named no maker
LARGEST_ABOUT = 4 << 30  # bytes of entry.json, which holds the captions
UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


class Items:
    """A .npy file that grows item by item: how many there will be is only known at the end."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._count, self._item, self._digest = file, 0, np.zeros(0), sha256()

    def append(self, item: NDArray[Any]) -> None:
        """Adds one item; all have the same shape and type."""
        if self._count == 0:
            self._item = np.empty((0, *item.shape), item.dtype)
            self._write_header()
        content = np.ascontiguousarray(item)
        self._file.write(content.data)
        self._digest.update(item_bytes(content))
        self._count += 1

    def close(self) -> str:
        """Writes the count; the digest of all items. NumPy pads its header so that the first axis may grow without moving the
        data."""
        end = self._file.tell()
        self._file.seek(0)
        self._write_header()
        self._file.seek(end)
        return self._digest.hexdigest()

    def _write_header(self) -> None:
        described = np.lib.format.header_data_from_array_1_0(self._item)
        described["shape"] = (self._count, *self._item.shape[1:])
        np.lib.format.write_array_header_1_0(self._file, described)


@dataclass(frozen=True)
class Entry:
    """An entry of the cache: `used` is the time of its last use, in seconds of the epoch."""

    path: Path
    source: str
    count: int
    size: int
    used: float


def default_folder() -> Path:
    """`$ORNSTEIN_CACHE` (`--cache`), `$XDG_CACHE_HOME/ornstein/data`, or `~/.cache/ornstein/data`."""
    own = os.environ.get("ORNSTEIN_CACHE")
    if own:
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ornstein" / "data"


def cached(
    folder: Path,
    fingerprint: Iterable[object],
    build: Callable[[Items], Arrays],
    source: str = "",
    describe: Callable[[Arrays, str, str], DataSpec] | None = None,
    still: Callable[[], None] = lambda: None,
) -> Arrays:
    """The entry for `fingerprint`, made by `build` when there is none or it is damaged.

    `build` appends every item and returns the rest (its `items` are not looked at). `source` is what `ornstein cache` calls it;
    `describe(arrays, source, digest)` gives the `Spec` that is kept with it. `still` raises when what was read has changed
    meanwhile.
    Raises what these raise, and `OrnsteinError` when the disk refuses.
    """
    entry = folder / _name(fingerprint)
    hit, most = _read(entry), limit()
    if hit is not None:
        return hit
    with new_folder(entry, instead=ELSEWHERE) as fresh:
        with (fresh / "items.npy").open("w+b") as file:
            items = Items(file)
            arrays = build(items)
            digest = items.close()
        arrays = replace(arrays, items=read_npy(fresh / "items.npy", own=True))
        spec = None if describe is None else describe(arrays, source, digest)
        still()
        annotations = arrays.annotations
        for name, array in (
            ("labels", arrays.labels),
            ("starts", None if annotations.sets is None else annotations.sets.starts),
            ("columns", None if annotations.sets is None else annotations.sets.columns),
            ("vectors", annotations.vectors),
            ("unknown", annotations.unknown),
        ):
            if array is not None:
                np.save(fresh / f"{name}.npy", array)
        _write_about(fresh, source, len(arrays.items), spec, digest, arrays)
        del arrays
    with suppress(OrnsteinError):  # what cannot be removed now may be removed next time
        shrink(folder, most, entry)
    for _ in range(100):  # another process may be putting its own copy there this very moment
        made = _read(entry)
        if made is not None:
            return made
        time.sleep(0.02)
    raise OrnsteinError(f"{entry} was written but does not read back as it was; check the disk or give another cache.")


def remembered(folder: Path, fingerprint: Iterable[object], arrays: Arrays, source: str) -> DataSpec:
    """The result of `measure` for arrays that are used in place: measured once, and then known by their fingerprint."""
    entry = folder / _name(("spec", *fingerprint))
    with suppress(OSError, ValueError, LookupError, TypeError):
        about = read_json(entry / ABOUT)
        spec = DataSpec.from_json(about["spec"])
        if about["format"] == FORMAT and (spec.count, spec.item_shape) == (len(arrays.items), arrays.items.shape[1:]):
            if isinstance(arrays.items, Rows):
                arrays.items.seal(str(about["digest"]))
            with suppress(OSError):
                os.utime(entry / ABOUT)
            return replace(spec, source=source)
    digest = digest_of(arrays.items)
    if isinstance(arrays.items, Rows):
        arrays.items.seal(digest)
    spec = measure(arrays, source, digest)
    with suppress(OrnsteinError), new_folder(entry) as fresh:  # a place to remember it in is welcome, and not needed
        _write_about(fresh, source, len(arrays.items), spec, digest)
    return spec


def entries(folder: Path) -> list[Entry]:
    """The entries of the cache in a folder, the least recently used first.

    Only what this library is known to have made: a folder with the form of its names, an `entry.json` that says so, and no file
    that it does not name.
    """
    try:
        places = [Path(place.path) for place in os.scandir(folder)]
    except OSError:
        return []
    cached_entries = [entry for place in places for entry in (_entry(place),) if entry is not None]
    return sorted(cached_entries, key=lambda entry: entry.used)


def remove(entry: Entry) -> bool:
    """Removes an entry, unless a living process uses it; whether it is gone. Raises OrnsteinError when the disk refuses."""
    if entry.path.suffix == ".npy":  # read whole, and used by nobody any more
        entry.path.unlink(missing_ok=True)
        return True
    try:
        handle = open_here(entry.path / ABOUT, os.O_RDONLY)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    try:
        locked = try_lock(handle)
        if locked is False or (
            locked is None and time.time() - entry.used < 24 * 3600
        ):  # where there are no locks: a day
            return False
        discard(entry.path)
    finally:
        os.close(handle)
    return True


def shrink(folder: Path, limit: float, keep: Path | None = None) -> list[Entry]:
    """Removes entries, the least recently used first, until the others take `limit` bytes at most; those removed."""
    held = entries(folder)
    size, gone = sum(entry.size for entry in held), []
    for entry in held:
        if size <= limit:
            break
        if entry.path != keep and remove(entry):
            size -= entry.size
            gone.append(entry)
    return gone


def limit() -> float:
    """The bytes that all entries may take together: `$ORNSTEIN_CACHE_LIMIT`, such as 20GB, or `none`; by default 50 GB.

    Raises UsageError for what is no size.
    """
    said = os.environ.get("ORNSTEIN_CACHE_LIMIT", "").strip()
    if not said:
        return LIMIT
    return float("inf") if said.lower() == "none" else size_of(said, "ORNSTEIN_CACHE_LIMIT")


def size_of(text: str, where: str) -> float:
    """Bytes, of a number with a unit: 500MB, 1.5 GB. Raises UsageError for anything else."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", text.strip())
    if match is None or match[2].upper() not in UNITS:
        raise UsageError(f"{where}: {text[:40]!r} is no size; give one such as 500MB or 5GB")
    return float(match[1]) * UNITS[match[2].upper()]


def _name(fingerprint: Iterable[object]) -> str:
    digest = sha256(str(FORMAT).encode())
    for part in fingerprint:
        digest.update(f"\n{part}".encode(errors="surrogateescape"))
    return digest.hexdigest()[:32]


def _write_about(
    fresh: Path, source: str, count: int, spec: DataSpec | None, digest: str, arrays: Arrays | None = None
) -> None:
    about: dict[str, Any] = {
        "made_by": MAKER,
        "format": FORMAT,
        "source": source,
        "count": count,
        "spec": None if spec is None else spec.to_json(),
        "digest": digest,
        "files": {path.name: [path.stat().st_size, _checksum(path)] for path in sorted(fresh.glob("*.npy"))},
    }
    if arrays is not None:
        annotations = arrays.annotations
        about |= {"classes": arrays.classes, "low": arrays.low, "high": arrays.high, "notes": arrays.notes}
        about |= {"tags": annotations.tags, "captions": annotations.captions}
    (fresh / ABOUT).write_text(json.dumps(about))


class _Use:
    """An entry of the cache is in use for as long as this lives: nobody removes it."""

    def __init__(self, entry: Path) -> None:
        self._handle = open_here(entry / ABOUT, os.O_RDONLY)
        if try_lock(self._handle, shared=True) is False:
            os.close(self._handle)
            raise OSError(f"{entry} is being removed")
        weakref.finalize(self, os.close, self._handle)


def _read(entry: Path) -> Arrays | None:
    """The entry, or `None` if there is none or anything about it is wrong."""
    try:
        use = _Use(entry)
        about = read_json(entry / ABOUT, LARGEST_ABOUT)
        if about["format"] != FORMAT:
            return None
        held: dict[str, NDArray[Any]] = {}
        for name, (size, checksum) in about["files"].items():
            path = entry / name
            if path.stat().st_size != size or (size <= CHECKED and _checksum(path) != checksum):
                return None
            array = read_npy(path, own=True)
            held[name.removesuffix(".npy")] = array if name == "items.npy" else np.asarray(array)
        tags, captions = tuple(about["tags"]), about["captions"]
        sets = Sets(held["starts"], held["columns"], len(tags)) if "starts" in held else None
        captions = None if captions is None else tuple(captions)
        annotations = Annotations(sets, tags, held.get("vectors"), captions, unknown=held.get("unknown"))
        spec = None if about["spec"] is None else DataSpec.from_json(about["spec"])
        items, notes = held["items"], tuple(about["notes"])
        if isinstance(items, Rows):
            items.seal(str(about["digest"]))
        with suppress(OSError):
            os.utime(entry / ABOUT)
        classes = tuple(about["classes"])
        return Arrays(items, held.get("labels"), classes, about["low"], about["high"], notes, annotations, spec, use)
    except (OSError, ValueError, LookupError, TypeError, OrnsteinError):
        return None


def _entry(place: Path) -> Entry | None:
    """The entry at a place; None if it is none, or not this library's."""
    try:
        if TEXTS.fullmatch(place.name) and place.is_file() and not place.is_symlink():
            about = place.stat()
            return Entry(place, "vectors of captions", len(read_npy(place)), about.st_size, about.st_mtime)
        if not NAME.fullmatch(place.name) or place.is_symlink() or not place.is_dir():
            return None
        said = read_json(place / ABOUT, LARGEST_ABOUT, root=place)
        sizes = {file.name: file.stat(follow_symlinks=False).st_size for file in os.scandir(place)}
        if said.get("made_by") != MAKER and not (said.keys() <= OLD_KEYS and "files" in said):
            return None
        if sizes.keys() - said["files"].keys() - {ABOUT}:
            return None
        source, count = str(said.get("source", "an older version")), int(said.get("count", 0))
        return Entry(place, source, count, sum(sizes.values()), (place / ABOUT).stat().st_mtime)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, OrnsteinError):
        return None


def _checksum(path: Path) -> int:
    value = 0
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            value = zlib.crc32(block, value)
    return value
