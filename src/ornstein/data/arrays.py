"""Arrays as data: .npy, .npz and IDX files, and their labels."""

from __future__ import annotations

import gzip
import lzma
import math
import shutil
import tempfile
import tokenize
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from ornstein.data.annotations import TEXT_KEYS, VECTOR_KEYS, Annotations, checked_sets, from_arrays, is_sets
from ornstein.data.classes import indexed, listed, name_of, notes_of
from ornstein.data.layout import Like, layout_of, own_shape
from ornstein.data.rows import ArrayHeader, npy_header, read_at, read_npy
from ornstein.data.stamps import Changed, stamp
from ornstein.errors import OrnsteinError, UsageError

if TYPE_CHECKING:
    from ornstein.data.column_types import Guess
    from ornstein.data.columns import Column
    from ornstein.data.spec import DataSpec

DATA_KEYS = ("x", "X", "images", "image", "data", "samples", "x_train", "X_train", "arr_0")
TARGET_KEYS = ("target", "targets")  # scikit-learn's: classes, or numbers to be foretold, which are no labels
LABEL_KEYS = ("y", "label", "labels", "y_train", *TARGET_KEYS)
NAME_KEYS = ("classes", "class_names", "target_names", "label_names")
OTHER_KEYS = ("low", "high", *NAME_KEYS, *VECTOR_KEYS, *TEXT_KEYS)
SMALL = 4 << 20  # bytes of unpacked arrays that are read anew each time instead of being kept in the cache
LARGEST = 1 << 30  # bytes of an array that has to lie in memory: labels, vectors and texts that belong to the items
WITHOUT_DISK = (
    256 << 20
)  # bytes that are unpacked in memory where there is no folder for it, as of an image to be edited
WORD = 1024  # bytes of the longest label
MANY = 100_000  # different labels; more are no classes

DAMAGE = (
    OSError,
    ValueError,
    EOFError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    NotImplementedError,
    RuntimeError,
    tokenize.TokenError,  # of an array's header
)
"""Exceptions of reading a damaged or hostile file."""

# The element types of IDX files, by the third byte (the format's description on the MNIST page).
IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


@dataclass(frozen=True, eq=False)
class Arrays:
    """Decoded items `(N, ...)` in their own type and in the axes of `layout`, by default `(N, H, W, C)` or `(N, D)`; `low` and
    `high` where the source states a range.

    `masked`: NaN among the items is a missing number, in place of a fault.
    `notes` are the sentences that the user is to be warned with. Of an entry of the cache there is the `Spec` that was measured
    when it was made, and what keeps it from being removed while it is in `use`.
    """

    items: NDArray[Any]
    labels: NDArray[np.int64] | None = None
    classes: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None
    notes: tuple[str, ...] = ()
    annotations: Annotations = Annotations()
    spec: DataSpec | None = None
    use: object = None
    layout: str = ""
    masked: bool = False
    columns: tuple[Guess | Column, ...] = ()
    """Of a table, what each column is."""
    origin: tuple[str, ...] = ()
    """The kind of file and what goes back into files of samples (`ornstein.data.origins`)."""

    def take(self, indices: NDArray[np.int64]) -> Arrays:
        """Only these items."""
        labels = None if self.labels is None else self.labels[indices]
        return replace(
            self, items=self.items[indices], labels=labels, annotations=self.annotations.take(indices), spec=None
        )


@dataclass(frozen=True)
class ArraySource(ABC):
    """Abstract: files that hold items as numbers.

    `layout` names the axes of the items; without it, items whose axes and model shape may be those of `like` have them. `masked`:
    NaN is a missing number.
    """

    path: Path
    layout: str | None = None
    like: Like | None = None
    masked: bool = False

    @property
    @abstractmethod
    def direct(self) -> bool:
        """Whether the items need no copy in the cache: they can be read as they are, or are tiny."""

    @abstractmethod
    def fingerprint(self) -> str:
        """Changes when a file does that decides what is read."""

    @abstractmethod
    def _read(self, scratch: Path | None) -> Arrays:
        """What `load` gives. Raises what is in `DAMAGE` for damaged files, too."""

    @property
    def _how(self) -> str:
        """What of a fingerprint all of these have in common."""
        return f"{self.layout} {self.like}{' masked' if self.masked else ''}"

    def load(self, scratch: Path | None = None) -> Arrays:
        """All items. What must be unpacked is, where it is large, into the folder `scratch`, where that is given.

        Raises `OrnsteinError` for a damaged file, or one that has no room in memory or on the disk, `UsageError` for arrays
        that are no images or vectors, `Changed` when a file changes while it is read.
        """
        before = self.fingerprint()
        try:
            arrays = self._read(scratch)
        except MemoryError:
            raise OrnsteinError(
                f"{self.path} takes more memory than there is; write its items as .npy, of which a large one is read in parts."
            ) from None
        except (*DAMAGE, OrnsteinError) as error:
            if self.fingerprint() != before:
                raise Changed(f"{self.path} changed while it was read; try again when it is whole.") from error
            if isinstance(error, OrnsteinError):
                raise
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise OrnsteinError(f"{self.path} could not be read as arrays ({reason}); make it anew.") from error
        if self.fingerprint() != before:
            raise Changed(f"{self.path} changed while it was read; try again when it is whole.")
        return replace(arrays, masked=self.masked or arrays.masked)


