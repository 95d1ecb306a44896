"""Writing results: a grid to look at, a folder of files, or one array; whole at once, or batch by batch as they come."""

from __future__ import annotations

import math
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ornstein.data.layout import to_model_order
from ornstein.data.origins import item_form_of
from ornstein.data.spec import FULL_RANGE, DataSpec
from ornstein.errors import UsageError
from ornstein.files.output import KEYWORD, Output, OutputFolder, digest, must_have_room

GAP = 2  # pixels between the cells of a grid
CELL = 48  # a grid of smaller images is enlarged by a whole number until its cells have this side
IMAGES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
ANIMATED = ".gif"
SIDES = {
    ".jpg": 65_500,
    ".jpeg": 65_500,
    ".webp": 16_383,
    ANIMATED: 65_535,
}  # the most pixels of a side that a format has
MOST_PIXELS = 1 << 28  # of a grid: about 1 GB while it is made
DESCRIPTION = 0x010E  # ImageDescription in TIFF and EXIF
PNG_COLOUR = {1: 0, 3: 2, 4: 6}  # channels to the colour type of the PNG specification, section 11.2.1


def grid_image(
    arrays: NDArray[Any], columns: int | None = None, *, spec: DataSpec | None = None, zoom: int | None = None
) -> Image.Image:
    """Items of `spec` side by side in rows, on white; without one, images `(N, H, W, C)`.

    1, 3 or 4 channels are shown as grey, colour and colour with alpha; of others the first three (of two, the first). What other
    items look like, their kind says (`ornstein.data.kinds`). The range of `spec`, else of the type, else (floating numbers) that
    of the numbers, goes from black to white.
    `columns` is by default the square root of N, `zoom` whatever makes small images visible.

    Raises `UsageError` when these are no images.
    """
    if spec is not None:
        visible = spec.cells(arrays)
    else:
        _must_be_images(arrays)
        channels = arrays.shape[-1]
        visible = _visible(arrays if channels in (1, 3, 4) else arrays[..., : 1 if channels == 2 else 3], None)
    count, height, width, _ = visible.shape
    zoom, columns, rows = _layout(count, height, width, columns, zoom)
    visible = visible.repeat(zoom, axis=1).repeat(zoom, axis=2)
    high, wide = height * zoom + GAP, width * zoom + GAP
    sheet = np.full((rows * columns, high, wide, visible.shape[-1]), 255, np.uint8)
    sheet[:count, : high - GAP, : wide - GAP] = visible
    sheet = sheet.reshape(rows, columns, high, wide, -1).swapaxes(1, 2).reshape(rows * high, columns * wide, -1)
    sheet = sheet[: rows * high - GAP, : columns * wide - GAP]
    return Image.fromarray(np.ascontiguousarray(sheet[..., 0] if sheet.shape[-1] == 1 else sheet))


def save_images(
    arrays: NDArray[Any],
    path: str | Path,
    *,
    spec: DataSpec | None = None,
    columns: int | None = None,
    force: bool = False,
) -> None:
    """Writes samples, of `spec` or images `(N, H, W, C)` or vectors `(N, D)`, each file whole or not at all, by the ending of
    `path`:

    - `.png` (or .jpg, .webp, …): one grid;
    - `.npz`: one array `samples`, in its own type and range;
    - no ending: a folder with a file for each: PNG of 8 or 16 bits where that holds the numbers exactly (a range of
      `spec` that is declared and narrower than its type is stretched to be visible), else .npy.

    What is there already is replaced only where it was made from the same arrays, or by `force`; of a folder, the files of the
    same names. Raises `UsageError` for it otherwise, for another ending, vectors as images, or a grid that is too large;
    `OrnsteinError` when the disk refuses.
    """
    path = Path(path)
    ending = path.suffix.lower()
    recipe: dict[str, Any] = {"samples": _digest(arrays), "shape": list(arrays.shape), "columns": columns}
    recipe |= {} if spec is None else {"low": spec.low, "high": spec.high}
    instead = "give another path, or force=True to replace it"
    if path.is_dir() or not ending:
        folder = SampleFolder(path, recipe, spec, force, instead=instead)
        with folder.filling():
            for numbers in folder.missing(range(len(arrays))):
                folder.write(numbers.start, arrays[numbers.start : numbers.stop])
        return
    if ending not in (*IMAGES, ".npz"):
        raise UsageError(f"{path} has an ending that is not known; use .png for a grid, .npz, or none for a folder.")
    output = Output(path, digest(recipe), force, instead)
    if ending == ".npz":
        with new_npz(output, arrays.shape, arrays.dtype) as write:
            write(arrays)
    else:
        save_grid(grid_image(arrays, columns, spec=spec), output)


