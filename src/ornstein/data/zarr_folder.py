"""Zarr folders of versions 2 and 3, read and written by zarr.

Before anything is decoded, the metadata of the array are read here: its type must be a plain number and its codecs some that
unpack bytes, since others (pickle, objects) would run what they unpack. Links are not followed.
"""

from __future__ import annotations

import math
import os
from base64 import b64decode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ornstein import extras
from ornstein.data.origins import Append
from ornstein.data.variables import About, Reader, VariableForm
from ornstein.errors import OrnsteinError, UsageError, brief
from ornstein.files.reading import read_json

CODECS = {
    "blosc",
    "zlib",
    "gzip",
    "zstd",
    "lz4",
    "lz4hc",
    "bz2",
    "lzma",
    "delta",
    "fixedscaleoffset",
    "shuffle",
    "quantize",
}
CODECS |= {"bitround", "packbits", "astype", "crc32", "crc32c", "adler32", "fletcher32", "bytes", "transpose"}
CODECS |= {"sharding_indexed", "endian"}
"""What turns bytes into bytes or numbers."""
NAMES = "_ARRAY_DIMENSIONS"  # in version 2 the attribute of names of axes, as xarray writes it
LARGEST = 16 << 20  # bytes of metadata


class ZarrReader(Reader):
    """A folder: the root of a hierarchy, or one array."""

    def __init__(self, path: Path) -> None:
        self.form = ZarrForm
        self._path = path
        self._arrays: dict[str, dict[str, Any]] = {}

    def names(self) -> list[str]:
        if self._metadata(""):
            return [""]
        named = []
        for here, folders, _ in os.walk(self._path):
            folders.sort()
            name = Path(here).relative_to(self._path).as_posix()
            about = self._metadata("" if name == "." else name)
            if about:
                folders.clear()
                shape = about["shape"]
                axis = len(shape) == 1 and name.rpartition("/")[2] in self._names(about)
                if shape and not axis and self._dtype(about).kind in "biuf":
                    named.append(name)
        return named

    def _metadata(self, name: str) -> dict[str, Any]:
        """What the metadata of an array say; empty where there is none."""
        if name in self._arrays:
            return self._arrays[name]
        folder, about = self._path / name, dict[str, Any]()
        for file in ("zarr.json", ".zarray"):
            try:
                said = read_json(folder / file, LARGEST, root=self._path)
            except FileNotFoundError:
                continue
            except NotADirectoryError:
                continue
            if file == "zarr.json" and said.get("node_type") != "array":
                continue
            about = said
            if file == ".zarray":
                try:
                    about["attributes"] = read_json(folder / ".zattrs", LARGEST, root=self._path)
                except FileNotFoundError:
                    about["attributes"] = {}
            break
        shape = about.get("shape", [])
        if about and not (isinstance(shape, list) and all(type(n) is int and n >= 0 for n in shape)):
            raise OrnsteinError(f"{folder} has metadata of shape {brief(shape)}; make it anew.")
        self._arrays[name] = about
        return about

    @staticmethod
    def _names(about: Mapping[str, Any]) -> tuple[str, ...]:
        names = about.get("dimension_names") or about.get("attributes", {}).get(NAMES) or []
        whole = isinstance(names, list) and all(isinstance(name, str) and name for name in names)
        return tuple(names) if whole and len(set(names)) == len(names) == len(about["shape"]) else ()

    @staticmethod
    def _dtype(about: Mapping[str, Any]) -> np.dtype[Any]:
        """Of numbers; of anything else that of objects."""
        said = about.get("dtype", about.get("data_type"))
        try:
            dtype = np.dtype(said) if isinstance(said, str) else np.dtype(object)
        except (TypeError, ValueError):
            dtype = np.dtype(object)
        return dtype if dtype.kind in "biuf" else np.dtype(object)

    def _must_be_plain(self, name: str, about: Mapping[str, Any]) -> None:
        where = f"{brief(name)} in {self._path}" if name else str(self._path)
        if self._dtype(about).kind not in "biuf":
            said = brief(about.get("dtype", about.get("data_type")))
            raise UsageError(f"{where} has type {said}; items must be whole or floating numbers.")
        strange = sorted(used for used in _codecs(about) if used.removeprefix("numcodecs.") not in CODECS)
        if strange:
            raise UsageError(
                f"{where} is packed by {brief(strange[0])}, which is not known to be harmless; save it anew by zarr"
            )
        for here, folders, files in os.walk(self._path / name):
            linked = next((each for each in (*folders, *files) if os.path.islink(os.path.join(here, each))), None)
            if linked is not None:
                raise UsageError(
                    f"{where} holds the link {brief(linked)}, which is not followed; put the file itself there"
                )

    def about(self, name: str) -> About:
        about = self._metadata(name)
        if ".." in Path(name).parts or not about:
            names = ", ".join(map(brief, self.names()[:8])) or "no array of numbers"
            raise UsageError(f"{self._path} has no variable {brief(name)}; it holds {names}")
        self._must_be_plain(name, about)
        attributes = {key: value for key, value in about.get("attributes", {}).items() if key != NAMES}
        if isinstance(attributes.get("_FillValue"), str):  # as xarray writes it in version 3
            try:
                packed = b64decode(attributes["_FillValue"], validate=True)
                attributes["_FillValue"] = np.frombuffer(
                    packed, np.float64 if len(packed) == 8 else self._dtype(about)
                )[0].item()
            except (ValueError, IndexError):
                del attributes["_FillValue"]
        fill = about.get("fill_value")
        if (
            isinstance(fill, (int, float))
            and "missing_value" not in attributes
            and _is_missing(fill, about, attributes)
        ):
            attributes.setdefault("_FillValue", fill)
        dtype = self._dtype(about)
        chunk = math.prod(_chunk(about)) * dtype.itemsize
        return About(tuple(about["shape"]), dtype, self._names(about), attributes, chunk)

    def read(self, name: str, start: int, stop: int) -> NDArray[Any]:
        return np.asarray(self._array(name)[start:stop])

    def _array(self, name: str) -> Any:
        zarr = extras.library("zarr", "reading Zarr folders")
        if "opened" not in self.__dict__ or self.__dict__["opened"][0] != name:
            self.__dict__["opened"] = name, zarr.open_array(str(self._path / name), mode="r")
        return self.__dict__["opened"][1]

    def coordinate(self, name: str, dimension: str) -> tuple[NDArray[Any], Mapping[str, Any]] | None:
        place = "/".join((*name.split("/")[:-1], dimension))
        about = self._metadata(place) if name else {}
        if not about or len(about["shape"]) != 1 or about["shape"][0] > 1 << 20 or self._dtype(about).kind not in "iuf":
            return None
        axis = self.about(place)
        return self.read(place, 0, axis.shape[0]), axis.attributes or {}