@dataclass(frozen=True)
class ArrayFile(ArraySource):
    """One file of items, perhaps with a file of labels. `half` 0 or 1: one half of each class.

    `images`: the file is a set of images, of which grey ones get their channel axis.
    """

    labels: Path | None = None
    classes: tuple[str, ...] = ()
    half: Literal[0, 1] | None = None
    images: bool = False

    @property
    def packed(self) -> bool:
        """Whether the file must be unpacked to be read."""
        return self.path.suffix in (".npz", ".gz")

    @property
    def direct(self) -> bool:
        return not self.packed or self.unpacked < SMALL

    @cached_property
    def unpacked(self) -> int:
        """The bytes that the arrays say they take; 0 for a file that cannot be read, as `load` will say."""
        try:
            if self.path.suffix == ".npz":
                with zipfile.ZipFile(self.path) as archive:
                    return sum(member.file_size for member in archive.infolist())
            with gzip.open(self.path) as file:
                dtype, shape, _ = _idx_header(cast(IO[bytes], file), self.path)
                return math.prod(shape) * dtype.itemsize
        except (*DAMAGE, OrnsteinError):
            return 0

    def fingerprint(self) -> str:
        files = [path for path in (self.path, self.labels) if path is not None]
        how = str(self.classes), str(self.half), self._how
        return "\n".join([*(f"{path.resolve()} {stamp(path)}" for path in files), *how])

    def load(self, scratch: Path | None = None) -> Arrays:
        arrays = super().load(scratch)
        return arrays if self.half is None else arrays.take(half_of(arrays.labels, self.half, len(arrays.items)))

    def _read(self, scratch: Path | None) -> Arrays:
        if self.path.suffix == ".npy":
            return self._items(read_npy(self.path))
        if self.path.suffix == ".npz":
            with zipfile.ZipFile(self.path) as archive:
                return self._images(
                    from_mapping(_Members(archive, self.path, scratch), str(self.path), self.layout, like=self.like)
                )
        arrays = self._items(read_idx(self.path, scratch))
        items = arrays.items
        if self.labels is None:
            return arrays
        try:
            labels = np.asarray(read_idx(self.labels, scratch, len(items)))
        except DAMAGE as error:
            raise OrnsteinError(f"{self.labels} could not be read as labels ({error}); make it anew.") from error
        if self.classes:
            checked = checked_labels(labels, len(items), self.classes, str(self.labels))
            return replace(arrays, labels=checked, classes=self.classes)
        indices, classes = named_labels(labels, len(items), str(self.labels))
        return replace(arrays, labels=indices, classes=classes, notes=notes_of(indices, classes))

    def _items(self, array: NDArray[Any]) -> Arrays:
        wanted = "NHW" if self.images and self.layout is None and array.ndim == 3 else self.layout
        items, layout = as_items(array, str(self.path), wanted, like=self.like)
        return self._images(Arrays(items, layout=layout))

    def _images(self, arrays: Arrays) -> Arrays:
        """Whether these are images with a channel axis."""
        if not self.images or arrays.layout != "NHW":
            return arrays
        return replace(arrays, items=arrays.items.reshape(*arrays.items.shape, 1), layout="NHWC")


