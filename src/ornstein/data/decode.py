"""One image file to one array. Whatever is wrong with a file is an `Unreadable` with the reason."""

from __future__ import annotations

from contextlib import nullcontext
from functools import cache
from threading import Lock
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps

from ornstein.data import bit_depth, pixels
from ornstein.data.pixels import Size

MAX_PIXELS = 80_000_000  # below Pillow's own limit; more is refused before anything is decoded
LARGE = 8_000_000  # pixels; of larger images one is decoded at a time, which bounds the memory that all take
DEPTHS = ("uint8", "uint16", "float32")  # from narrow to wide
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "AVIF", "JPEG2000")  # none that runs a program
SUFFIXES = frozenset(
    (
        *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".gif", ".bmp", ".tif", ".tiff"),
        *(".webp", ".ppm", ".pgm", ".pbm", ".pnm", ".avif", ".jp2", ".j2k"),
    )
)
NO_MEMORY = "it takes more memory than there is"
ORIENTATION = 0x0112  # EXIF tag


class Unreadable(Exception):
    """Why a file is not an image that can be used."""


class ImageHeader(NamedTuple):
    """Properties of an image before its pixels are decoded: size as seen, colours (1 or 3), and type.

    `cut`: only 8 of more bits of each number can be read. `several`: there are more images behind the first.
    """

    size: Size
    colours: int
    dtype: str
    cut: bool = False
    several: bool = False


class Format(NamedTuple):
    """The conversion of every image of a data set."""

    size: Size
    channels: int
    dtype: str
    pad: bool


def header(file: IO[bytes]) -> ImageHeader:
    """Reads the header only. Raises `Unreadable`."""
    with _opened(file) as image:
        width, height = image.size
        if image.format != "TIFF" and _orientation(image) >= 5:  # Pillow turns TIFF files itself
            width, height = height, width
        grey = image.mode in ("1", "L", "LA", "La", "I", "F") or image.mode.startswith("I;16")
        cut = bit_depth.is_cut(image, file)
        return ImageHeader((height, width), 1 if grey else 3, _dtype(image), cut, _several(image))


def decode(file: IO[bytes], to: Format) -> NDArray[Any]:
    """The first frame, upright, as `(H, W, C)` in the requested type, size and channels. Raises `Unreadable`.

    Transparency is composited on white, unless 4 channels are requested.
    """
    image = _opened(file)
    with _one_large if image.width * image.height > LARGE else nullcontext():
        return _decoded(image, file, to)  # all that it held of one large image is free before the next is begun


_one_large = Lock()


def _decoded(image: ImageFile.ImageFile, file: IO[bytes], to: Format) -> NDArray[Any]:
    with image:
        # A JPEG much larger than needed is decoded at a half, a quarter or an eighth: faster, and a fine box filter.
        side = 2 * max(to.size)
        if min(image.size) > 2 * side:
            image.draft(None, (side, side))
        try:
            array, alpha = _pixels(image, file)
        except MemoryError:
            raise Unreadable(NO_MEMORY) from None
        except Exception as error:  # a damaged file can raise nearly anything from its decoder
            raise Unreadable(str(error) or type(error).__name__) from error
    image.close()  # leaving `with` has closed its file; this frees its pixels, before others are made of the array
    return _made(_as_depth(array, to.dtype), alpha, to)


def _made(array: NDArray[Any], alpha: bool, to: Format) -> NDArray[Any]:
    """Pixels in the requested size and channels."""
    if alpha and to.channels == 4:
        seen = pixels.fit(pixels.hide_white(array), to.size, pad=to.pad, alpha=True)
        return seen if seen.shape[-1] == 4 else seen[..., [0, 0, 0, 1]]
    opaque = pixels.over_white(array) if alpha else array
    return pixels.with_channels(pixels.fit(opaque, to.size, pad=to.pad, alpha=False), to.channels, "The image")


