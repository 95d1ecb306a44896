"""The description of data, and the conversion between the units of the data and of the model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from ornstein.data.content import chunks
from ornstein.data.kinds import LAYOUTS, NAMED, Kind
from ornstein.data.layout import from_model_order, model_shape, own_shape, to_model_order
from ornstein.data.scaling import Range, Standard
from ornstein.errors import NotFinite, UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from ornstein.data.columns import ColumnScaling

LARGEST = 1 << 30  # numbers of one item
REACH = 1e100  # of what data may hold: the squares of larger numbers, and of ranges below its inverse, are none
DTYPES = frozenset(np.dtype(code).name for code in "?bBhHiIlLqQefdg")
FULL_RANGE = {"bool": (0.0, 1.0), "uint8": (0.0, 255.0), "uint16": (0.0, 65535.0)}
LINE = 6  # channels that a line of text names
OTHER_UNITS = 30.0  # times the spread of the run's data, above and below which other data are said to have other units


class ColumnDimensions(NamedTuple):
    """The dimensions of the model that belong to one column of a table: of its state (a category, or whether there is a number),
    and of its number."""

    name: str
    states: tuple[int, ...]
    values: tuple[int, ...]

    @property
    def all(self) -> tuple[int, ...]:
        """Both."""
        return (*self.states, *self.values)


class Adopted(NamedTuple):
    """Other data in the units, axes and kind of a run, and sentences about what is not as in its training."""

    items: NDArray[Any]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class DataSpec:
    """Everything that a model must know about its data to be trained, sampled and drawn. JSON holds it.

    With a declared range, `v` becomes `x = 2 (v - low) / (high - low) - 1`, in `[-1, 1]`; everything else becomes
    `x = (v - mean) / std` in each channel (a constant channel has `std = 0`, is 0 for the model, and comes back as the constant).

    - `kind`: the name of what one item is (`ornstein.data.kinds`);
    - `shape`: of an item as the model sees it: `(D,)` of a vector, `(C, L)`, `(C, H, W)`, `(C, D, H, W)`;
    - `dtype`: the data's own type, a NumPy name;
    - `low`, `high`: the range that becomes `[-1, 1]`; without one, the recorded minimum and maximum;
    - `mean`, `std`: of each channel, or dimension of a vector; empty for a declared range;
    - `classes`: the names of the labels `0, 1, …`; empty when there are no labels;
    - `source`, `count`, `content_hash`: where the data came from, how many, and which: a hash of all of them, their type and
      shape, labels, and what else is known of them, whatever the place or the date of the files (`ornstein.data.content`);
    - `data_std`: the standard deviation in model units (EDM's σ_data) of all numbers of up to 4096 evenly spaced items, or 32 MB;
    - `layout`: the axes of arrays of items, such as NHWC (`ornstein.data.layout`);
    - `lows`, `highs`: of each channel, what samples are held to (`from_model`); empty for a declared range;
    - `whole`: of each dimension of floating vectors, whether all its numbers were whole;
    - `robust`: the channels that a few numbers would have decided the scale of: these lie outside `lows` and `highs`, and are
      learned as the nearest of both;
    - `missing`: NaN among the items is a missing number: 0 for the network, and not part of the loss;
    - `origin`: the kind of file that the items came from, and as JSON what of it goes back into files of samples
      (`ornstein.data.origins`); empty where any file will do.
    """

    kind: str
    shape: tuple[int, ...]
    dtype: str
    low: float
    high: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    classes: tuple[str, ...]
    source: str
    count: int
    content_hash: str
    data_std: float
    layout: str = ""
    lows: tuple[float, ...] = ()
    highs: tuple[float, ...] = ()
    whole: tuple[bool, ...] = ()
    robust: tuple[int, ...] = ()
    missing: bool = False
    origin: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.layout and self.kind in NAMED:
            object.__setattr__(self, "layout", NAMED[self.kind].layouts[0])

    def to_json(self) -> dict[str, Any]:
        """A dictionary of plain numbers, strings and lists."""
        values = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}
        return values if self.origin else {name: value for name, value in values.items() if name != "origin"}

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> DataSpec:
        """The inverse of `to_json`. Raises TypeError or ValueError for what describes no data."""
        if "columns" in values:
            from ornstein.data.column_spec import ColumnSpec

            return ColumnSpec.from_json(values)
        return checked(DataSpec, values)

    @property
    def dimensions(self) -> tuple[ColumnDimensions, ...]:
        """The dimensions of the model that belong to each column of a table; each number of a vector is a column of its own."""
        return tuple(ColumnDimensions(str(i), (), (i,)) for i in range(self.shape[0]))

    @property
    def codes(self) -> dict[str, Any] | None:
        """Arguments of `networks.codes.Codes`, where dimensions are coded states and numbers of variance 1."""
        return None

    @property
    def traits(self) -> Kind:
        """The kind of the data as a class: networks that fit, drawing, words."""
        return NAMED[self.kind]

    @property
    def scaling(self) -> Range | Standard | ColumnScaling:
        """The way to model units."""
        return Standard(self.mean, self.std) if self.mean else Range(self.low, self.high)

    @property
    def item_shape(self) -> tuple[int, ...]:
        """The shape of one item as stored and written, in the order of `layout`."""
        return own_shape(self.shape, self.layout)

    @property
    def may_lack(self) -> bool:
        """Whether NaN among samples is a missing value, and no fault."""
        return False

    @property
    def is_whole(self) -> bool:
        """Whether the type holds whole numbers alone."""
        return np.dtype(self.dtype).kind != "f"

    @property
    def hashed_range(self) -> tuple[float, float]:
        """The range that counts for `content_hash`: that of 16-bit images is their type's, also where they use a part of it."""
        by_type = self.dtype == "uint16" and self.mean and not self.traits.held
        return FULL_RANGE["uint16"] if by_type else (self.low, self.high)

    @property
    def level_width(self) -> NDArray[np.float64] | None:
        """The distance of neighbouring whole numbers in model units, broadcasting against an item; None for floating numbers.

        Raises `UsageError` for a channel that is constant, where there is no scale.
        """
        return np.asarray(np.exp(self._log_slopes())) if self.is_whole else None

    @property
    def level_bounds(self) -> tuple[float, float]:
        """The least and the largest level in model units, where the range is declared."""
        return (-math.inf, math.inf) if self.mean else (-1.0, 1.0)

    @property
    def log_volume(self) -> float:
        """log |dx/dv| of `to_model`, in nats, summed over all numbers of an item: log p(v) = log p(x) + log_volume.

        Raises `UsageError` for a channel that is constant, which has no density.
        """
        return float(self.log_slopes.sum())

    @property
    def log_slopes(self) -> NDArray[np.float64]:
        """log |dx/dv| in nats of each number of an item, of its model shape. Raises `UsageError` as `log_volume` does."""
        return np.array(np.broadcast_to(self._log_slopes(), self.shape))

    def _log_slopes(self) -> NDArray[np.float64]:
        slopes = self.scaling.log_slopes(self.shape[0])
        if not np.isfinite(slopes).all():
            name = self._channel_word
            raise UsageError(
                f"{name.capitalize()} {int(np.argmin(np.isfinite(slopes)))} of {self.source} is constant, so it has no density; "
                "train without it."
            )
        return slopes if slopes.ndim == 0 else slopes.reshape(-1, *(1,) * (len(self.shape) - 1))

    @property
    def _channel_word(self) -> str:
        return "dimension" if self.traits.spatial == 0 else "channel"

    def units(self) -> list[str]:
        """In words how numbers become the model's: the scale of each channel, and what was left out of it."""
        holes = ["missing numbers (NaN) are 0 for the network and no part of the loss"] if self.missing else []
        if not self.mean:
            return [f"{self.low:g} to {self.high:g} becomes -1 to 1", *holes]
        scales = [f"{mean:.4g} ± {std:.4g}" for mean, std in zip(self.mean, self.std, strict=True)]
        more = f", ... ({len(scales)} {self._channel_word}s)" if len(scales) > LINE else ""
        several = f" of each {self._channel_word}" if len(scales) > 1 else ""
        lines = [f"mean and deviation{several} become 0 and 1: {', '.join(scales[:LINE])}{more}"]
        if self.dtype == "uint16" and not self.traits.held:
            low, high = (min(self.lows), max(self.highs)) if self.lows else (self.low, self.high)
            lines.append(f"the numbers use {low:g} to {high:g} of uint16's 0 to 65535")
        lines += [
            f"{self._channel_word} {i} has a few numbers far outside {self.lows[i]:.4g} to {self.highs[i]:.4g}, which are "
            "learned as the nearest of both"
            for i in self.robust[:LINE]
        ]
        return lines + holes

    def to_model(self, array: NDArray[Any], wide: bool = False) -> Tensor:
        """Own units `(N, *item_shape)` to a float32 tensor `(N, *shape)` in model units; `wide`: to float64.

        Raises `ValueError` when the shape is not that of these data.
        """
        import torch

        if array.shape[1:] != self.item_shape:
            raise ValueError(f"These data have items of shape {self.item_shape}, not {array.shape[1:]}.")
        scaling, kind = self.scaling, np.float64 if wide else np.float32
        if array.dtype == np.uint8 and isinstance(scaling, Range) and not wide:
            # a quarter of the bytes to move, and exact in float32
            x = to_model_order(torch.from_numpy(np.ascontiguousarray(array)), self.layout)
            return scaling.of_bytes(x.to(torch.float32, memory_format=torch.contiguous_format))
        values = to_model_order(array, self.layout)
        return torch.from_numpy(np.ascontiguousarray(scaling.to_model(values), dtype=kind))

    def within(self, array: NDArray[Any]) -> NDArray[Any]:
        """Own units, as they are learned: of the channels in `robust`, what lies outside `lows` and `highs` is the nearest."""
        if not self.robust:
            return array
        values = np.array(to_model_order(array, self.layout))
        for i in self.robust:
            values[:, i] = np.clip(values[:, i], self.lows[i], self.highs[i])
        return from_model_order(values, self.layout)

    def from_model(self, x: Tensor) -> NDArray[Any]:
        """Model units `(N, *shape)` to own type and units, `(N, *item_shape)`.

        Whole-number types are rounded and clipped to the declared or recorded range, never wrapped; so are the dimensions of
        vectors, of which those that held whole numbers alone are rounded. Other floating data are not clipped.
        Raises `ValueError` for a wrong shape, `OrnsteinError` when a number that must become whole is not finite.
        """
        if tuple(x.shape[1:]) != self.shape:
            raise ValueError(f"These data have model shape {self.shape}, not {tuple(x.shape[1:])}.")
        own = self.scaling.from_model(x.detach().cpu().double().numpy())
        dtype = np.dtype(self.dtype)
        if dtype.kind != "f":
            if not np.isfinite(own).all():
                bad = int((~np.isfinite(own).reshape(len(own), -1).all(axis=1)).sum())
                raise NotFinite(
                    f"{bad} of {len(own)} samples hold NaN or infinite numbers, which {dtype} cannot hold; "
                    "the training that made this model has diverged."
                )
            return self._laid_out(_whole(np.clip(np.rint(own), *self._bounds(own.ndim)), dtype))
        if self.traits.held and self.lows:
            own = np.where(np.array(self.whole), np.rint(own), own) if any(self.whole) else own
            own = np.clip(own, *self._bounds(own.ndim))
        with np.errstate(over="ignore"):  # of a floating type: becomes infinite
            return self._laid_out(own.astype(dtype))

    def _bounds(self, ndim: int) -> tuple[Any, Any]:
        """Limits of samples in model order: a number, or one for each channel."""
        if not self.lows:
            return self.low, self.high
        low, high = (np.array(bounds).reshape(-1, *(1,) * (ndim - 2)) for bounds in (self.lows, self.highs))
        return low, high

    def _laid_out(self, values: NDArray[Any]) -> NDArray[Any]:
        return np.ascontiguousarray(from_model_order(values, self.layout))

    def cells(self, items: NDArray[Any]) -> NDArray[np.uint8]:
        """Items in own units `(N, *item_shape)` as images `(N, H, W, C)` to look at."""
        return self.traits.cells(to_model_order(items, self.layout), self)

    def in_units_of(self, run: DataSpec) -> DataSpec:
        """The description of these data in the units of `run`, whatever they would measure themselves."""
        scale = {key: getattr(run, key) for key in ("low", "high", "mean", "std", "data_std", "lows", "highs", "whole")}
        return replace(self, **scale, robust=())

    def adopt(self, items: NDArray[Any], where: str) -> Adopted:
        """Other data for a model that was trained on these: never in units of their own.

        `items` is `(N, *item_shape)`, or one item without its first axis, or the same in another layout of the same kind, where
        that is the only one that fits. What comes back has the axes of these data and holds the same numbers. Other types of the
        same quantity are taken, numbers outside the range of the training are counted, and both are said in `notes`.
        Raises UsageError, which begins with `where`, for items of another shape, and OrnsteinError for NaN or infinity.
        """
        if items.dtype.kind not in "biuf":
            raise UsageError(f"{where} has type {items.dtype}; items must be whole or floating numbers")
        moved = self._moved(items, where)
        must_be_finite(moved, where, self.layout)
        return Adopted(moved, tuple(self.notes_on(moved, where)))

    def _moved(self, items: NDArray[Any], where: str) -> NDArray[Any]:
        """The items in the layout of these data."""
        for array in (items, items[None]):
            if array.ndim == len(self.layout) and array.shape[1:] == self.item_shape:
                return array
        others = [
            from_model_order(to_model_order(np.asarray(array), layout), self.layout)
            for layout in self.traits.layouts
            for array in (items, items[None])
            if array.ndim == len(layout) and model_shape(array.shape[1:], layout) == self.shape
        ]
        if len(others) != 1:
            raise UsageError(
                f"{where} has shape {items.shape}, but the run makes {self.traits.plural} of shape {self.item_shape} "
                f"({self.layout}); give one of that shape, or (N, ...) of them"
            )
        return others[0]

    def notes_on(self, items: NDArray[Any], where: str) -> list[str]:
        """Sentences about items in the layout of these data: another type, numbers outside the range, an unlikely scale."""
        notes = []
        if items.dtype.name != self.dtype:
            notes.append(
                f"{where} holds {items.dtype}, and the training data {self.dtype}; its numbers are taken as they are."
            )
        low, high = self._bounds(2)
        outside, total, mean, square = 0, 0, 0.0, 0.0
        for chunk in chunks(items):
            values = to_model_order(chunk, self.layout)
            flat = np.moveaxis(values, 1, -1).reshape(-1, self.shape[0])
            outside += int(((flat < low) | (flat > high)).sum())
            x = self.scaling.to_model(values)
            there = x if x.dtype.kind != "f" or not self.missing else x[~np.isnan(x)]
            total, mean, square = total + there.size, mean + float(there.sum()), square + float(np.square(there).sum())
        if outside:
            share = f"{100 * outside / total:.2g} %"
            notes.append(
                f"{outside:,} of {total:,} numbers of {where} ({share}) lie outside the range of the training data."
            )
        spread = math.sqrt(max(0.0, square / total - (mean / total) ** 2))
        if self.data_std > 0 and not 1 / OTHER_UNITS < spread / self.data_std < OTHER_UNITS and len(items) > 1:
            notes.append(
                f"The numbers of {where} vary {spread / self.data_std:.2g} times as much as the training data; are they in the "
                "same units?"
            )
        return notes

    def must_be_levels(self, items: NDArray[Any], where: str) -> None:
        """Raises `UsageError` for floating numbers that are not whole where these data are whole numbers."""
        if self.is_whole and items.dtype.kind == "f" and not bool((items == np.rint(items)).all()):
            raise UsageError(
                f"{where} holds numbers that are not whole, and the run was trained on {self.dtype}: their probability is not "
                "defined; round them first"
            )

    @property
    def slopes(self) -> NDArray[np.float64]:
        """|dx/dv| of each channel (C,), infinite for a constant one."""
        return np.broadcast_to(np.exp(self.scaling.log_slopes(self.shape[0])), self.shape[:1])

    @property
    def spans(self) -> NDArray[np.float64]:
        """From the least to the largest number of each channel in model units (C,): 2 for a declared range; infinite where it is
        constant."""
        if not self.mean:
            return np.full(self.shape[0], 2.0)
        std = np.array(self.std)
        low, high = self._bounds(1)
        return np.where(std > 0, (high - low) / np.where(std > 0, std, 1.0), np.inf)

    @property
    def contrast(self) -> float:
        """The mean of `spans` over the channels that vary."""
        spans = self.spans[np.isfinite(self.spans)]
        return float(spans.mean()) if len(spans) else 2.0

    def of_shape(self, shape: tuple[int, ...], layout: str = "NHWC") -> DataSpec:
        """The same units for items of another size or number of channels, by default images (N, H, W, C).

        Raises `UsageError` where each channel has units of its own and there are others.
        """
        if self.mean and shape[0] != self.shape[0]:
            raise UsageError(
                f"an image of {shape[0]} channels has no units here: each of the {self.shape[0]} channels of {self.source} is "
                "scaled by itself; give images of all channels"
            )
        return replace(self, shape=shape, layout=layout)

    def has_units_of(self, run: DataSpec) -> bool:
        """Whether numbers of these data mean what they mean in `run`, by this description."""
        keys = ("dtype", "low", "high", "mean", "std", "lows", "highs")
        return all(getattr(self, key) == getattr(run, key) for key in keys)


S = TypeVar("S", bound=DataSpec)


def checked(kind: type[S], values: Mapping[str, Any]) -> S:
    """A description of a class from JSON's values. Raises TypeError or ValueError for what describes no data."""
    fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    strange = sorted(fields.keys() - kind.__dataclass_fields__.keys())
    if strange:
        raise ValueError(f"data: there is no {strange[0]!r}")
    spec = kind(**fields)
    _check(spec)
    numbers: dict[str, Any] = {key: tuple(map(float, getattr(spec, key))) for key in ("mean", "std", "lows", "highs")}
    # JSON's may be whole numbers of any length, which torch does not take
    return replace(spec, low=float(spec.low), high=float(spec.high), data_std=float(spec.data_std), **numbers)


def _whole(values: NDArray[np.float64], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Whole numbers as a type of such: what float64 rounds beyond the largest of a type (2⁶³ − 1, 2⁶⁴ − 1) becomes that."""
    if dtype.kind == "b":
        return np.ascontiguousarray(values.astype(dtype))
    largest = np.iinfo(dtype).max
    beyond = values >= float(largest)
    made = np.ascontiguousarray(np.where(beyond, 0.0, values).astype(dtype))
    made[beyond] = largest
    return made


def _check(spec: DataSpec) -> None:
    """Raises TypeError or ValueError that names the first field which describes no data."""
    kind = NAMED.get(spec.kind)
    axes = 0 if kind is None else len(kind.axes)
    channels = spec.shape[0] if spec.shape else 0
    scaled = channels if spec.mean or kind is NAMED["vector"] else 0
    held = scaled if spec.lows else 0
    numbers = (spec.low, spec.high, spec.data_std, *spec.mean, *spec.std, *spec.lows, *spec.highs)
    wrong = {
        "kind": kind is None,
        "shape": len(spec.shape) != axes or not all(type(n) is int and n > 0 for n in spec.shape),
        "dtype": spec.dtype not in DTYPES,
        "low, high, mean, std or data_std": not all(type(v) in (int, float) and math.isfinite(v) for v in numbers),
        "high": not spec.high > spec.low,
        "low or high": not within_reach(spec.low, spec.high),
        "mean": len(spec.mean) != scaled,
        "std": len(spec.std) != scaled or min(spec.std, default=0) < 0,
        "lows or highs": (len(spec.lows), len(spec.highs)) != (held, held)
        or any(low > high for low, high in zip(spec.lows, spec.highs, strict=False)),
        "whole": len(spec.whole) not in (0, channels) or not all(type(value) is bool for value in spec.whole),
        "robust": not all(type(i) is int and 0 <= i < held for i in spec.robust),
        "layout": LAYOUTS.get(spec.layout) is not kind,
        "missing": type(spec.missing) is not bool,
        "origin": len(spec.origin) not in (0, 2) or not all(type(part) is str for part in spec.origin),
        "classes": not all(type(name) is str for name in spec.classes),
        "source": type(spec.source) is not str,
        "count": type(spec.count) is not int or spec.count < 1,
        "content_hash": type(spec.content_hash) is not str,
        "data_std": not 0 <= spec.data_std <= REACH,
    }
    for key, is_wrong in wrong.items():
        if is_wrong:
            raise ValueError(f"data: {key} is not what it must be")
    if any(n != 1 for axis, n in zip(spec.traits.axes, spec.shape, strict=True) if axis not in spec.layout[1:]):
        raise ValueError("data: layout is not what it must be")
    if math.prod(spec.shape) > LARGEST:
        raise ValueError(f"data: items of shape {spec.shape} are larger than any that can be read")


def within_reach(low: float, high: float) -> bool:
    """Whether numbers of this range can be squared."""
    return max(abs(low), abs(high)) <= REACH and (high - low >= 1 / REACH or high == low)


def must_be_finite(
    items: NDArray[Any], where: str, layout: str, first: int = 0, masked: bool = False, mend: str = ""
) -> None:
    """Raises `OrnsteinError` that names the first number of items (N, ...) which is NaN or infinite, by its axes.

    The items are those from number `first` on. `masked`: NaN is allowed. `mend`: what else can be done about NaN.
    """
    if items.dtype.kind != "f":
        return
    start = first
    for chunk in chunks(items):
        finite = ~np.isinf(chunk) if masked else np.isfinite(chunk)
        if not finite.all():
            first_bad = np.argwhere(~np.atleast_1d(finite))[0]
            item, *place = first_bad.tolist()
            other = mend if np.isnan(np.atleast_1d(chunk)[tuple(first_bad)]) else ""
            axes = ["column" if LAYOUTS[layout].spatial == 0 else AXES[axis] for axis in layout[1:]]
            position = ", ".join(f"{axis} {i}" for axis, i in zip(axes, place, strict=True))
            kinds = "infinite numbers" if masked else "NaN or infinite numbers"
            raise NotFinite(
                f"Item {start + item} of {where} holds {kinds}{f' ({position})' if position else ''}; remove it or mend it"
                f"{other}."
            )
        start += len(chunk)


AXES = {"C": "channel", "D": "slice", "H": "row", "W": "column", "L": "position"}
