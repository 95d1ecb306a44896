"""How deep the numbers of an image file are, and whether they can all be read.

Pillow keeps one byte of each number of 16-bit colour. It can be asked for either byte, by the order in which it takes them to be
stored, so two readings give both. What it cuts elsewhere is at least reported.
"""

from __future__ import annotations

import re
import sys
from typing import IO, Any

from PIL import ImageFile

WIDE = re.compile(r"(RGBA?);16([BLN])")
OTHER = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}
BITS_PER_SAMPLE, PLANAR = 258, 284  # TIFF tags
LOOKED_AT = 1 << 16  # bytes from the beginning, where a header is


def is_wide(image: ImageFile.ImageFile) -> bool:
    """Whether the file holds 16-bit colour of which both bytes can be had."""
    return bool(image.tile) and WIDE.fullmatch(_order(image.tile[0])) is not None


def is_garbled(image: ImageFile.ImageFile, file: IO[bytes]) -> bool:
    """Whether Pillow would take bytes for what they are not: 16-bit colour in a TIFF file with one plane after the other."""
    return image.format == "TIFF" and image.tag_v2.get(PLANAR, 1) != 1 and _bits(image, file) > 8  # type: ignore[attr-defined]


def take_low(image: ImageFile.ImageFile) -> None:
    """Has the low byte of each number read in place of the high one."""
    image.tile = [tile._replace(args=_swapped(tile[3])) for tile in image.tile]


def is_cut(image: ImageFile.ImageFile, file: IO[bytes]) -> bool:
    """Whether only 8 of more bits will be read."""
    if image.mode.startswith("I") or image.mode == "F" or is_wide(image):
        return False
    return _bits(image, file) > 8


def _bits(image: ImageFile.ImageFile, file: IO[bytes]) -> int:
    """Bits per number in the file, 8 if its format does not say."""
    match image.format:
        case "PNG":
            return 16 if image.tile and ";16" in _order(image.tile[0]) else 8
        case "TIFF":
            return int(max(image.tag_v2.get(BITS_PER_SAMPLE, (8,))))  # type: ignore[attr-defined]
        case "PPM":  # the largest number
            arguments = image.tile[0][3] if image.tile else None
            largest = arguments[-1] if isinstance(arguments, tuple) else 0
            return 16 if isinstance(largest, int) and largest > 255 else 8
        case "JPEG2000":  # ISO/IEC 15444-1, A.5.1: the first component, in the marker at the start of the codestream
            return 1 + (_after(file, b"\xff\x4f\xff\x51", 38, 7) & 127)
        case "AVIF":  # ISO/IEC 23008-12, 6.5.6: the box of bits per channel
            return _after(file, b"pixi", 5, 8)
    return 8


def _after(file: IO[bytes], mark: bytes, offset: int, missing: int) -> int:
    """The byte so far behind the mark in the header."""
    place = file.tell()
    file.seek(0)
    head = file.read(LOOKED_AT)
    file.seek(place)
    at = head.find(mark)
    at += len(mark) + offset
    return head[at] if at >= len(mark) + offset and at < len(head) else missing


def _order(tile: Any) -> str:
    """How the numbers of a tile are stored, in Pillow's words."""
    first = tile[3][0] if isinstance(tile[3], tuple) and tile[3] else tile[3]
    return first if isinstance(first, str) else ""


def _swapped(arguments: Any) -> Any:
    if isinstance(arguments, tuple):
        return (_swapped(arguments[0]), *arguments[1:])
    mode, order = WIDE.fullmatch(arguments).groups()  # type: ignore[union-attr]
    return f"{mode};16{OTHER[order]}"