def _opened(file: IO[bytes]) -> ImageFile.ImageFile:
    try:
        image = Image.open(file, formats=_formats())
        garbled = bit_depth.is_garbled(image, file)
    except Image.DecompressionBombError as error:
        raise Unreadable(f"more than {MAX_PIXELS // 10**6} megapixels") from error
    except Image.UnidentifiedImageError as error:
        raise Unreadable("not an image") from error
    except Exception as error:  # as above
        raise Unreadable(str(error) or type(error).__name__) from error
    if image.width * image.height > MAX_PIXELS:
        raise Unreadable(f"more than {MAX_PIXELS // 10**6} megapixels")
    if garbled:
        raise Unreadable("16-bit colour in planes, which Pillow cannot read")
    return image


@cache
def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _orientation(image: Image.Image) -> int:
    """Without `image.getexif()`, which decodes a whole PNG to look behind its pixels."""
    exif = Image.Exif()
    try:
        exif.load(image.info.get("exif") or b"")
        return int(exif.get(ORIENTATION, 1))
    except Exception:  # a broken tag turns nothing
        return 1


def _dtype(image: ImageFile.ImageFile) -> str:
    if image.mode.startswith("I"):
        return "uint16"
    if image.mode == "F":
        return "float32"
    return "uint16" if bit_depth.is_wide(image) else "uint8"


def _several(image: ImageFile.ImageFile) -> bool:
    """Frames or pages; what cameras put behind a JPEG is none."""
    try:
        return image.format != "MPO" and bool(getattr(image, "is_animated", False))
    except Exception:  # what follows the first image is damaged
        return True


def _pixels(opened: ImageFile.ImageFile, file: IO[bytes]) -> tuple[NDArray[Any], bool]:
    """Upright pixels `(H, W, C)` in own type, and whether the last channel is alpha."""
    if bit_depth.is_wide(opened):
        return _wide_pixels(opened, file)
    image: Image.Image = _upright(opened)
    if image.mode.startswith("I"):
        array = np.asarray(image)[..., None]
        if array.min() < 0 or array.max() > 65535:
            raise Unreadable("whole numbers outside 0..65535")
        return array.astype(np.uint16), False
    if image.mode == "F":
        array = np.asarray(image)[..., None]
        if not np.isfinite(array).all():
            raise Unreadable("NaN or infinite numbers")
        return array, False
    transparent = image.has_transparency_data
    grey = image.mode in ("1", "L", "LA", "La")
    mode = ("LA" if grey else "RGBA") if transparent else ("L" if grey else "RGB")
    array = np.asarray(image if image.mode == mode else image.convert(mode))
    return array.reshape(*array.shape[:2], len(mode)), transparent


def _wide_pixels(image: ImageFile.ImageFile, file: IO[bytes]) -> tuple[NDArray[Any], bool]:
    """16-bit colour, from the high bytes and the low ones."""
    array = np.asarray(_upright(image)).astype(np.uint16)
    array <<= 8
    file.seek(0)
    with _opened(file) as again:
        bit_depth.take_low(again)
        array |= np.asarray(_upright(again))
    return array, image.mode == "RGBA"


def _upright(image: ImageFile.ImageFile) -> ImageFile.ImageFile:
    ImageOps.exif_transpose(image, in_place=True)
    return image


def _as_depth(array: NDArray[Any], dtype: str) -> NDArray[Any]:
    """To another type; white stays white. Raises `Unreadable` for floating numbers outside [0, 1] that are to become whole."""
    if array.dtype == dtype:
        return array
    if array.dtype.kind == "f":
        if array.min() < 0 or array.max() > 1:
            raise Unreadable("floating numbers outside 0..1, where most images hold whole numbers")
        return np.rint(array * pixels.opaque(np.dtype(dtype))).astype(dtype)
    if dtype == "uint8":
        return ((array.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)
    if dtype == "float32":
        return (array / pixels.opaque(array.dtype)).astype(np.float32)
    return array.astype(np.uint16) * np.uint16(257)