def save_grid(grid: Image.Image, output: Output) -> None:
    """Writes an image by the ending of its place, with the stamp of its recipe where the format has a place for a text.

    Raises what `Output.write` raises.
    """
    ending = output.path.suffix.lower()
    if ending in (".jpg", ".jpeg"):
        grid = grid.convert("RGB")
    with output.write() as file:  # whose name is that of a link's target
        grid.save(file, Image.registered_extensions()[ending], **STAMPED.get(ending, _unstamped)(output.stamp))


def save_animation(frames: Sequence[Image.Image], output: Output, milliseconds: int = 100, rest: int = 1000) -> None:
    """Writes images of one size as a GIF that repeats for ever, its last frame shown for `rest` longer than the others.

    A GIF has 256 colours a frame; transparency is put on white. Raises what `Output.write` raises.
    """
    flat = [_on_white(frame) for frame in frames]
    durations = [*[milliseconds] * (len(flat) - 1), milliseconds + rest]
    with output.write() as file:
        about = {"duration": durations, "loop": 0, "comment": output.stamp.encode(), "append_images": flat[1:]}
        flat[0].save(file, "GIF", save_all=True, optimize=False, **about)


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode != "RGBA":
        return image
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image).convert("RGB")


def must_be_an_animation(path: Path, frames: int, count: int, spec: DataSpec, columns: int | None = None) -> None:
    """Raises UsageError where so many frames of so many images are too many for a GIF: to be known before they are made."""
    must_be_a_grid(path, count, spec, columns)
    height, width = spec.traits.cell(spec.shape)
    zoom, columns, rows = _layout(count, height, width, columns, None)
    if frames * rows * (height * zoom + GAP) * columns * (width * zoom + GAP) > MOST_PIXELS:
        raise UsageError(
            f"{path}: {frames:,} frames of {count:,} {spec.traits.plural} are too large for an animation; ask for fewer"
        )


def _in_png(stamp: str) -> dict[str, Any]:
    about = PngInfo()
    about.add_text(KEYWORD, stamp)
    return {"pnginfo": about}


def _in_exif(stamp: str) -> dict[str, Any]:
    about = Image.Exif()
    about[DESCRIPTION] = stamp
    return {"exif": about}


def _unstamped(stamp: str) -> dict[str, Any]:
    return {}


STAMPED: dict[str, Callable[[str], dict[str, Any]]] = {
    ".png": _in_png,
    ".jpg": _in_exif,
    ".jpeg": _in_exif,
    ".webp": _in_exif,
    ".tif": lambda stamp: {"description": stamp},
    ".tiff": lambda stamp: {"description": stamp},
}


def must_be_a_grid(path: Path, count: int, spec: DataSpec, columns: int | None = None) -> None:
    """Raises UsageError where so many images are too many for one image: to be known before they are made."""
    height, width = spec.traits.cell(spec.shape)
    zoom, columns, rows = _layout(count, height, width, columns, None)
    sides = rows * (height * zoom + GAP), columns * (width * zoom + GAP)
    if math.prod(sides) > MOST_PIXELS or max(sides) > SIDES.get(path.suffix.lower(), MOST_PIXELS):
        raise UsageError(
            f"{path}: an image of {count:,} {spec.traits.plural} of {width}x{height} would have {sides[1]:,}x{sides[0]:,} "
            "pixels, which is too large; give a folder or a .npz file"
        )


