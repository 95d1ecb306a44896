"""NetCDF files of the classic format, versions 1 and 2, read and written by scipy."""

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
from ornstein.errors import UsageError, brief


class ClassicReader(Reader):
    """An opened file, which scipy reads whole."""

    def __init__(self, file: Any, path: Path) -> None:
        self.form = ClassicForm
        self._file, self._path = file, path

    def names(self) -> list[str]:
        return [
            name
            for name, variable in self._file.variables.items()
            if variable.shape and variable.data.dtype.kind in "iuf" and name not in self._file.dimensions
        ]

    def _variable(self, name: str) -> Any:
        if name not in self._file.variables:
            names = ", ".join(map(brief, self.names()[:8])) or "no array of numbers"
            raise UsageError(f"{self._path} has no variable {brief(name)}; it holds {names}")
        return self._file.variables[name]

    def about(self, name: str) -> About:
        variable = self._variable(name)
        dimensions = tuple(variable.dimensions)
        dimensions = dimensions if len(set(dimensions)) == len(dimensions) else ()
        return About(tuple(variable.data.shape), variable.data.dtype, dimensions, dict(variable._attributes))

    def read(self, name: str, start: int, stop: int) -> NDArray[Any]:
        return np.array(self._variable(name).data[start:stop])

    def coordinate(self, name: str, dimension: str) -> tuple[NDArray[Any], Mapping[str, Any]] | None:
        variable = self._file.variables.get(dimension)
        return None if variable is None else (np.array(variable.data), dict(variable._attributes))

    def globals(self) -> Mapping[str, Any]:
        return dict(self._file._attributes)


@contextmanager
def opened_classic(path: Path) -> Iterator[ClassicReader]:
    """A file, opened for reading."""
    netcdf = extras.library("scipy.io", "reading classic NetCDF files")
    file = netcdf.netcdf_file(str(path), "r", mmap=False)
    try:
        yield ClassicReader(file, path)
    finally:
        file.close()


@dataclass(frozen=True)
class ClassicForm(VariableForm):
    """A classic NetCDF file of one variable, with its attributes, dimensions and their coordinates."""

    name = "netcdf3"
    endings = (".nc", ".cdf")
    library = "scipy"

    @contextmanager
    def writing(self, file: Path, shape: tuple[int, ...]) -> Iterator[Any]:
        from ornstein.data.variables import decoded

        netcdf = extras.library("scipy.io", "writing classic NetCDF files")
        names = self.dimensions or [f"dim_{place}" for place in range(len(shape))]
        with netcdf.netcdf_file(str(file), "w", version=2) as made:
            for name, value in decoded(self.globals).items():
                setattr(made, name, value)
            for name, length in zip(names, shape, strict=True):
                made.createDimension(name, length)
            for name, values, attributes in self.axes(shape):
                if values is not None:
                    axis = made.createVariable(name, values.dtype, (name,))
                    axis[:] = values
                    for key, value in attributes.items():
                        setattr(axis, key, value)
            variable = made.createVariable(self.variable, self.stored, tuple(names))
            for key, value in self.plain.items():
                setattr(variable, key, value)

            def write(start: int, stored: NDArray[Any]) -> None:
                variable[start : start + len(stored)] = stored

            yield write
