"""Arrays as text for the page: images as bytes of pixels, points as float32, fields as float64, each in base64."""

import math
from base64 import b64decode, b64encode
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

if TYPE_CHECKING:
    from ornstein.data.spec import DataSpec
    from ornstein.path import Path


def text(array: NDArray[Any]) -> str:
    """The bytes of an array, little-endian, in its axes' order."""
    made = np.ascontiguousarray(array)
    return b64encode(made.astype(made.dtype.newbyteorder("<"), copy=False).tobytes()).decode()


def array(content: str, dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """The inverse of `text`."""
    return np.frombuffer(b64decode(content), dtype).reshape(shape)


def layout(spec: "DataSpec") -> dict[str, Any]:
    """How the page draws items: as images of some pixels, or as points within limits."""
    if spec.traits.drawn:
        height, width = spec.traits.cell(spec.shape)
        return {"as": "images", "height": height, "width": width}
    low, high = _limits(spec)
    return {"as": "points", "dims": spec.shape[0], "low": low.tolist(), "high": high.tolist()}


def items(spec: "DataSpec", x: Tensor) -> dict[str, Any]:
    """Items in model units (N, *shape) for the page: pixels (N, H, W, channels) or numbers in the data's own units."""
    if spec.traits.drawn:
        return cells(spec, spec.from_model(x))
    own = x.detach().cpu().double().numpy()
    if spec.mean:
        own = spec.scaling.from_model(own)
    return {"data": text(own.astype(np.float32)), "channels": 0}


def cells(spec: "DataSpec", own: NDArray[Any]) -> dict[str, Any]:
    """Items in their own units, (N, *item_shape), as pixels."""
    drawn = spec.cells(own)
    return {"data": text(drawn), "channels": drawn.shape[-1]}


def own_items(spec: "DataSpec", own: NDArray[Any]) -> dict[str, Any]:
    """Items in their own units for the page, as `items`."""
    if spec.traits.drawn:
        return cells(spec, own)
    return {"data": text(np.asarray(own).reshape(len(own), -1).astype(np.float32)), "channels": 0}


def quiet(path: "Path", t: float, x: Tensor) -> Tensor:
    """x_t in the range of data, where a path's noise is far outside of it."""
    alpha, sigma = path.levels(t, x)
    return x / max(1.0, math.hypot(float(alpha), float(sigma)))


def _limits(spec: "DataSpec") -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The lowest and highest number of each dimension that is drawn: the data's range and a margin for noise.

    Rows of a table, whose columns have several dimensions each, are drawn in model units.
    """
    if not spec.mean:
        return np.full(spec.shape[0], -3.2), np.full(spec.shape[0], 3.2)
    mean, std = np.array(spec.mean), np.array(spec.std)
    spread = np.where(std > 0, std, 1.0)
    low, high = (np.array(spec.lows), np.array(spec.highs)) if spec.lows else (mean - 2.5 * spread, mean + 2.5 * spread)
    return np.minimum(low - 0.4 * spread, mean - 2.6 * spread), np.maximum(high + 0.4 * spread, mean + 2.6 * spread)
