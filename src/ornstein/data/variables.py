"""Variables of scientific files (HDF5, NetCDF, Zarr) as items: which one, what its axes are called, how its numbers are packed.

Packing is that of the CF conventions 1.11, sections 2.5.1 and 8.1: value = stored · scale_factor + add_offset, and what is stored
as _FillValue or missing_value, or outside of valid_range or valid_min and valid_max, is missing. Items lie along the first axis.
"""

from __future__ import annotations

import math
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ornstein.data.arrays import DAMAGE, SMALL, Arrays, ArraySource, as_items
from ornstein.data.gathering import gathered, must_have_place
from ornstein.data.kinds import LAYOUTS
from ornstein.data.layout import model_shape
from ornstein.data.origins import Append, FileForm
from ornstein.data.stamps import stamp
from ornstein.errors import OrnsteinError, UsageError, brief

if TYPE_CHECKING:
    from ornstein.data.spec import DataSpec
    from ornstein.files.output import Output

SLAB = 8 << 20  # bytes of stored numbers that are read at once
LARGEST = 2 << 30  # bytes of an item, or of a chunk of a file, which is read in one piece
FEW = 8  # names that a sentence lists
AXIS = 1 << 14  # numbers of a coordinate that is kept
LETTERS = {
    **dict.fromkeys(("channel", "channels", "band", "bands", "feature", "features", "component", "c"), "C"),
    **dict.fromkeys(("lat", "latitude", "y", "row", "rows", "rlat", "nlat", "south_north"), "H"),
    **dict.fromkeys(("lon", "longitude", "x", "column", "columns", "rlon", "nlon", "west_east"), "W"),
    **dict.fromkeys(("z", "depth", "lev", "level", "plev", "slice", "slices", "altitude"), "D"),
    **dict.fromkeys(("time", "t", "length", "position"), "L"),
}
"""Axes by the usual names of dimensions, in lower case."""
SCALE, OFFSET, FILLS = "scale_factor", "add_offset", ("_FillValue", "missing_value")
BOUNDS = {"valid_range": 2, "valid_min": 1, "valid_max": 1}  # how many numbers each is

Attributes = dict[str, list[Any]]
"""By name the numpy type, or "str", and the value: a number or text, or a list of them."""


