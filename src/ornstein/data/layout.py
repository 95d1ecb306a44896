"""Axes of arrays: the names of layouts, the readings of a shape, and conversion to model order and back.

| array | read as |
|---|---|
| (N,) and (N, D) | vectors |
| (N, H, H), and 8-bit (N, H, W) whose sides differ by no more than a factor of 2 | grey images |
| (N, 1, L) and (N, L, 1) | series |
| (N, H, W, C) with C up to 4, or with equal sides and fewer channels | images |
| (N, C, H, W) with C up to 4 and sides beyond 4 | images |
| (N, C, D, H, W) and (N, D, H, W, C) with C up to 4 and sides beyond 4 | volumes |

Everything else has more than one reading, and needs its layout by name. Tensors of torch have channels first where their
layout is not one of those above.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ornstein.data.kinds import LAYOUTS, Kind
from ornstein.errors import UsageError

Like = tuple[str, tuple[int, ...]]
"""The layout and the model shape of items that others may be like."""
FEW = 4  # channels that a small axis may be
LETTERS = {"C": "channels", "D": "depth", "H": "height", "W": "width", "L": "length"}
SENTENCES = {
    "NHWC": "{0}x{1} images with {2} channels",
    "NCHW": "{1}x{2} images with {0} channels",
    "NHW": "{0}x{1} grey images",
    "NCL": "series of length {1} with {0} channels",
    "NLC": "series of length {0} with {1} channels",
    "NL": "series of length {0}",
    "NDHW": "volumes of {0}x{1}x{2}",
    "NCDHW": "volumes of {1}x{2}x{3} with {0} channels",
    "NDHWC": "volumes of {0}x{1}x{2} with {3} channels",
    "ND": "vectors of {0} numbers",
    "N": "single numbers",
}


def layout_of(
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    where: str,
    wanted: str | None = None,
    torch: bool = False,
    like: Like | None = None,
) -> str:
    """The layout of an array (N, ...): the one that is `wanted`, or what its shape can only mean (see the table above).

    `like`: an array that fits these has their layout. `torch`: a tensor, whose channels come first.
    Raises UsageError for a shape with several readings, which names them, for a layout of another number of axes, and for an
    unknown name.
    """
    if wanted is not None:
        return _wanted(shape, where, wanted)
    if like is not None and len(shape) == len(like[0]) and model_shape(shape[1:], like[0]) == like[1]:
        return like[0]
    readings = _READINGS.get(len(shape), lambda *_: ())(shape[1:], dtype, torch)
    if not readings:
        raise UsageError(
            f"{where} has shape {shape}; give (N, D), (N, H, W), (N, H, W, C), (N, C, L) or (N, C, D, H, W)"
        )
    if len(readings) > 1:
        described = [f"{layout} ({SENTENCES[layout].format(*shape[1:])})" for layout in readings]
        raise UsageError(
            f"{where} has shape {shape}, which can be read as {', '.join(described[:-1])} or {described[-1]}: say which by "
            f"--layout {readings[0]}, in Python layout={readings[0]!r}"
        )
    return readings[0]


def _wanted(shape: tuple[int, ...], where: str, wanted: str) -> str:
    name = wanted.upper()
    name = name.replace("T", "D" if "H" in name else "L")  # time is the depth of a film, and the length of a series
    known = [layout for layout, kind in LAYOUTS.items() if kind.arrays]
    if name not in known:
        raise UsageError(f"layout: {wanted!r} is not known; give one of {', '.join(known)}")
    if len(name) != len(shape):
        raise UsageError(f"layout: {name} has {len(name)} axes, and {where} has shape {shape}; give the layout of that")
    return name


def _vectors(sides: tuple[int, ...], dtype: np.dtype[Any], torch: bool) -> tuple[str, ...]:
    return ("ND",) if sides else ("N",)


def _planes(sides: tuple[int, ...], dtype: np.dtype[Any], torch: bool) -> tuple[str, ...]:
    first, last = sides
    if first == last or (dtype == np.uint8 and max(sides) <= 2 * min(sides)):
        return ("NHW",)
    if 1 in sides:
        return ("NCL",) if first == 1 else ("NLC",)
    return "NCL", "NLC", "NHW"


def _fields(sides: tuple[int, ...], dtype: np.dtype[Any], torch: bool) -> tuple[str, ...]:
    first, middle, last = sides
    small_first = first <= FEW and middle > 1 and last > FEW
    if last <= FEW and not (first < middle == last and first <= FEW and last > 1):
        return ("NHWC",)
    if small_first:
        return ("NCHW",)
    if first == middle > last and not torch:
        return ("NHWC",)
    if torch:
        return ("NHWC", "NCHW", "NDHW") if first == middle > last else ("NCHW",)
    return ("NCHW", "NHWC") if last <= FEW else ("NCHW", "NHWC", "NDHW")


def _volumes(sides: tuple[int, ...], dtype: np.dtype[Any], torch: bool) -> tuple[str, ...]:
    first, last = sides[0], sides[-1]
    if last <= FEW < first and not (torch and last > 1):
        return ("NDHWC",)
    return ("NCDHW",) if torch or first <= FEW < last else ("NCDHW", "NDHWC")


_READINGS = {1: _vectors, 2: _vectors, 3: _planes, 4: _fields, 5: _volumes}


def model_shape(shape: tuple[int, ...], layout: str) -> tuple[int, ...]:
    """The shape of an item in model order, of that of an item in a layout."""
    sides = dict(zip(layout[1:], shape, strict=True))
    return tuple(sides.get(axis, 1) for axis in LAYOUTS[layout].axes)


def own_shape(shape: tuple[int, ...], layout: str) -> tuple[int, ...]:
    """The inverse of `model_shape`."""
    sides = dict(zip(LAYOUTS[layout].axes, shape, strict=True))
    return tuple(sides[axis] for axis in layout[1:])


def _order(layout: str, kind: Kind) -> tuple[str, list[int]]:
    """The axes of an item with those of length 1 that the layout leaves out behind them; and where each of the model's is."""
    letters = layout[1:] + "".join(axis for axis in kind.axes if axis not in layout[1:])
    return letters, [letters.index(axis) for axis in kind.axes]


def to_model_order(array: Any, layout: str) -> Any:
    """An array or tensor (N, ...) in a layout as (N, *model axes): a view."""
    letters, order = _order(layout, LAYOUTS[layout])
    wide = array.reshape(*array.shape, *(1,) * (len(letters) - len(layout) + 1))
    axes = [0, *(1 + place for place in order)]
    return wide.transpose(axes) if isinstance(wide, np.ndarray) else wide.permute(axes)


def from_model_order(array: NDArray[Any], layout: str) -> NDArray[Any]:
    """The inverse of `to_model_order`, of an array."""
    letters, order = _order(layout, LAYOUTS[layout])
    moved = array.transpose(0, *(1 + order.index(i) for i in range(len(letters))))
    return moved.reshape(moved.shape[: len(layout)])
