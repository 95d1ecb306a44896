"""Writing results: a grid to look at, a folder of files, or one array; whole at once, or batch by batch as they come."""

from __future__ import annotations

import json
import math
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ornstein.data.spec import FULL_RANGE, Spec
from ornstein.errors import UsageError
from ornstein.files.atomic import new_file, new_files, new_folder

GAP = 2  # pixels between the cells of a grid
CELL = 48  # a grid of smaller images is enlarged by a whole number until its cells have this side
RECIPE = "samples.json"  # in a folder that is filled batch by batch: how its samples are made
OURS = re.compile(r"\d{5,}\.(png|npy)|samples\.json")  # the files of a folder of samples
PNG_COLOUR = {1: 0, 3: 2, 4: 6}  # channels to the colour type of the PNG specification, section 11.2.1


def grid_image(
    arrays: NDArray[Any], columns: int | None = None, *, spec: Spec | None = None, zoom: int | None = None
) -> Image.Image:
    """Images `(N, H, W, C)` side by side in rows, on white.

    1, 3 or 4 channels are shown as grey, colour and colour with alpha; of others the first three (of two, the first).
    The range of `spec`, else of the type, else (floating numbers) that found, goes from black to white.
    `columns` is by default the square root of N, `zoom` whatever makes small images visible.

    Raises `UsageError` when these are no images.
    """
    _must_be_images(arrays)
    count, height, width, channels = arrays.shape
    shown = _visible(arrays if channels in (1, 3, 4) else arrays[..., : 1 if channels == 2 else 3], spec)
    zoom = max(1, math.ceil(CELL / max(height, width))) if zoom is None else zoom
    shown = shown.repeat(zoom, axis=1).repeat(zoom, axis=2)
    columns = min(count, math.ceil(math.sqrt(count)) if columns is None else columns)
    rows = math.ceil(count / columns)
    high, wide = height * zoom + GAP, width * zoom + GAP
    sheet = np.full((rows * columns, high, wide, shown.shape[-1]), 255, np.uint8)
    sheet[:count, : high - GAP, : wide - GAP] = shown
    sheet = sheet.reshape(rows, columns, high, wide, -1).swapaxes(1, 2).reshape(rows * high, columns * wide, -1)
    sheet = sheet[: rows * high - GAP, : columns * wide - GAP]
    return Image.fromarray(np.ascontiguousarray(sheet[..., 0] if sheet.shape[-1] == 1 else sheet))


