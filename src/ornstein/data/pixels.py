"""Arithmetic on one image `(H, W, C)` in its own type: channels, transparency, size."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ornstein.errors import UsageError

Size = tuple[int, int]  # height, width
WIDER = {"uint8": "uint16", "uint16": "uint32"}  # where a product and its rounding just fit
STRIP = 1 << 22  # numbers worked on at once, which bounds the memory that large images take


def opaque(dtype: np.dtype[Any]) -> float:
    """The number that means white, and fully opaque, in this type."""
    return float(np.iinfo(dtype).max) if dtype.kind in "ui" else 1.0


def over_white(image: NDArray[Any]) -> NDArray[Any]:
    """Colour and alpha, `(H, W, C+1)`, composited on white: `a·v + (1 − a)·white`, `(H, W, C)`."""
    made = np.empty((*image.shape[:2], image.shape[2] - 1), image.dtype)
    rows = max(1, STRIP // image[0].size)
    for top in range(0, len(image), rows):
        made[top : top + rows] = _over_white(image[top : top + rows])
    return made


def _over_white(image: NDArray[Any]) -> NDArray[Any]:
    colour, alpha = image[..., :-1], image[..., -1:]
    if image.dtype.name not in WIDER:
        full = opaque(image.dtype)
        return as_type(full + alpha * (colour.astype(np.float64) - full) / full, image.dtype)
    wide = np.dtype(WIDER[image.dtype.name]).type
    white = wide(opaque(image.dtype))
    colour, alpha = colour.astype(wide), alpha.astype(wide)
    return ((colour * alpha + white * (white - alpha) + white // wide(2)) // white).astype(image.dtype)


def hide_white(image: NDArray[Any]) -> NDArray[Any]:
    """The same `(H, W, C+1)` image whose fully transparent pixels are white: what cannot be seen is not learned."""
    hidden = image.copy()
    np.copyto(hidden[..., :-1], opaque(image.dtype), where=image[..., -1:] == 0, casting="unsafe")
    return hidden


def with_channels(image: NDArray[Any], channels: int, where: str) -> NDArray[Any]:
    """The image with 1 (grey), 3 (colour) or 4 (colour and alpha) channels; 4 to fewer composites on white.

    Raises `UsageError` for a change that has no meaning, such as 5 channels to 3.
    """
    have = image.shape[-1]
    if have == channels:
        return image
    if have not in (1, 3, 4) or channels not in (1, 3, 4):
        raise UsageError(f"{where} has {have} channels and cannot be given {channels}; 1, 3 and 4 can be changed.")
    if have == 4:
        return with_channels(over_white(image), channels, where)
    if channels == 1:  # luma of ITU-R BT.601, as in Pillow
        return as_type(image.astype(np.float64) @ np.array([[0.299], [0.587], [0.114]]), image.dtype)
    colour = np.repeat(image, 3, axis=-1) if have == 1 else image
    if channels == 3:
        return colour
    return np.concatenate([colour, np.full_like(colour[..., :1], opaque(image.dtype))], axis=-1)


def fit(image: NDArray[Any], size: Size, *, pad: bool, alpha: bool) -> NDArray[Any]:
    """Resized with antialiasing (Lanczos) to `size` and never squashed: the image covers it and is cropped at the
    centre, or with `pad` lies inside it and its border is repeated outwards. `alpha`: the last channel is alpha,
    and colours count by it."""
    height, width = image.shape[:2]
    if (height, width) == size:
        return image
    scales = size[0] / height, size[1] / width
    if pad:
        scale = min(scales)
        inner = max(1, min(size[0], round(height * scale))), max(1, min(size[1], round(width * scale)))
        small = _resize(image, inner, (0.0, 0.0, width, height), alpha)
        top, left = (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2
        rest = (top, size[0] - inner[0] - top), (left, size[1] - inner[1] - left), (0, 0)
        return np.pad(small, rest, mode="edge")
    scale = max(scales)
    box_height, box_width = min(height, size[0] / scale), min(width, size[1] / scale)
    top, left = (height - box_height) / 2, (width - box_width) / 2
    return _resize(image, size, (left, top, left + box_width, top + box_height), alpha)


def _resize(image: NDArray[Any], size: Size, box: tuple[float, float, float, float], alpha: bool) -> NDArray[Any]:
    if image.dtype == np.uint8 and image.shape[-1] in (1, 3):
        whole = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
        # Pillow reduces by whole numbers first, whose blocks of more than 128² pixels it rounds by over half a level
        gap = max(3.0, (box[2] - box[0]) / size[1] / 128, (box[3] - box[1]) / size[0] / 128)
        resized = whole.resize((size[1], size[0]), Image.Resampling.LANCZOS, box, reducing_gap=gap)
        return np.asarray(resized).reshape(*size, image.shape[-1])
    if alpha:
        return _resize_alpha(image, size, box)
    # Lanczos overshoots at edges: nothing may leave the range that the image had.
    return as_type(np.clip(_lanczos(np.moveaxis(image, -1, 0), size, box), image.min(), image.max()), image.dtype)


def _resize_alpha(image: NDArray[Any], size: Size, box: tuple[float, float, float, float]) -> NDArray[Any]:
    """Colours weighted by their alpha, so that hidden ones do not bleed."""
    full = opaque(image.dtype)
    alpha = image[..., -1].astype(np.float32) / np.float32(full)
    weighted = (alpha * image[..., i] for i in range(image.shape[-1] - 1))
    resized = _lanczos(chain(weighted, [image[..., -1]]), size, box)
    seen = resized[..., -1:] > 0.5 * full / 255
    colour = np.where(seen, resized[..., :-1] * full / np.where(seen, resized[..., -1:], full), full)
    values = np.concatenate([colour, np.where(seen, resized[..., -1:], 0)], axis=-1)
    return hide_white(as_type(np.clip(values, 0, full), image.dtype))


def _lanczos(planes: Iterable[NDArray[Any]], size: Size, box: tuple[float, float, float, float]) -> NDArray[np.float64]:
    """Each plane `(H, W)` alone, in 32-bit floats, neither rounded nor clipped."""

    def resized(plane: NDArray[Any]) -> NDArray[Any]:
        image = Image.fromarray(np.ascontiguousarray(plane, np.float32))
        return np.asarray(image.resize((size[1], size[0]), Image.Resampling.LANCZOS, box))

    return np.stack(list(map(resized, planes)), axis=-1).astype(
        np.float64
    )  # `map` lets go of a plane before the next is made


def as_type(values: NDArray[np.float64], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Rounded and clipped into a whole-number type; floating types are only cast."""
    if dtype.kind in "ui":
        limits = np.iinfo(dtype)
        values = np.clip(np.rint(values), limits.min, limits.max)
    elif dtype.kind == "b":
        values = np.rint(values)
    return values.astype(dtype)