@dataclass(frozen=True)
class About:
    """What a file says of a variable without its numbers."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    dimensions: tuple[str, ...] = ()
    attributes: Mapping[str, Any] | None = None
    chunk: int = 0
    """Bytes that are unpacked together, where the file says it."""


class Reader(ABC):
    """Abstract. An opened file."""

    form: type[VariableForm]

    @abstractmethod
    def names(self) -> list[str]:
        """The variables that may hold items: no coordinates, no texts."""

    @abstractmethod
    def about(self, name: str) -> About:
        """Raises UsageError for a variable that is not there, or is not to be read."""

    @abstractmethod
    def read(self, name: str, start: int, stop: int) -> NDArray[Any]:
        """Stored numbers of the items from `start` to `stop`."""

    def coordinate(self, name: str, dimension: str) -> tuple[NDArray[Any], Mapping[str, Any]] | None:
        """The numbers along a dimension of a variable and what is said of them; None where there are none."""
        return None

    def globals(self) -> Mapping[str, Any]:
        """What is said of the whole file."""
        return {}


@dataclass(frozen=True)
class Packing:
    """How numbers are stored: `fills`, and those below `low` and above `high`, are missing; with a `scale` or an `offset` they
    are floating numbers once read."""

    stored: np.dtype[Any]
    scale: float | None = None
    offset: float | None = None
    fills: tuple[float, ...] = ()
    wide: bool = True
    low: float = -math.inf
    high: float = math.inf

    @staticmethod
    def of(dtype: np.dtype[Any], attributes: Mapping[str, Any], where: str) -> Packing:
        """Raises UsageError for attributes that pack nothing."""
        if str(attributes.get("_Unsigned", "")).lower() == "true" and dtype.kind == "i":
            dtype = np.dtype(dtype.str.replace("i", "u"))
        numbers: dict[str, tuple[float, ...]] = {}
        for key in (SCALE, OFFSET, *FILLS, *BOUNDS):
            if key in attributes:
                value, size = np.asarray(attributes[key]), BOUNDS.get(key, 1)
                if value.dtype.kind not in "biuf" or (key not in FILLS and value.size != size):
                    must = "a number" if size == 1 else f"{size} numbers"
                    raise UsageError(f"{where}: its attribute {key} is {brief(attributes[key])}, and must be {must}")
                numbers[key] = tuple(float(v) for v in value.astype(np.float64).reshape(-1))
        scale, offset = (numbers[key][0] if key in numbers else None for key in (SCALE, OFFSET))
        if scale is not None and (scale == 0 or not math.isfinite(scale)):
            raise UsageError(f"{where}: its attribute {SCALE} is {scale:g}, which unpacks nothing; mend the file")
        kinds = [np.asarray(attributes[key]).dtype for key in (SCALE, OFFSET) if key in attributes]
        single = bool(kinds) and all(kind == np.float32 for kind in kinds)
        wide = dtype.itemsize > 2 if dtype.kind != "f" else dtype.itemsize > 4
        fills = tuple(dict.fromkeys(value for key in FILLS for value in numbers.get(key, ())))
        whole = numbers.get("valid_range", (-math.inf, math.inf))
        low, high = (
            numbers.get(key, (bound,))[0] for key, bound in zip(("valid_min", "valid_max"), whole, strict=True)
        )
        return Packing(dtype, scale, offset, fills, wide or (bool(kinds) and not single), low, high)

    @property
    def hides(self) -> bool:
        """Whether some numbers stand for missing ones."""
        return bool(self.fills) or self.low > -math.inf or self.high < math.inf

    @property
    def packs(self) -> bool:
        """Whether stored numbers are not those that are meant."""
        return self.scale is not None or self.offset is not None

    def dtype(self, holes: bool) -> np.dtype[Any]:
        """Of the numbers once read: those with holes, or packed, are floating."""
        if self.packs or (holes and self.stored.kind != "f"):
            return np.dtype(np.float64 if self.wide else np.float32)
        return self.stored.newbyteorder("=")

    def hidden(self, stored: NDArray[Any]) -> NDArray[np.bool_]:
        """Where a number is missing."""
        gone = np.asarray((stored < self.low) | (stored > self.high))
        for fill in self.fills:
            gone |= np.isnan(stored) if math.isnan(fill) and stored.dtype.kind == "f" else stored == fill
        return gone

    def unpack(self, stored: NDArray[Any], holes: bool) -> NDArray[Any]:
        """Stored numbers as what they mean, NaN where they are missing."""
        stored = stored.view(self.stored) if stored.dtype.kind != self.stored.kind else stored
        if not self.packs and not holes:
            return stored.astype(self.dtype(False), copy=False)
        values = stored.astype(np.float64) * (1.0 if self.scale is None else self.scale) + (self.offset or 0.0)
        values[self.hidden(stored)] = math.nan
        return values.astype(self.dtype(holes))

    def pack(self, values: NDArray[Any]) -> NDArray[Any]:
        """The inverse: numbers are held to their type and valid range, and never become a fill; NaN becomes the first fill."""
        if not self.packs and not self.hides and values.dtype.kind == self.stored.kind:
            return values.astype(self.stored)
        numbers = (values.astype(np.float64) - (self.offset or 0.0)) / (1.0 if self.scale is None else self.scale)
        numbers = np.clip(numbers, self.low, self.high)
        if self.stored.kind != "f":
            limits = (0, 1) if self.stored.kind == "b" else (np.iinfo(self.stored).min, np.iinfo(self.stored).max)
            low, high = limits[0] + (limits[0] in self.fills), limits[1] - (limits[1] in self.fills)
            numbers = np.clip(np.rint(numbers), low, high)
            for fill in self.fills:
                numbers = np.where(numbers == fill, fill + 1, numbers)
        if self.fills:
            numbers = np.where(np.isnan(numbers), self.fills[0], numbers)
        return numbers.astype(self.stored)


@dataclass(frozen=True)
class VariableForm(FileForm):
    """Abstract. A file of one variable, as the data were: its name, type, attributes, dimensions and their coordinates."""

    variable: str
    dtype: str
    dimensions: list[str]
    attributes: Attributes
    coordinates: dict[str, list[Any]]
    globals: Attributes

    @property
    def packing(self) -> Packing:
        """How its numbers are stored."""
        return Packing.of(np.dtype(self.dtype), self.plain, self.variable)

    @property
    def plain(self) -> dict[str, Any]:
        """The attributes of the variable as values of numpy."""
        return decoded(self.attributes)

    @property
    def stored(self) -> np.dtype[Any]:
        """The type in the file, which an attribute may say is unsigned."""
        return np.dtype(self.dtype)

    def pack(self, items: NDArray[Any]) -> NDArray[Any]:
        """Items as they are stored."""
        packed = self.packing.pack(items)
        return packed.view(self.stored) if packed.dtype.kind != self.stored.kind else packed

    def axes(self, shape: tuple[int, ...]) -> Iterator[tuple[str, NDArray[Any] | None, dict[str, Any]]]:
        """Name, coordinate and attributes of each dimension of an array of items of this shape, items first."""
        for place, name in enumerate(self.dimensions):
            said = self.coordinates.get(name)
            values = None if said is None or place == 0 else np.array(said[1], np.dtype(said[0]))
            if values is None or len(values) != shape[place]:
                yield name, None, {}
            else:
                yield name, values, decoded(said[2]) if said is not None else {}

    @contextmanager
    def new(self, output: Output, count: int, spec: DataSpec) -> Iterator[Append]:
        self.check()
        done = 0
        with output.write() as file:
            with self.writing(file, (count, *spec.item_shape)) as write:

                def append(items: NDArray[Any]) -> None:
                    nonlocal done
                    write(done, self.pack(items))
                    done += len(items)

                yield append
            with file.open("ab") as stream:  # where readers of these formats do not look
                stream.write(f"\n{output.stamp}\n    \n".encode())

    @abstractmethod
    def writing(self, file: Path, shape: tuple[int, ...]) -> AbstractContextManager[Any]:
        """Within, write(start, stored) into a file that is made for `shape`."""


def encoded(attributes: Mapping[str, Any]) -> Attributes:
    """Attributes as JSON's values; what is neither number nor text is left out."""
    made: Attributes = {}
    for name, value in attributes.items():
        plain = value.decode(errors="replace") if isinstance(value, bytes) else value
        array = np.asarray(plain)
        if array.dtype.kind in "biuf" and array.size <= AXIS:
            made[name] = [array.dtype.str, array.tolist()]
        elif array.dtype.kind in "US" or (array.dtype.kind == "O" and all(isinstance(v, str) for v in array.flat)):
            made[name] = ["str", array.astype(str).tolist()]
    return made


