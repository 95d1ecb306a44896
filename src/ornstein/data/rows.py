"""Arrays in files, by their place: a small one is read into memory, a large one on demand.

Nothing is memory-mapped. A map would change when somebody writes into its file, count every page it has touched as the process's
own until the system wants it back, and end the process without a word when the file is cut short.
"""

from __future__ import annotations

import io
import math
import os
import weakref
from pathlib import Path
from threading import Lock
from typing import IO, Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from ornstein.data.content import digest_of
from ornstein.data.shaped import Shaped
from ornstein.data.stamps import Changed
from ornstein.errors import OrnsteinError

IN_MEMORY = 64 << 20  # bytes up to which an array is read whole: indexing it is a little faster
LONGEST_HEADER = 1 << 16  # bytes; numpy would read one of gigabytes


class ArrayHeader(NamedTuple):
    """The header of a .npy file, and the place of its array."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    fortran: bool
    offset: int

    @property
    def nbytes(self) -> int:
        """Bytes of the array."""
        return math.prod(self.shape) * self.dtype.itemsize


def npy_header(file: IO[bytes]) -> ArrayHeader:
    """The header at the beginning of a .npy file. Raises ValueError for any other file, and for arrays of objects."""
    version = np.lib.format.read_magic(cast(Any, file))
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"version {version[0]}.{version[1]} of the format holds no plain numbers")
    width = 2 if version == (1, 0) else 4
    said = file.read(width)
    length = int.from_bytes(said, "little")
    if len(said) < width or length > LONGEST_HEADER:
        raise ValueError("its header is cut short, or none")
    read = np.lib.format.read_array_header_1_0 if width == 2 else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(io.BytesIO(said + file.read(length)))
    if dtype.hasobject:
        raise ValueError("it holds Python objects, which are not unpickled")
    if min(shape, default=0) < 0:
        raise ValueError(f"its shape is {shape}")
    return ArrayHeader(dtype, shape, fortran, len(np.lib.format.magic(*version)) + width + length)


def read_npy(path: Path, own: bool = False) -> NDArray[Any]:
    """The array of a .npy file: see `read_at`. Raises ValueError for what is no such file."""
    with path.open("rb") as file:
        header = npy_header(file)
    return read_at(path, header, own)


def read_at(path: Path, header: ArrayHeader, own: bool = False) -> NDArray[Any]:
    """An array in a file, up to 64 MB in memory, in the machine's byte order; a larger one as `Rows`, which serve as an array
    where items are only indexed.

    `own`: a file that nobody else writes into, and that may be removed while it is read.
    Raises `OrnsteinError` for a file that is shorter than its header says, `Changed` for one that changes meanwhile.
    """
    rows = (FortranRows if header.fortran and len(header.shape) > 1 else Rows)(path, header, own)
    whole = rows.nbytes <= IN_MEMORY or not header.shape
    return rows.whole() if whole else cast("NDArray[Any]", rows)


class Rows(Shaped):
    """An array `(N, ...)` in a file, C order; indexing it along its first axis reads those items.

    Reads at once in several threads and processes do not disturb each other. Raises `Changed` when the file is not what it was
    when it was opened: cut short, written into, or replaced. A file whose dates alone have moved is hashed once more, where
    `seal` has been given a hash.
    """

    def __init__(self, path: Path, header: ArrayHeader, own: bool = False) -> None:
        self.dtype, self.shape = header.dtype.newbyteorder("="), header.shape
        self._path, self._header, self._own, self._seal, self._lock = path, header, own, "", Lock()
        self._file = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0))
        weakref.finalize(self, os.close, self._file)
        about = os.fstat(self._file)
        if about.st_size < header.offset + header.nbytes:
            raise OrnsteinError(f"{path} is shorter than its header says; fetch it again.")
        self._seen = self._looks()
        self._head = _read_at(self._file, header.offset, 0)

    def __len__(self) -> int:
        return self.shape[0]

    def reshape(self, *shape: int) -> Rows:
        """The same items in another shape each: `shape[0]` stays."""
        made = type(self)(self._path, self._header, self._own)
        made.shape = shape
        made._seen = self._seen
        return made

    def whole(self) -> NDArray[Any]:
        """All of it, in memory."""
        out = np.empty(self.shape, self.dtype)
        if out.nbytes:
            self._fill(out[None] if not self.shape else out, 0)
        self._must_be_as_it_was()
        return out

    def seal(self, digest: str) -> None:
        """From now on a file of other dates is read through, and is the same when `digest_of` gives this again."""
        self._seal = digest

    def __getitem__(self, key: int | slice | NDArray[Any]) -> NDArray[Any]:
        rows = self._items(key)
        self._must_be_as_it_was()
        return rows

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return self[:].astype(dtype or self.dtype, copy=False)

    def _items(self, key: int | slice | NDArray[Any]) -> NDArray[Any]:
        if isinstance(key, (int, np.integer)):
            return self._items(np.array([key]))[0]
        if isinstance(key, slice):
            start, stop, step = key.indices(len(self))
            if step == 1:
                out = np.empty((max(stop - start, 0), *self.shape[1:]), self.dtype)
                if out.nbytes:
                    self._fill(out, start)
                return out
            key = np.arange(start, stop, step)
        key = np.flatnonzero(key) if key.dtype == bool else key
        if len(key) and not -len(self) <= key.min() <= key.max() < len(self):
            raise IndexError(f"items {key.min()} to {key.max()} of {len(self)}")
        out = np.empty((len(key), *self.shape[1:]), self.dtype)
        for i, index in enumerate(key.tolist()):
            self._fill(out[i : i + 1], index if index >= 0 else index + len(self))
        return out

    def _fill(self, out: NDArray[Any], first: int) -> None:
        """Fills `out` with what begins at item `first`."""
        self._read(out, first * math.prod(self.shape[1:]))

    def _read(self, out: NDArray[Any], first: int) -> None:
        """Fills `out` with what begins at number `first` of the file."""
        view = memoryview(cast(Any, out.reshape(-1).view(np.uint8)))
        place = self._header.offset + first * self.dtype.itemsize
        while len(view):
            count = _read_into(self._file, view, place)
            if count == 0:
                raise Changed(f"{self._path} has become shorter than it was when it was opened; bring it back.")
            view, place = view[count:], place + count
        if not self._header.dtype.isnative:
            out.byteswap(inplace=True)

    def _looks(self) -> tuple[int, ...]:
        """Size and times of the file, which differ after a change."""
        about = os.fstat(self._file)
        if self._own:  # an entry of the cache may be removed, which moves its date of status, or replaced by its like
            return about.st_size, about.st_mtime_ns
        try:
            about = os.stat(self._path)
        except FileNotFoundError:  # what was opened stays whole, without a name; its date of status has moved
            return about.st_size, about.st_mtime_ns, about.st_ino
        return about.st_size, about.st_mtime_ns, about.st_ino, about.st_dev, about.st_ctime_ns

    def _must_be_as_it_was(self) -> None:
        looks = self._looks()
        if looks == self._seen or (len(looks) < 5 and looks == self._seen[: len(looks)]):
            return
        with self._lock:
            if looks != self._seen:
                if not self._is_same(looks):
                    raise Changed(f"{self._path} has changed since it was opened; bring it back as it was.")
                self._seen = looks

    def _is_same(self, looks: tuple[int, ...]) -> bool:
        """Whether the file is another by its dates alone."""
        same_place = looks[0] == self._seen[0] and looks[2:4] == self._seen[2:4]
        if not self._seal or not same_place or _read_at(self._file, self._header.offset, 0) != self._head:
            return False
        return digest_of(cast(Any, _Unwatched(self))) == self._seal


class FortranRows(Rows):
    """An array in Fortran order, whose items lie scattered: one read for each number of an item."""

    def whole(self) -> NDArray[Any]:
        backwards = np.empty(self._header.shape[::-1], self.dtype)
        if backwards.nbytes:
            self._read(backwards, 0)
        self._must_be_as_it_was()
        return backwards.T.reshape(self.shape)

    def _fill(self, out: NDArray[Any], first: int) -> None:
        count, inner = self._header.shape[0], self._header.shape[1:]
        columns = np.empty((math.prod(inner), len(out)), self.dtype)
        for place, column in enumerate(columns):
            self._read(column, place * count + first)
        out[...] = columns.reshape(*inner[::-1], len(out)).T.reshape(out.shape)


class _Unwatched:
    """Rows that are read without a look at the file's dates."""

    def __init__(self, rows: Rows) -> None:
        self._rows, self.shape, self.dtype = rows, rows.shape, rows.dtype

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, key: slice) -> NDArray[Any]:
        return self._rows._items(key)


def _read_into(file: int, view: memoryview, place: int) -> int:
    if hasattr(os, "preadv"):
        return os.preadv(file, [view], place)
    content = _read_at(file, min(len(view), 1 << 24), place)
    view[: len(content)] = content
    return len(content)


_seek = Lock()


def _read_at(file: int, count: int, place: int) -> bytes:
    if hasattr(os, "pread"):
        return os.pread(file, count, place)
    with _seek:  # a system without reads by place has one place for all
        os.lseek(file, place, os.SEEK_SET)
        return os.read(file, count)
