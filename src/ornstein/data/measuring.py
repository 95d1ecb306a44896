"""From decoded arrays to their description: which units are the model's, and what samples are held to.

8-bit numbers, truth values and what declares `low` and `high` have a range. The numbers of 16-bit images have that of their type
where they use half of it or more. All else is scaled by the mean and the deviation of each channel, as measured. Of a channel
whose deviation is more than twice that of its numbers held to a window, the mean and the deviation are those of the numbers
within the window: from the .001 to the .999 quantile, and as much again on either side. So a few broken pixels do not decide the
scale of all others. Nor does a single one shift it: the same holds where at most one number of 10,000 lies outside the window,
four times as far away as any within it. A long tail, which fills the way there, is left as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ornstein.data.arrays import Arrays
from ornstein.data.content import chunks, content_hash, digest_of, measured
from ornstein.data.kinds import LAYOUTS
from ornstein.data.layout import model_shape, to_model_order
from ornstein.data.spec import FULL_RANGE, REACH, DataSpec, must_be_finite, within_reach
from ornstein.errors import OrnsteinError, UsageError

TAIL = 0.001  # of the numbers of a channel on either side, which do not decide its scale alone
DOMINATED = 2.0  # times that the plain deviation exceeds the one within the window, where a few numbers decide it
FEW = 20  # numbers of a channel, below which any may be its end
RARE, APART = 1e-4, 4.0  # part of the numbers outside the window, and times as far away, that are taken for broken
USED = 0.5  # of the range of 16 bits, below which the type does not say what the range is


class _Survey(NamedTuple):
    """A number for each channel (C,)."""

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    whole: NDArray[np.bool_]
    holes: bool = False


MASK = ", or take NaN for missing numbers by --missing mask, in Python missing='mask'"


def is_masked(missing: str | None) -> bool:
    """Whether NaN is to be a missing number. Raises UsageError for another word than "mask"."""
    if missing not in (None, "mask"):
        raise UsageError(f"missing: {missing!r} is not known; give mask, or leave it out to have NaN refused")
    return missing is not None


def measure(arrays: Arrays, source: str, digest: str | None = None) -> DataSpec:
    """The description of decoded data. `digest`: their `digest_of`, where it is known.

    Where the arrays are `masked`, missing numbers count for nothing.
    Raises `OrnsteinError` naming the first item that holds NaN or infinity.
    """
    if arrays.columns:
        from ornstein.data.column_spec import measure_columns

        return measure_columns(arrays, source, digest)
    items, dtype = arrays.items, arrays.items.dtype
    layout = arrays.layout or ("NHWC" if items.ndim == 4 else "ND")
    kind, shape = LAYOUTS[layout], model_shape(items.shape[1:], layout)
    masked = arrays.masked and dtype.kind == "f"
    plain = measured(items)
    some = to_model_order(plain, layout)
    surveyed: _Survey | None = None
    declared = None if arrays.low is None or arrays.high is None or kind.held else (arrays.low, arrays.high)
    full = None if kind.held else FULL_RANGE.get(dtype.name)
    if declared is not None or full is None or dtype == np.uint16:
        surveyed = _survey(items, layout, source, masked)
    if declared is not None:
        assert surveyed is not None
        least, most = float(surveyed.low.min()), float(surveyed.high.max())
        low, high = declared
        if least < low or most > high:
            raise OrnsteinError(
                f"{source} says that its range is {low:g} to {high:g}, but holds {least:g} to {most:g}; mend low and high."
            )
    elif full is not None and (dtype != np.uint16 or _uses(some, full)):
        declared = low, high = full
    else:
        assert surveyed is not None
        low, high = float(surveyed.low.min()), float(surveyed.high.max())
    if not within_reach(low, high):
        raise OrnsteinError(
            f"{source} holds numbers from {low:g} to {high:g}; give it other units, since sizes beyond {REACH:g} and ranges "
            f"below {1 / REACH:g} cannot be worked with."
        )
    content = content_hash(
        arrays, *(full or (low, high)) if declared is None else (low, high), items=digest or digest_of(items)
    )
    if high <= low:  # all items alike: any width will do
        high = low + max(1.0, abs(low))
    about: dict[str, Any] = {"mean": (), "std": ()}
    if declared is None:
        assert surveyed is not None
        about = _scale(items, layout, some, surveyed, kind.held and dtype.kind == "f")
    elif masked:
        about["data_std"] = float(np.nanstd(plain, dtype=np.float64)) * 2.0 / (high - low)
    else:
        about["data_std"] = _std(plain) * 2.0 / (high - low)
    return DataSpec(
        kind=kind.name,
        shape=shape,
        dtype=dtype.name,
        low=low,
        high=high,
        classes=arrays.classes,
        source=source,
        count=len(items),
        content_hash=content,
        layout=layout,
        missing=surveyed is not None and surveyed.holes,
        origin=arrays.origin,
        **about,
    )


def _scale(items: NDArray[Any], layout: str, some: NDArray[Any], surveyed: _Survey, columns: bool) -> dict[str, Any]:
    """Mean, deviation and bounds of each channel, and the deviation of all in model units."""
    mean, std = _moments(items, layout, surveyed.holes)
    lows, highs = surveyed.low, surveyed.high
    window = _window(some)
    inner = [np.clip(values, *bounds) for values, *bounds in zip(np.moveaxis(some, 1, 0), *window, strict=True)]
    spread: Callable[..., Any] = np.nanstd if surveyed.holes else np.std
    within = np.array([float(spread(values, dtype=np.float64)) for values in inner])
    broken = (DOMINATED * within < std) | _apart(items, layout, window, (lows, highs))
    robust = np.flatnonzero((within > 0) & broken).tolist()
    if robust:
        lows, highs = lows.copy(), highs.copy()
        up, down = (np.ceil, np.floor) if items.dtype.kind != "f" else (np.positive, np.positive)
        lows[robust] = up(np.maximum(lows, window[0]))[robust]
        highs[robust] = down(np.minimum(highs, window[1]))[robust]
        held = _moments(items, layout, surveyed.holes, (lows, highs))
        mean[robust], std[robust] = held[0][robust], held[1][robust]
        some = np.clip(some, *(_along(bounds, some.ndim) for bounds in (lows, highs)))
    scaled = (some - _along(mean, some.ndim)) / _along(np.where(std > 0, std, 1.0), some.ndim)
    return {
        "mean": tuple(mean.tolist()),
        "std": tuple(std.tolist()),
        "lows": tuple(lows.tolist()),
        "highs": tuple(highs.tolist()),
        "whole": tuple(surveyed.whole.tolist()) if columns else (),
        "robust": tuple(robust),
        "data_std": float(spread(scaled)),
    }


def _survey(items: NDArray[Any], layout: str, source: str, masked: bool) -> _Survey:
    """The least and the largest number of each channel, and whether all are whole and any are missing, in one pass.

    Raises OrnsteinError for NaN (`masked`: for a channel of nothing else) and infinity.
    """
    low: Any = np.inf
    high: Any = -np.inf
    whole: Any = True
    start, holes = 0, False
    for chunk in chunks(items):
        must_be_finite(chunk, source, layout, start, masked, MASK)
        values = to_model_order(chunk, layout)
        axes = (0, *range(2, values.ndim))
        low = np.fmin(low, np.fmin.reduce(values, axis=axes).astype(np.float64))
        high = np.fmax(high, np.fmax.reduce(values, axis=axes).astype(np.float64))
        if values.dtype.kind == "f":
            lacking = np.isnan(values) if masked else np.bool_(False)
            holes |= bool(lacking.any())
            whole = whole & ((values == np.rint(values)) | lacking).all(axis=axes)
        start += len(chunk)
    if not np.isfinite(low).all():
        raise OrnsteinError(
            f"{'Channel' if LAYOUTS[layout].spatial else 'Column'} {int(np.argmin(np.isfinite(low)))} of {source} holds no "
            "number at all; leave it out."
        )
    return _Survey(low, high, np.broadcast_to(whole, low.shape), holes)


def _moments(
    items: NDArray[Any], layout: str, holes: bool, bounds: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and deviation of each channel, in two passes; of numbers within bounds, where there are any, and without `holes`."""
    shape = model_shape(items.shape[1:], layout)
    count: Any = len(items) * int(np.prod(shape[1:], dtype=np.int64))
    axes = (0, *range(2, len(shape) + 1))

    def values(chunk: NDArray[Any]) -> NDArray[Any]:
        own = to_model_order(chunk, layout)
        if bounds is None:
            return own
        low, high = (_along(bound, own.ndim) for bound in bounds)
        return np.where((own < low) | (own > high), np.nan, own)

    holes = holes or bounds is not None
    zero = np.zeros(shape[0])
    total: Callable[..., Any] = np.nansum if holes else np.sum
    if holes:
        count = sum(((~np.isnan(values(c))).sum(axis=axes) for c in chunks(items)), zero)
    mean = sum((total(values(c), axis=axes, dtype=np.float64) for c in chunks(items)), zero) / count
    wide = _along(mean, len(shape) + 1)
    square = sum((total(np.square(values(c) - wide), axis=axes) for c in chunks(items)), zero)
    return mean, np.sqrt(square / count)