def decoded(attributes: Attributes) -> dict[str, Any]:
    """The inverse of `encoded`."""
    return {
        name: value if kind == "str" else np.array(value, np.dtype(kind))[()]
        for name, (kind, value) in attributes.items()
    }


@dataclass(frozen=True, kw_only=True)
class VariableFile(ArraySource):
    """One variable of a scientific file; `variable` None: the only one."""

    variable: str | None = None

    def opened(self) -> AbstractContextManager[Reader]:
        """The file, opened by what reads its kind."""
        from ornstein.data.scientific import opened

        return opened(self.path)

    def fingerprint(self) -> str:
        if not self.path.is_dir():
            return f"{self.path.resolve()} {stamp(self.path)} {self.variable} {self._how}"
        from ornstein.data.stamps import stamps

        names = [
            str((Path(here) / name).relative_to(self.path)) for here, _, files in os.walk(self.path) for name in files
        ]
        return f"{self.path.resolve()} {stamps(self.path, sorted(names))} {self.variable} {self._how}"

    @cached_property
    def direct(self) -> bool:
        try:
            with self.opened() as reader:
                about = reader.about(self._chosen(reader))
                return math.prod(about.shape) * 8 < SMALL
        except (*DAMAGE, OrnsteinError):  # as `load` will say
            return True

    def _chosen(self, reader: Reader) -> str:
        """The name of the variable. Raises UsageError where there is none of this name, or several and none is named."""
        if self.variable is None:
            names = reader.names()
            if not names:
                raise UsageError(f"{self.path} holds no array of numbers; give another file")
            if len(names) > 1:
                listed = ", ".join(map(brief, names[:FEW])) + (", ..." if len(names) > FEW else "")
                raise UsageError(f"{self.path} holds {listed}; name one, such as {self.path.name}?{names[0]}")
            return names[0]
        return self.variable.strip("/")

    def _read(self, scratch: Path | None) -> Arrays:
        with self.opened() as reader:
            name = self._chosen(reader)
            about, where = reader.about(name), f"{name} in {self.path}" if name else str(self.path)
            if about.dtype.kind not in "biuf":
                raise UsageError(f"{where} has type {about.dtype}; items must be whole or floating numbers.")
            if not about.shape or 0 in about.shape:
                raise UsageError(f"{where} has shape {about.shape}; there is nothing to learn from.")
            piece = max(about.chunk, math.prod(about.shape[1:]) * about.dtype.itemsize)
            if piece > LARGEST:
                raise OrnsteinError(
                    f"{where} is read in pieces of {piece / 1e9:,.0f} GB (an item, or a chunk of the file), and more than "
                    f"{LARGEST >> 30} take too much memory; save smaller ones."
                )
            packing = Packing.of(about.dtype, about.attributes or {}, where)
            must_have_place(math.prod(about.shape) * packing.dtype(False).itemsize, scratch, self.path)
            holes = packing.hides and any(
                packing.hidden(self._stored(reader, name, a, b, packing)).any() for a, b in _slabs(about)
            )
            layout, note = self._layout(about, packing.dtype(holes), where)
            items = self._numbers(reader, name, about, packing, holes, scratch)
            form = self._form(reader, name, about)
        notes = [] if not note else [note]
        if holes:
            notes.append(
                f"{where} has missing numbers, by its fill value or valid range: they are 0 for the network and no part of the "
                "loss."
            )
        items, layout = as_items(items, where, layout, like=self.like)
        return Arrays(items, layout=layout, masked=holes, notes=tuple(notes), origin=form.origin)

    @staticmethod
    def _stored(reader: Reader, name: str, start: int, stop: int, packing: Packing) -> NDArray[Any]:
        stored = reader.read(name, start, stop)
        return stored.view(packing.stored) if stored.dtype.kind != packing.stored.kind else stored

    def _numbers(
        self, reader: Reader, name: str, about: About, packing: Packing, holes: bool, scratch: Path | None
    ) -> NDArray[Any]:
        """All items: in memory where they are few, else in a file of the folder."""
        size = math.prod(about.shape) * packing.dtype(holes).itemsize
        parts = (packing.unpack(reader.read(name, a, b), holes) for a, b in _slabs(about))
        return gathered(parts, size, scratch, self.path)

    def _layout(self, about: About, dtype: np.dtype[Any], where: str) -> tuple[str | None, str]:
        """The layout that the names of dimensions say, and a sentence about it; None where they say none."""
        names, shape = about.dimensions, about.shape
        if self.layout is not None or not names:
            return self.layout, ""
        like = self.like
        if like is not None and len(shape) == len(like[0]) and model_shape(shape[1:], like[0]) == like[1]:
            return like[0], ""
        letters = [LETTERS.get(name.rpartition("/")[2].lower(), "") for name in names]
        said = ", ".join(names)
        if letters[0] in ("H", "W", "D", "C"):
            raise UsageError(
                f"{where} has the axes {said}, and items lie along the first one; move that of the items there, or name "
                "the axes by --layout"
            )
        if not all(letters[1:]) or len(names) < 2:
            return None, ""
        layout = "N" + "".join(letters[1:])
        if layout in ("NH", "NW", "ND", "NC"):
            return "ND", ""
        if layout not in LAYOUTS or not LAYOUTS[layout].arrays:
            raise UsageError(
                f"{where} has the axes {said}, in an order that is not known; name them by --layout, or move them"
            )
        return layout, f"{where} is read as {layout} by the names of its axes: {said}."

    @staticmethod
    def _form(reader: Reader, name: str, about: About) -> VariableForm:
        coordinates: dict[str, list[Any]] = {}
        for dimension in about.dimensions[1:]:
            coordinate = reader.coordinate(name, dimension)
            if (
                coordinate is not None
                and coordinate[0].ndim == 1
                and coordinate[0].size <= AXIS
                and coordinate[0].dtype.kind in "iuf"
            ):
                values, attributes = coordinate
                coordinates[dimension] = [values.dtype.str, values.tolist(), encoded(attributes)]
        dimensions = list(about.dimensions)
        return reader.form(
            name, about.dtype.str, dimensions, encoded(about.attributes or {}), coordinates, encoded(reader.globals())
        )


def _slabs(about: About) -> Iterator[tuple[int, int]]:
    """Parts of the first axis that are read at once."""
    each = max(1, math.prod(about.shape[1:]) * about.dtype.itemsize)
    step = max(1, SLAB // each)
    return ((start, min(start + step, about.shape[0])) for start in range(0, about.shape[0], step))