@dataclass(frozen=True)
class _Members(Mapping[str, NDArray[Any]]):
    """The arrays of a .npz file, each unpacked on demand: small ones in memory, others on the disk."""

    archive: zipfile.ZipFile
    path: Path
    scratch: Path | None

    def __iter__(self) -> Iterator[str]:
        return (name.removesuffix(".npy") for name in self.archive.namelist() if name.endswith(".npy"))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __getitem__(self, key: str) -> NDArray[Any]:
        member = self.archive.getinfo(f"{key}.npy")
        with self.archive.open(member) as stream:
            header = npy_header(stream)
            if header.nbytes > member.file_size - header.offset:
                raise ValueError(f"{key} is shorter than its header says")
            is_table = key in LABEL_KEYS and len(header.shape) == 2
            if key in (*LABEL_KEYS, *OTHER_KEYS) and not is_table and header.nbytes > LARGEST:
                raise UsageError(
                    f"{key} in {self.path} unpacks to {header.nbytes / 1e6:,.0f} MB, and has to lie in memory, where "
                    f"{LARGEST >> 20} are the most; leave it out, or make it smaller."
                )
            if header.nbytes <= SMALL or self.scratch is None:
                _must_be_small(header.nbytes, self.path)
                return _in_memory(stream.read(header.nbytes), header)
            file = unpack(stream, header.nbytes, self.path, self.scratch)
        values = read_at(file, header._replace(offset=0), own=True)
        return np.asarray(values) if key in OTHER_KEYS or (key in LABEL_KEYS and not is_table) else values


def _must_be_small(size: int, path: Path) -> None:
    if size > WITHOUT_DISK:
        raise OrnsteinError(
            f"{path} unpacks to {size / 1e6:,.0f} MB, too many for this; cut out what is needed as .npy."
        )


def _in_memory(content: bytes, header: ArrayHeader) -> NDArray[Any]:
    if len(content) < header.nbytes:
        raise ValueError("cut short")
    flat = np.frombuffer(content, header.dtype, math.prod(header.shape))
    array = flat.reshape(header.shape, order="F" if header.fortran else "C")
    return array.astype(header.dtype.newbyteorder("="))


def unpack(stream: IO[bytes], size: int, path: Path, scratch: Path) -> Path:
    """A file in `scratch` with the next `size` bytes of the stream.

    Raises `OrnsteinError` when the disk has no room for that (and as much again, for the cache), or the stream ends before.
    """
    free = shutil.disk_usage(scratch).free
    if free < 2 * size:
        raise OrnsteinError(
            f"{path} unpacks to {size / 1e6:,.0f} MB, and the disk of {scratch.parent} has {free / 1e6:,.0f} free, where twice "
            "as much is needed; free some space, or point ORNSTEIN_CACHE or --cache at a larger disk."
        )
    handle, name = tempfile.mkstemp(dir=scratch)
    with open(handle, "wb") as file:
        left = size
        while left and (block := stream.read(min(left, 1 << 20))):
            try:
                file.write(block)
            except OSError as error:
                raise OrnsteinError(f"{path} could not be unpacked in {scratch.parent} ({error.strerror}).") from error
            left -= len(block)
    if left:
        raise OrnsteinError(f"{path} is shorter than its header says; fetch it again.")
    return Path(name)


def from_mapping(
    archive: Mapping[str, NDArray[Any]],
    where: str,
    layout: str | None = None,
    torch: bool = False,
    like: Like | None = None,
) -> Arrays:
    """The items, labels, class names, conditions and range held by an .npz file's arrays.

    Items are under x, images, data, samples, … or the only array that is no label; labels under y, label, labels or target, one
    for each item or a table of 0 and 1 with a column for each label; vectors that belong to the items under conditions, texts
    under captions; `low`, `high` and `classes` are optional. A note names the arrays that are not used.
    `layout`, `torch` and `like` are those of `layout_of`. Raises `UsageError` when it is unclear which array holds the items.
    """
    keys = list(archive)
    key = _items_key(keys, where)
    items, layout = as_items(archive[key], f"{key} in {where}", layout, torch, like)
    label_key = next((key for key in LABEL_KEYS if key in keys), None)
    values = None if label_key is None else archive[label_key]
    if values is not None and label_key in TARGET_KEYS and not _may_be_labels(values, len(items)):
        label_key = values = None
    low, high = (_number(archive[key], key, where) if key in keys else None for key in ("low", "high"))
    annotations = from_arrays(archive, len(items), where)
    name_key = next((key for key in NAME_KEYS if key in keys and values is not None), None)
    used = {key, label_key, name_key, "low", "high", *VECTOR_KEYS, *TEXT_KEYS}
    notes = (*_unused([key for key in keys if key not in used], where), *annotations.notes())
    made = Arrays(items, low=low, high=high, notes=notes, annotations=annotations, layout=layout)
    if values is None:
        return made
    place = f"{label_key} in {where}"
    names = None if name_key is None else _names(archive[name_key], f"{name_key} in {where}")
    if is_sets(values, len(items)):
        sets, tags = checked_sets(values, names, place)
        return replace(made, annotations=replace(annotations, sets=sets, tags=tags))
    if names is not None:
        labels, classes = checked_labels(values, len(items), names, place), names
    else:
        labels, classes = named_labels(values, len(items), place)
    return replace(made, labels=labels, classes=classes, notes=(*notes, *notes_of(labels, classes)))