def _chunk(about: Mapping[str, Any]) -> list[int]:
    """The sides of a chunk; none where the metadata say none, which zarr refuses."""
    grid = about.get("chunk_grid") or {}
    inner = grid.get("configuration") if isinstance(grid, dict) else None
    sides = about.get("chunks") or (inner.get("chunk_shape") if isinstance(inner, dict) else None) or []
    return sides if isinstance(sides, list) and all(type(side) is int and side >= 0 for side in sides) else []


def _is_missing(fill: float, about: Mapping[str, Any], attributes: Mapping[str, Any]) -> bool:
    """Whether what an array holds where nothing was written stands for missing numbers: any but 0, which is the default; in
    version 2 that too, where numbers are packed, as xarray has it."""
    packs = "scale_factor" in attributes or "add_offset" in attributes
    return not isinstance(fill, bool) and (fill != 0 or (packs and about.get("zarr_format") == 2))


def _codecs(about: Mapping[str, Any]) -> Iterator[str]:
    """The names of all that unpacks an array, within shards too."""
    chain = about.get("codecs") or []
    if "codecs" not in about:
        chain = [about.get("compressor"), *(about.get("filters") or [])]
    for codec in chain:
        if isinstance(codec, dict):
            yield str(codec.get("name", codec.get("id")))
            inner = codec.get("configuration") or {}
            if isinstance(inner, dict):
                yield from _codecs(
                    {"codecs": [*(inner.get("codecs") or []), *(inner.get("index_codecs") or [])] or [None]}
                )
        elif codec is not None:
            yield str(codec)


@dataclass(frozen=True)
class ZarrForm(VariableForm):
    """A Zarr folder of one array, with its attributes, the names of its axes and their coordinates."""

    name = "zarr"
    endings = (".zarr",)
    library = "zarr"

    @contextmanager
    def new(self, output: Any, count: int, spec: Any) -> Iterator[Append]:
        from ornstein.files.atomic import new_folder

        self.check()
        output.check()
        done = 0
        with new_folder(output.path, replace=False) as folder, self.writing(folder, (count, *spec.item_shape)) as write:

            def append(items: NDArray[Any]) -> None:
                nonlocal done
                write(done, self.pack(items))
                done += len(items)

            yield append

    @contextmanager
    def writing(self, file: Path, shape: tuple[int, ...]) -> Iterator[Any]:
        zarr = extras.library("zarr", "writing Zarr folders")
        each = max(1, (4 << 20) // max(1, int(np.prod(shape[1:])) * self.stored.itemsize))
        about = {key: value for key, (_, value) in self.attributes.items()}
        about = {"chunks": (min(each, shape[0]), *shape[1:]), "attributes": about}
        names = {"dimension_names": list(self.dimensions)} if self.dimensions else {}
        if not self.variable:
            array = zarr.create_array(str(file), shape=shape, dtype=self.stored, **about, **names)
        else:
            root = zarr.open_group(str(file), mode="w")
            array = root.create_array(self.variable, shape=shape, dtype=self.stored, **about, **names)
            group = "/".join(self.variable.split("/")[:-1])
            for (name, values, _), said in zip(
                self.axes(shape), map(self.coordinates.get, self.dimensions), strict=True
            ):
                if values is not None and said is not None:
                    plain = {key: value for key, (_, value) in said[2].items()}
                    place = f"{group}/{name}" if group else name
                    axis = root.create_array(
                        place, shape=values.shape, dtype=values.dtype, attributes=plain, dimension_names=[name]
                    )
                    axis[:] = values

        def write(start: int, stored: NDArray[Any]) -> None:
            array[start : start + len(stored)] = stored

        yield write
