"""What the data are, and the way between the data's own units and the model's."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from ornstein.data.content import chunks, content_hash, digest_of, measured
from ornstein.errors import NotFinite, OrnsteinError, UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from ornstein.data.arrays import Arrays

LARGEST = 1 << 30  # numbers of one item
REACH = 1e100  # of what data may hold: the squares of larger numbers, and of ranges below its inverse, are none
DTYPES = frozenset(np.dtype(code).name for code in "?bBhHiIlLqQefdg")
FULL_RANGE = {"bool": (0.0, 1.0), "uint8": (0.0, 255.0), "uint16": (0.0, 65535.0)}


@dataclass(frozen=True)
class DataSpec:
    """Everything that a model must know about its data to be trained, sampled and shown. JSON holds it.

    Images `v` become `x = 2 (v - low) / (high - low) - 1`, in `[-1, 1]`; vectors become `x = (v - mean) / std`
    in each dimension (a constant dimension has `std = 0`, is 0 for the model, and comes back as the constant).

    - `kind`: what one item is;
    - `shape`: `(C, H, W)` of an image or `(D,)` of a vector, as the model sees it;
    - `dtype`: the data's own type, a NumPy name;
    - `low`, `high`: the range that becomes `[-1, 1]` (images; for vectors the recorded minimum and maximum);
    - `mean`, `std`: per dimension (vectors; empty for images);
    - `classes`: the names of the labels `0, 1, …`; empty when there are no labels;
    - `source`, `count`, `content_hash`: where the data came from, how many, and which: a hash of all of them, their type and
      shape, labels, and what else is known of them, whatever the place or the date of the files (`ornstein.data.content`);
    - `data_std`: the standard deviation in model units (EDM's σ_data) of all numbers of up to 4096 evenly spaced items, or 32 MB.
    """

    kind: Literal["image", "vector"]
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

    def to_json(self) -> dict[str, Any]:
        """A dictionary of plain numbers, strings and lists."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> DataSpec:
        """The inverse of `to_json`. Raises TypeError or ValueError for what describes no data."""
        fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        strange = sorted(fields.keys() - DataSpec.__dataclass_fields__.keys())
        if strange:
            raise ValueError(f"data: there is no {strange[0]!r}")
        spec = DataSpec(**fields)
        _check(spec)
        return replace(  # JSON's may be whole numbers of any length, which torch does not take
            spec,
            low=float(spec.low),
            high=float(spec.high),
            data_std=float(spec.data_std),
            mean=tuple(map(float, spec.mean)),
            std=tuple(map(float, spec.std)),
        )

    @property
    def item_shape(self) -> tuple[int, ...]:
        """The shape of one item as stored and written: `(H, W, C)` or `(D,)`."""
        return (*self.shape[1:], self.shape[0]) if self.kind == "image" else self.shape

    @property
    def level_width(self) -> NDArray[np.float64] | None:
        """The distance of neighbouring whole numbers in model units, `()` or `(D,)`; None for floating numbers.

        Raises `UsageError` for a dimension that is constant, where there is no scale.
        """
        if np.dtype(self.dtype).kind == "f":
            return None
        return np.asarray(np.exp(self._log_slopes()))

    @property
    def log_volume(self) -> float:
        """log |dx/dv| of `to_model`, summed over all numbers of an item: log p(v) = log p(x) + log_volume.

        Raises `UsageError` for a dimension that is constant, which has no density.
        """
        return float(np.broadcast_to(self._log_slopes(), self.shape).sum())

    def _log_slopes(self) -> NDArray[np.float64]:
        if self.kind == "image":
            return np.array(np.log(2.0 / (self.high - self.low)))
        constant = [i for i, std in enumerate(self.std) if std == 0]
        if constant:
            raise UsageError(
                f"Dimension {constant[0]} of {self.source} is constant, so it has no density; train without it."
            )
        return -np.log(np.array(self.std))

    def to_model(self, array: NDArray[Any], wide: bool = False) -> Tensor:
        """Own units `(N, H, W, C)` or `(N, D)` to a float32 tensor `(N, C, H, W)` or `(N, D)` in model units; `wide`: to float64.

        Raises `ValueError` when the shape is not that of these data.
        """
        import torch

        if array.shape[1:] != self.item_shape:
            raise ValueError(f"These data have items of shape {self.item_shape}, not {array.shape[1:]}.")
        kind = np.float64 if wide else np.float32
        if self.kind == "vector":
            scale = np.where(np.array(self.std) > 0, self.std, 1.0)
            return torch.from_numpy(((array - np.array(self.mean)) / scale).astype(kind))
        factor = 2.0 / (self.high - self.low)
        if array.dtype == np.uint8 and not wide:  # a quarter of the bytes to move, and exact in float32
            x = torch.from_numpy(np.ascontiguousarray(array)).permute(0, 3, 1, 2)
            x = x.to(torch.float32, memory_format=torch.contiguous_format)
            return x.sub_(self.low).mul_(factor).sub_(1.0)
        scaled = (array.astype(np.float64) - self.low) * factor - 1.0
        return torch.from_numpy(np.ascontiguousarray(scaled.transpose(0, 3, 1, 2), dtype=kind))

    def from_model(self, x: Tensor) -> NDArray[Any]:
        """Model units `(N, C, H, W)` or `(N, D)` to own type and units, `(N, H, W, C)` or `(N, D)`.

        Whole-number types are rounded and clipped to `[low, high]`, never wrapped; floating data are not clipped.
        Raises `ValueError` for a wrong shape, `OrnsteinError` when a number that must become whole is not finite.
        """
        if tuple(x.shape[1:]) != self.shape:
            raise ValueError(f"These data have model shape {self.shape}, not {tuple(x.shape[1:])}.")
        values = x.detach().cpu().double().numpy()
        if self.kind == "vector":
            own = values * np.array(self.std) + np.array(self.mean)
        else:
            own = (values.transpose(0, 2, 3, 1) + 1.0) * ((self.high - self.low) / 2.0) + self.low
        dtype = np.dtype(self.dtype)
        if dtype.kind != "f":
            if not np.isfinite(own).all():
                bad = int((~np.isfinite(own).reshape(len(own), -1).all(axis=1)).sum())
                raise NotFinite(
                    f"{bad} of {len(own)} samples hold NaN or infinite numbers, which {dtype} cannot hold; "
                    "the training that made this model has diverged."
                )
            return _whole(np.clip(np.rint(own), self.low, self.high), dtype)
        with np.errstate(over="ignore"):  # of a floating type: becomes infinite
            return np.ascontiguousarray(own.astype(dtype))


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
    axes = {"image": 3, "vector": 1}.get(spec.kind, 0)
    own = spec.shape[0] if axes == 1 and spec.shape else 0
    numbers = (spec.low, spec.high, spec.data_std, *spec.mean, *spec.std)
    wrong = {
        "kind": not axes,
        "shape": len(spec.shape) != axes or not all(type(n) is int and n > 0 for n in spec.shape),
        "dtype": spec.dtype not in DTYPES,
        "low, high, mean, std or data_std": not all(type(v) in (int, float) and math.isfinite(v) for v in numbers),
        "high": not spec.high > spec.low,
        "low or high": not _within_reach(spec.low, spec.high),
        "mean": len(spec.mean) != own,
        "std": len(spec.std) != own or min(spec.std, default=0) < 0,
        "classes": not all(type(name) is str for name in spec.classes),
        "source": type(spec.source) is not str,
        "count": type(spec.count) is not int or spec.count < 1,
        "content_hash": type(spec.content_hash) is not str,
        "data_std": not 0 <= spec.data_std <= REACH,
    }
    for key, is_wrong in wrong.items():
        if is_wrong:
            raise ValueError(f"data: {key} is not what it must be")
    if math.prod(spec.shape) > LARGEST:
        raise ValueError(f"data: items of shape {spec.shape} are larger than any that can be read")


def measure(arrays: Arrays, source: str, digest: str | None = None) -> DataSpec:
    """The `Spec` of decoded data, whose items are `(N, H, W, C)` images or `(N, D)` vectors. `digest`: their `digest_of`, where
    it is known.

    Raises `OrnsteinError` naming the first item that holds NaN or infinity.
    """
    items, dtype = arrays.items, arrays.items.dtype
    vector = items.ndim == 2
    mean: NDArray[np.float64] = np.zeros(0)
    std = mean
    if arrays.low is not None and arrays.high is not None and not vector:
        low, high = arrays.low, arrays.high
        least, most = _finite_range(items, source)
        if least < low or most > high:
            raise OrnsteinError(
                f"{source} says that its range is {low:g} to {high:g}, but holds {least:g} to {most:g}; mend low and high."
            )
    elif dtype.name in FULL_RANGE and not vector:
        low, high = FULL_RANGE[dtype.name]
    else:
        low, high = _finite_range(items, source)
    if not _within_reach(low, high):
        raise OrnsteinError(
            f"{source} holds numbers from {low:g} to {high:g}; give it other units, since sizes beyond {REACH:g} and ranges "
            f"below {1 / REACH:g} cannot be worked with."
        )
    if high <= low:  # all items alike: any width will do
        high = low + max(1.0, abs(low))
    if vector:
        count = len(items)
        mean = sum((c.sum(axis=0, dtype=np.float64) for c in chunks(items)), np.zeros(items.shape[1])) / count
        square = sum((np.square(c - mean).sum(axis=0) for c in chunks(items)), np.zeros(items.shape[1]))
        std = np.sqrt(square / count)
    some = measured(items)
    if vector:
        data_std = float(np.std((some - mean) / np.where(std > 0, std, 1.0)))
    else:
        data_std = _std(some) * 2.0 / (high - low)
    return DataSpec(
        kind="vector" if vector else "image",
        shape=(items.shape[1],) if vector else (items.shape[3], items.shape[1], items.shape[2]),
        dtype=dtype.name,
        low=low,
        high=high,
        mean=tuple(mean.tolist()),
        std=tuple(std.tolist()),
        classes=arrays.classes,
        source=source,
        count=len(items),
        content_hash=content_hash(arrays, low, high, digest_of(items) if digest is None else digest),
        data_std=data_std,
    )


def _within_reach(low: float, high: float) -> bool:
    return max(abs(low), abs(high)) <= REACH and (high - low >= 1 / REACH or high == low)


def _std(items: NDArray[Any]) -> float:
    """The standard deviation of all numbers; of bytes by counting them, which is exact and ten times faster."""
    if items.dtype != np.uint8:
        return float(np.std(items, dtype=np.float64))
    counts = sum((np.bincount(c.reshape(-1), minlength=256) for c in chunks(items)), np.zeros(256, np.int64))
    values = np.arange(256)
    mean = (counts @ values) / counts.sum()
    return float(np.sqrt((counts @ np.square(values - mean)) / counts.sum()))


def _finite_range(items: NDArray[Any], source: str) -> tuple[float, float]:
    low, high, start = np.inf, -np.inf, 0
    for chunk in chunks(items):
        finite = np.isfinite(chunk).reshape(len(chunk), -1).all(axis=1)
        if not finite.all():
            index = start + int(np.argmin(finite))
            raise OrnsteinError(f"Item {index} of {source} holds NaN or infinite numbers; remove it or mend it.")
        low, high, start = min(low, float(chunk.min())), max(high, float(chunk.max())), start + len(chunk)
    return low, high