def _may_be_labels(values: NDArray[Any], count: int) -> bool:
    """Whether an array is one of classes: words, whole numbers, or a table of 0 and 1."""
    if values.dtype.kind == "f" and values.ndim == 1:
        return bool(((values == np.rint(values)) | np.isnan(values)).all())
    return len(values) == count if values.ndim else False


def _unused(keys: Sequence[str], where: str) -> tuple[str, ...]:
    """A note of arrays in a file that nothing is made of."""
    few = f"the array {keys[0]}" if len(keys) == 1 else f"the arrays {listed(keys)}"
    return (f"{where} holds {few} too, which {'is' if len(keys) == 1 else 'are'} not used.",) if keys else ()


def _number(array: NDArray[Any], key: str, where: str) -> float:
    if array.size != 1 or array.dtype.kind not in "biuf" or not np.isfinite(array).all():
        raise UsageError(f"{key} in {where} must be one finite number.")
    return float(array.reshape(()))


def _names(array: NDArray[Any], where: str) -> tuple[str, ...]:
    if array.ndim != 1 or array.dtype.kind not in "biufUS" or array.size > MANY or array.itemsize > WORD:
        raise UsageError(
            f"{where} has type {array.dtype} and shape {array.shape}; give a list of at most {MANY:,} words."
        )
    return tuple(name.decode(errors="replace") if isinstance(name, bytes) else str(name) for name in array.tolist())


def plain_items(file: Path) -> NDArray[Any]:
    """The array of items in a .npy or .npz file as it is, whatever its axes are.

    Raises `OrnsteinError` for a damaged file, `UsageError` where it is unclear which array holds the items.
    """
    try:
        if file.suffix.lower() == ".npy":
            return read_npy(file)
        with zipfile.ZipFile(file) as archive:
            members = _Members(archive, file, None)
            return members[_items_key(list(members), str(file))]
    except MemoryError:
        raise OrnsteinError(f"{file} takes more memory than there is; give fewer items.") from None
    except DAMAGE as error:
        raise OrnsteinError(f"{file} could not be read as arrays ({error}); make it anew.") from error


def _items_key(keys: Sequence[str], where: str) -> str:
    known = [key for key in DATA_KEYS if key in keys] or [k for k in keys if k not in (*LABEL_KEYS, *OTHER_KEYS)]
    if not known or (known[0] not in DATA_KEYS and len(known) > 1):
        raise UsageError(f"{where} holds the arrays {', '.join(keys)}: call the one with the items x and labels y.")
    return known[0]


def as_items(
    array: NDArray[Any], where: str, layout: str | None = None, torch: bool = False, like: Like | None = None
) -> tuple[NDArray[Any], str]:
    """Items as they are, and their layout: the one that is wanted, or what their shape can only mean (`layout_of`). One item of
    the shape of those of `like` is taken for itself.

    Raises `UsageError` for another type than numbers, for nothing at all, and what `layout_of` raises.
    """
    if array.dtype.kind not in "biuf":
        raise UsageError(f"{where} has type {array.dtype}; items must be whole or floating numbers.")
    if array.size == 0:
        raise UsageError(f"{where} is empty (shape {array.shape}); there is nothing to learn from.")
    if layout is None and like is not None and array.shape == own_shape(like[1], like[0]):
        return array[None], like[0]
    return array, layout_of(array.shape, array.dtype, where, layout, torch, like)


def checked_labels(array: NDArray[Any], count: int, classes: Sequence[str], where: str) -> NDArray[np.int64]:
    """Labels `(count,)` that index `classes`; NaN is a missing one, `len(classes)`. Raises `UsageError` otherwise."""
    flat = array.reshape(-1) if array.size == count else array
    if flat.shape != (count,):
        raise UsageError(f"{where} has shape {array.shape}, but there are {count} items: give one label for each.")
    missing = np.isnan(flat) if flat.dtype.kind == "f" else np.zeros(count, np.bool_)
    held = flat[~missing]
    if flat.dtype.kind not in "biuf" or not ((held >= 0) & (held < len(classes)) & (held == np.rint(held))).all():
        raise UsageError(
            f"{where} must hold whole numbers from 0 to {len(classes) - 1}, one for each of the {len(classes)} classes, or NaN "
            "where a label is missing."
        )
    labels = np.full(count, len(classes), np.int64)
    labels[~missing] = held.astype(np.int64)
    return labels