def save_images(
    arrays: NDArray[Any], path: str | Path, *, spec: Spec | None = None, columns: int | None = None
) -> None:
    """Writes samples, images `(N, H, W, C)` or vectors `(N, D)`, whole or not at all, by the ending of `path`:

    - `.png` (or .jpg, .webp, …): one grid;
    - `.npz`: one array `samples`, in its own type and range;
    - no ending: a folder with a file for each: PNG of 8 or 16 bits where that holds the numbers exactly (a range of
      `spec` narrower than its type is stretched to be visible), else .npy.

    Raises `UsageError` for another ending, vectors as pictures, or a folder that holds other files;
    `OrnsteinError` when the disk refuses.
    """
    path = Path(path)
    ending = path.suffix.lower()
    if path.is_dir() or not ending:
        _save_folder(arrays, path, spec)
    elif ending == ".npz":
        with new_npz(path, arrays.shape, arrays.dtype) as write:
            write(arrays)
    elif ending in (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"):
        grid = grid_image(arrays, columns, spec=spec)
        with new_file(path) as file:
            (grid.convert("RGB") if ending in (".jpg", ".jpeg") else grid).save(file)
    else:
        raise UsageError(f"{path} has an ending that is not known; use .png for a grid, .npz, or none for a folder.")


@contextmanager
def new_npz(path: Path, shape: Sequence[int], dtype: np.dtype[Any]) -> Iterator[Callable[[NDArray[Any]], None]]:
    """Within, a function that appends a batch to the array `samples` of a .npz, which never is in memory as a whole.

    `shape` is that of all batches together. The file is there when the block ends well, and not at all otherwise.
    Raises `ValueError` when the batches were fewer or more, `OrnsteinError` when the disk refuses.
    """
    left = shape[0]

    def write(batch: NDArray[Any]) -> None:
        nonlocal left
        left -= len(batch)
        member.write(np.ascontiguousarray(batch, dtype).data.cast("B") if batch.size else b"")

    about = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": tuple(shape)}
    with new_file(path) as file:
        with (
            zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive,
            archive.open("samples.npy", "w", force_zip64=True) as member,
        ):
            np.lib.format.write_array_header_1_0(member, about)
            yield write
        if left:
            raise ValueError(f"{path}: an array of {shape[0]} samples was given {shape[0] - left}")


class SampleFolder:
    """A folder with a file for each sample, named by its number and filled batch by batch; each file is whole.

    `recipe` says how the samples are made (JSON values) and is kept beside them: a folder of the same recipe is gone on with.
    Raises `UsageError` for a folder that holds other files, or samples of another recipe.
    """

    def __init__(self, path: Path, recipe: Mapping[str, Any], spec: Spec | None = None) -> None:
        self.path, self._recipe, self._spec = path, json.dumps(recipe, indent=1) + "\n", spec
        _must_be_ours(path)
        self._numbers = {int(file.stem) for file in path.iterdir() if file.stem.isdigit()} if path.exists() else set()
        if self._numbers:
            changed = _changed(path / RECIPE, json.loads(self._recipe))
            if changed:
                raise UsageError(f"{path} holds samples that were made otherwise ({changed}); give a new folder.")

    def missing(self, numbers: range) -> list[range]:
        """Those of the numbers that have no file yet, in runs."""
        runs: list[range] = []
        for number in numbers:
            if number in self._numbers:
                continue
            if runs and runs[-1].stop == number:
                runs[-1] = range(runs[-1].start, number + 1)
            else:
                runs.append(range(number, number + 1))
        return runs

    def write(self, first: int, arrays: NDArray[Any]) -> None:
        """Samples of the numbers from `first` on. Raises `OrnsteinError` when the disk refuses."""
        with new_files(self.path) as folder:
            _write_items(arrays, folder, first, self._spec)
            (folder / RECIPE).write_text(self._recipe)
        self._numbers.update(range(first, first + len(arrays)))


def _changed(file: Path, recipe: Mapping[str, Any]) -> str:
    """The names of what differs between a recipe and the one in a file."""
    try:
        found = json.loads(file.read_text())
        return ", ".join(sorted(key for key in found.keys() | recipe.keys() if found.get(key) != recipe.get(key)))
    except (OSError, ValueError, AttributeError):
        return f"there is no {file.name}"


def _must_be_ours(path: Path) -> None:
    if path.exists() and not all(OURS.fullmatch(file.name) for file in path.iterdir()):
        raise UsageError(f"{path} already holds other files; give a new folder.")


def _save_folder(arrays: NDArray[Any], path: Path, spec: Spec | None) -> None:
    _must_be_ours(path)
    with new_folder(path) as folder:
        _write_items(arrays, folder, 0, spec)


def _write_items(arrays: NDArray[Any], folder: Path, first: int, spec: Spec | None) -> None:
    """A file for each, numbered from `first`: PNG where that holds the numbers, else .npy."""
    exact = arrays.ndim == 4 and arrays.shape[-1] in PNG_COLOUR and arrays.dtype.name in FULL_RANGE
    if exact and not (arrays.dtype == np.uint16 and (spec is None or spec.high == 65535)):
        arrays = _visible(arrays, spec)
    for i, array in enumerate(arrays, first):
        if exact:
            (folder / f"{i:05d}.png").write_bytes(png(array))
        else:
            np.save(folder / f"{i:05d}.npy", array)


def png(image: NDArray[Any]) -> bytes:
    """A PNG file of an uint8 or uint16 image `(H, W, C)` with 1, 3 or 4 channels, all bits kept.

    Pillow writes no 16-bit colour. Layout: the PNG specification (W3C), sections 5 and 11.
    """
    height, width, channels = image.shape
    rows = np.ascontiguousarray(image, image.dtype.newbyteorder(">")).view(np.uint8).reshape(height, -1)
    unfiltered = np.pad(rows, ((0, 0), (1, 0)))  # each row begins with its filter, 0: none
    about = struct.pack(">IIBBBBB", width, height, 8 * image.itemsize, PNG_COLOUR[channels], 0, 0, 0)
    chunks = (b"IHDR", about), (b"IDAT", zlib.compress(unfiltered.tobytes())), (b"IEND", b"")
    framed = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


def _visible(arrays: NDArray[Any], spec: Spec | None) -> NDArray[np.uint8]:
    """To 0..255."""
    if spec is not None:
        low, high = spec.low, spec.high
    elif arrays.dtype.name in FULL_RANGE:
        low, high = FULL_RANGE[arrays.dtype.name]
    else:
        low, high = float(np.nanmin(arrays)), float(np.nanmax(arrays))
    if arrays.dtype == np.uint8 and (low, high) == (0, 255):
        return arrays
    scaled = (arrays.astype(np.float64) - low) * (255.0 / (high - low or 1.0))
    return np.nan_to_num(np.clip(np.rint(scaled), 0, 255)).astype(np.uint8)


def _must_be_images(arrays: NDArray[Any]) -> None:
    if arrays.ndim != 4 or 0 in arrays.shape:
        raise UsageError(f"Samples of shape {arrays.shape} are no images (N, H, W, C); write them to a .npz file.")
