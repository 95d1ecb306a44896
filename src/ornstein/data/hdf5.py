"""HDF5 files, and NetCDF files of version 4, which are HDF5 with dimension scales; read and written by h5py.

Only what lies in the file itself is read: soft and external links, virtual data sets and data in other files are not followed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ornstein import extras
from ornstein.data.variables import About, Reader, VariableForm
from ornstein.errors import OrnsteinError, UsageError, brief
from ornstein.files.reading import spelled

OWN = {"CLASS", "NAME", "DIMENSION_LIST", "REFERENCE_LIST", "DIMENSION_LABELS", "_NCProperties", "_nc3_strict"}
OWN |= {"_Netcdf4Dimid", "_Netcdf4Coordinates"}
"""Attributes of the format itself."""
DEEPEST = 32  # groups in groups


class Hdf5Reader(Reader):
    """An opened file."""

    def __init__(self, file: Any, path: Path, netcdf: bool) -> None:
        self.form = NetCDFForm if netcdf else Hdf5Form
        self._file, self._path = file, path
        self._h5py = extras.library("h5py", "reading HDF5 files")

    def names(self) -> list[str]:
        held: list[str] = []

        def look(group: Any, before: str, depth: int) -> None:
            for key in group:
                if not isinstance(group.get(key, getlink=True), self._h5py.HardLink):
                    continue
                item = group[key]
                if isinstance(item, self._h5py.Group):
                    if depth < DEEPEST:
                        look(item, f"{before}{key}/", depth + 1)
                elif (
                    isinstance(item, self._h5py.Dataset)
                    and item.shape
                    and not item.is_scale
                    and item.dtype.kind in "biuf"
                ):
                    held.append(before + key)

        look(self._file, "", 0)
        return held

    def _dataset(self, name: str) -> Any:
        """The data set of a name, reached through the file alone."""
        where, here = f"{brief(name)} in {self._path}", self._file
        for part in name.split("/"):
            link = here.get(part, getlink=True) if isinstance(here, self._h5py.Group) and part else None
            if link is None:
                names = ", ".join(map(brief, self.names()[:8])) or "no array of numbers"
                raise UsageError(f"{self._path} has no variable {brief(name)}; it holds {names}")
            if not isinstance(link, self._h5py.HardLink):
                raise UsageError(f"{where} is a link to another place, which is not followed; name the data set itself")
            here = here[part]
        if not isinstance(here, self._h5py.Dataset):
            raise UsageError(f"{where} is a group; name a data set in it, such as {self._path.name}?{name}/NAME")
        if here.is_virtual or here.external:
            raise UsageError(f"{where} lies in other files, which are not followed; copy it into one file")
        return here

    def about(self, name: str) -> About:
        dataset = self._dataset(name)
        if dataset.shape and dataset.size and not dataset.id.get_storage_size():
            raise OrnsteinError(
                f"{brief(name)} in {self._path} was declared with shape {dataset.shape} and never written"
            )
        return About(dataset.shape or (), dataset.dtype, self._dimensions(dataset), _said(dataset.attrs))

    @staticmethod
    def _dimensions(dataset: Any) -> tuple[str, ...]:
        """The names of the axes; none where one has none."""
        names = []
        for axis in dataset.dims:
            label = axis.label or (axis[0].name.rpartition("/")[2] if len(axis) else "")
            names.append(label)
        return tuple(names) if all(names) and len(set(names)) == len(names) else ()

    def read(self, name: str, start: int, stop: int) -> NDArray[Any]:
        return np.asarray(self._dataset(name)[start:stop])

    def coordinate(self, name: str, dimension: str) -> tuple[NDArray[Any], Mapping[str, Any]] | None:
        dataset = self._dataset(name)
        for label, axis in zip(self._dimensions(dataset), dataset.dims, strict=False):
            if label == dimension and len(axis) and axis[0].ndim == 1 and axis[0].size <= 1 << 20:
                if "not a netCDF variable" in str(axis[0].attrs.get("NAME", b"")):
                    return None
                return np.asarray(axis[0][()]), _said(axis[0].attrs)
        return None

    def globals(self) -> Mapping[str, Any]:
        return _said(self._file.attrs)


def _said(attributes: Any) -> dict[str, Any]:
    """Attributes but those of the format; what cannot be read is left out."""
    said = {}
    for key in attributes:
        if key not in OWN:
            try:
                said[key] = attributes[key]
            except (OSError, TypeError, ValueError, RuntimeError):
                continue
    return said


@contextmanager
def opened_hdf5(path: Path, netcdf: bool) -> Iterator[Hdf5Reader]:
    """A file, opened for reading."""
    h5py = extras.library("h5py", f"reading {path.suffix} files")
    with spelled(path) as name, h5py.File(name, "r", locking=False) as file:
        yield Hdf5Reader(file, path, netcdf)


@dataclass(frozen=True)
class Hdf5Form(VariableForm):
    """An HDF5 file of one data set, with its attributes and dimension scales."""

    name = "hdf5"
    endings = (".h5", ".hdf5", ".hdf", ".he5")
    library = "h5py"

    @contextmanager
    def writing(self, file: Path, shape: tuple[int, ...]) -> Iterator[Any]:
        h5py = extras.library("h5py", f"writing {self.endings[0]} files")
        with spelled_new(file) as name, h5py.File(name, "w", track_order=True) as made:
            made.attrs.update(self._plain(self.globals))
            dataset = made.create_dataset(self.variable, shape, self.stored, **self._filled())
            for key, value in self._plain(self.attributes).items():
                if key != "_FillValue":
                    dataset.attrs[key] = value
            if "_FillValue" in self.attributes:
                dataset.attrs["_FillValue"] = np.array([self.plain["_FillValue"]], self.stored).reshape(1)
            for place, (axis, values, attributes) in enumerate(self.axes(shape)):
                self._axis(made, dataset, place, axis, values, attributes)

            def write(start: int, stored: NDArray[Any]) -> None:
                dataset[start : start + len(stored)] = stored

            yield write

    def _filled(self) -> dict[str, Any]:
        fill = self.plain.get("_FillValue")
        return (
            {}
            if fill is None or np.size(fill) != 1
            else {"fillvalue": self.stored.type(np.asarray(fill).reshape(-1)[0])}
        )

    @staticmethod
    def _plain(attributes: Any) -> dict[str, Any]:
        from ornstein.data.variables import decoded

        return decoded(attributes)

    def _axis(
        self, made: Any, dataset: Any, place: int, name: str, values: NDArray[Any] | None, attributes: Mapping[str, Any]
    ) -> None:
        """Name an axis, and attach its coordinate where there is one."""
        dataset.dims[place].label = name
        if values is not None and name not in made:
            scale = made.create_dataset(name, data=values)
            scale.attrs.update(attributes)
            scale.make_scale(name)
            dataset.dims[place].attach_scale(scale)


@dataclass(frozen=True)
class NetCDFForm(Hdf5Form):
    """A NetCDF file of version 4: each axis is a dimension, with its coordinate or without."""

    name = "netcdf"
    endings = (".nc", ".nc4", ".cdf", ".netcdf")

    def _axis(
        self, made: Any, dataset: Any, place: int, name: str, values: NDArray[Any] | None, attributes: Mapping[str, Any]
    ) -> None:
        if name in made:
            return
        length = dataset.shape[place]
        if values is None:  # NetCDF-4 file format specification, "dimensions without coordinate variables"
            scale = made.create_dataset(name, (length,), ">f4")
            scale.make_scale(f"This is a netCDF dimension but not a netCDF variable.{length:10d}")
        else:
            scale = made.create_dataset(name, data=values)
            scale.attrs.update(attributes)
            scale.make_scale(name)
        scale.attrs["_Netcdf4Dimid"] = np.int32(place)
        dataset.dims[place].attach_scale(scale)


@contextmanager
def spelled_new(file: Path) -> Iterator[str]:
    """A path of a file that is to be written, for a library that takes text alone."""
    try:
        str(file).encode()
    except UnicodeEncodeError:
        raise UsageError(f"{file} has a name that is no text, which HDF5 does not take; give another --out") from None
    yield str(file)