def named_labels(array: NDArray[Any], count: int, where: str) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Indices of the classes in order (`indexed`), which are the values found: numbers or words. NaN is a missing label.

    Raises `UsageError` for an array of anything else, naming the first value that is no label.
    """
    if array.dtype.kind not in "biufUSO" or array.size != count or array.itemsize > WORD:
        raise UsageError(
            f"{where} has type {array.dtype} and shape {array.shape}; give {count} whole numbers or words, "
            "one for each item, or rename it if it is no label."
        )
    flat = array.reshape(-1)
    if flat.dtype.kind == "f":
        wrong = np.flatnonzero(~((flat == np.rint(flat)) | np.isnan(flat)) | np.isinf(flat))
        if len(wrong):
            raise UsageError(
                f"{where} holds {flat[wrong[0]]:g} for item {wrong[0]}, which is no label; give whole numbers or words, or call "
                "the array conditions if these are numbers to condition on."
            )
    if flat.dtype.kind == "O":
        named = [name_of(value) for value in flat.tolist()]
        values = list(dict.fromkeys(named))
        place = {name: i for i, name in enumerate(values)}
        labels = np.array([place[name] for name in named], np.int64)
    else:
        distinct, labels = np.unique(flat, return_inverse=True)
        values = distinct.tolist()
    if len(values) > MANY:
        raise UsageError(f"{where} holds {len(values):,} different labels; rename it if it is no label.")
    index, classes = indexed(values)
    if not classes:
        raise UsageError(f"{where} holds no label at all: all {count} are missing; give some, or leave it out.")
    return index[labels.reshape(-1)], classes


def half_of(labels: NDArray[np.int64] | None, half: Literal[0, 1], count: int) -> NDArray[np.int64]:
    """The sorted indices of half 0 or 1: each class is shuffled with a fixed seed and dealt out in turn."""
    shuffled = np.random.default_rng(0).permutation(count)
    if labels is not None:
        shuffled = shuffled[np.argsort(labels[shuffled], kind="stable")]
    return np.sort(shuffled[half::2])


def read_idx(path: Path, scratch: Path | None = None, count: int | None = None) -> NDArray[Any]:
    """The array of an IDX file, plain or gzipped, in the machine's byte order; with a `count`, of so many numbers.

    A gzipped one of more than 4 MB is unpacked into the folder `scratch`.
    Raises `OrnsteinError` when the file is no IDX file or is shorter than its header says, `UsageError` for another count.
    """
    packed = path.suffix == ".gz"
    with gzip.open(path) if packed else path.open("rb") as opened:
        file = cast(IO[bytes], opened)
        dtype, shape, offset = _idx_header(file, path)
        header = ArrayHeader(dtype, shape, False, offset)
        if count is not None and math.prod(shape) != count:
            raise UsageError(f"{path} has shape {shape}, but there are {count} items: give one label for each.")
        if not packed:
            return read_at(path, header)
        if header.nbytes <= SMALL or scratch is None:
            _must_be_small(header.nbytes, path)
            content = file.read(header.nbytes)
            if len(content) < header.nbytes:
                raise OrnsteinError(f"{path} is shorter than its header says; fetch it again.")
            return _in_memory(content, header)
        plain = unpack(file, header.nbytes, path, scratch)
    return read_at(plain, header._replace(offset=0), own=True)


def _idx_header(file: IO[bytes], path: Path) -> tuple[np.dtype[Any], tuple[int, ...], int]:
    magic = file.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in IDX_TYPES or magic[3] == 0:
        raise OrnsteinError(f"{path} is not an IDX file: it does not begin as one.")
    sizes = file.read(4 * magic[3])
    if len(sizes) < 4 * magic[3]:
        raise OrnsteinError(f"{path} is shorter than its header says; fetch it again.")
    return np.dtype(IDX_TYPES[magic[2]]), tuple(np.frombuffer(sizes, ">u4").tolist()), 4 + len(sizes)


def idx_labels_of(path: Path) -> Path | None:
    """The file of labels that belongs to a file of images by its name: `train-images-idx3-ubyte` has
    `train-labels-idx1-ubyte` next to it, gzipped or not."""
    name = path.name.replace("images", "labels").replace("idx3", "idx1").replace("idx4", "idx1")
    plain = name.removesuffix(".gz")
    if plain == path.name.removesuffix(".gz"):
        return None
    candidates = [path.with_name(name), path.with_name(plain), path.with_name(plain + ".gz")]
    return next((candidate for candidate in candidates if candidate.is_file()), None)