def _window(some: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """For each channel the range of almost all numbers, and as much again on either side."""
    flat = np.moveaxis(some, 1, 0).reshape(some.shape[1], -1)
    low, high = (_quantile(flat, part) for part in (TAIL, 1 - TAIL))
    return low - (high - low), high + (high - low)


def _apart(
    items: NDArray[Any],
    layout: str,
    window: tuple[NDArray[np.float64], NDArray[np.float64]],
    ends: tuple[NDArray[np.float64], NDArray[np.float64]],
) -> NDArray[np.bool_]:
    """For each channel, whether there are a few numbers outside the window, far from all within it."""
    (low, high), beyond = window, (ends[0] < window[0]) | (ends[1] > window[1])
    if not beyond.any():
        return beyond
    middle, count, total = (low + high) / 2, np.zeros(len(low)), 0
    furthest, nearest = np.zeros(len(low)), np.full(len(low), np.inf)
    for chunk in chunks(items):
        own = to_model_order(chunk, layout)
        values = np.moveaxis(own, 1, 0).reshape(own.shape[1], -1)
        distance = np.abs(values - middle[:, None])
        outside = (values < low[:, None]) | (values > high[:, None])
        count, total = count + outside.sum(1), total + values.shape[1]
        furthest = np.fmax(furthest, np.fmax.reduce(np.where(outside, 0.0, distance), axis=1))
        nearest = np.fmin(nearest, np.fmin.reduce(np.where(outside, distance, np.inf), axis=1))
    few = (count > 0) & (count <= np.maximum(1, RARE * total))
    return np.asarray(beyond & few & (nearest > APART * furthest))


def _quantile(flat: NDArray[Any], part: float) -> NDArray[np.float64]:
    if flat.dtype.kind == "f" and np.isnan(flat).any():
        return np.nanquantile(flat.astype(np.float64), part, axis=1, method="nearest")
    most = flat.shape[1] - 1
    place = round(part * most)
    if most >= FEW:  # the outermost number never decides alone
        place = min(max(place, 1), most - 1)
    return np.partition(flat, place, axis=1)[:, place].astype(np.float64)


def _uses(some: NDArray[Any], full: tuple[float, float]) -> bool:
    """Whether almost all numbers together use much of a range."""
    flat = some.reshape(1, -1)
    low, high = (float(_quantile(flat, part)[0]) for part in (TAIL, 1 - TAIL))
    return high - low >= USED * (full[1] - full[0])


def _std(some: NDArray[Any]) -> float:
    """The standard deviation of all numbers; of bytes by counting them, which is exact and ten times faster."""
    if some.dtype != np.uint8:
        return float(np.std(some, dtype=np.float64))
    counts = sum((np.bincount(c.reshape(-1), minlength=256) for c in chunks(some)), np.zeros(256, np.int64))
    values = np.arange(256)
    mean = (counts @ values) / counts.sum()
    return float(np.sqrt((counts @ np.square(values - mean)) / counts.sum()))


def _along(numbers: NDArray[np.float64], ndim: int) -> NDArray[np.float64]:
    return numbers.reshape(-1, *(1,) * (ndim - 2))