def first_not_finite(arrays: NDArray[Any]) -> int | None:
    """The place of the first sample that holds NaN or an infinite number; None where all are finite."""
    if arrays.dtype.kind != "f":
        return None
    rows = np.flatnonzero(~np.isfinite(arrays).reshape(len(arrays), -1).all(axis=1))
    return int(rows[0]) if len(rows) else None


def _layout(count: int, height: int, width: int, columns: int | None, zoom: int | None) -> tuple[int, int, int]:
    """How much images are enlarged, and the columns and rows that they are laid in."""
    zoom = max(1, math.ceil(CELL / max(height, width))) if zoom is None else zoom
    columns = min(count, math.isqrt(count - 1) + 1 if columns is None else columns)
    return zoom, columns, -(-count // columns)


def _digest(arrays: NDArray[Any]) -> str:
    whole = sha256(arrays.dtype.str.encode())
    for start in range(0, len(arrays), 256):
        whole.update(np.ascontiguousarray(arrays[start : start + 256]).data.cast("B") if arrays.size else b"")
    return whole.hexdigest()


@contextmanager
def new_npz(output: Output, shape: Sequence[int], dtype: np.dtype[Any]) -> Iterator[Callable[[NDArray[Any]], None]]:
    """Within, a function that appends a batch to the array `samples` of a .npz, which never is in memory as a whole.

    `shape` is that of all batches together. The file is there when the block ends well, and not at all otherwise.
    Raises `ValueError` when the batches were fewer or more, `OrnsteinError` when the disk refuses or has no room for them, and
    what `Output.write` raises.
    """
    left = shape[0]
    must_have_room(output.path, math.prod(shape) * np.dtype(dtype).itemsize)

    def write(batch: NDArray[Any]) -> None:
        nonlocal left
        left -= len(batch)
        member.write(np.ascontiguousarray(batch, dtype).data.cast("B") if batch.size else b"")

    about = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": tuple(shape)}
    with output.write() as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.comment = output.stamp.encode()
            with archive.open("samples.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array_header_1_0(member, about)
                yield write
        if left:
            raise ValueError(f"{output.path}: an array of {shape[0]} samples was given {shape[0] - left}")


class SampleFolder:
    """A folder with a file for each sample, named by its number and filled batch by batch: see `OutputFolder`."""

    def __init__(
        self,
        path: Path,
        recipe: Mapping[str, Any],
        spec: DataSpec | None = None,
        force: bool = False,
        never: str | None = None,
        instead: str = "give a new folder, or --force to replace files of the same names",
    ) -> None:
        self._folder, self._spec = OutputFolder(path, recipe, force, never, instead), spec
        self._folder.check()

    def filling(self) -> AbstractContextManager[None]:
        """Within, this process alone fills the folder: see `OutputFolder.filling`."""
        return self._folder.filling()

    def missing(self, numbers: range) -> list[range]:
        """The numbers that have no file yet, as ranges."""
        return self._folder.missing(numbers)

    def write(self, first: int, arrays: NDArray[Any]) -> None:
        """Samples of the numbers from `first` on. Raises `OrnsteinError` when the disk refuses."""
        with self._folder.write() as folder:
            _write_items(arrays, folder, first, self._spec)


def _write_items(arrays: NDArray[Any], folder: Path, first: int, spec: DataSpec | None) -> None:
    """A file for each, numbered from `first`: of the kind that the data came from, else PNG where that holds them, else .npy."""
    if (form := item_form_of(spec)) is not None and spec is not None:
        for i, item in enumerate(arrays, first):
            form.write(folder / f"{i:05d}{form.suffix}", item, spec)
        return
    if spec is not None and spec.traits.pixels and arrays.dtype.name in FULL_RANGE:
        arrays = to_model_order(arrays, spec.layout).transpose(0, 2, 3, 1)
    exact = arrays.ndim == 4 and arrays.shape[-1] in PNG_COLOUR and arrays.dtype.name in FULL_RANGE
    if exact and not (arrays.dtype == np.uint16 and (spec is None or spec.mean or spec.high == 65535)):
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


def _visible(arrays: NDArray[Any], spec: DataSpec | None) -> NDArray[np.uint8]:
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
