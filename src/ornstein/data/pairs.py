"""Pairs (noise, sample) of a run as data that keep their pairing: what `ornstein reflow` makes and learns from.

A folder holds `pairs.json`, which says what they are, and arrays part-00000.npy, ... of (rows, 2, *shape), float32 in model
units: in each row a standard normal noise and the sample that the run drew from it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np
from numpy.typing import NDArray

from ornstein.data.arrays import DAMAGE
from ornstein.data.content import DIGITS, FORM, digest_of, item_bytes
from ornstein.data.dataset import Dataset
from ornstein.data.rows import read_npy
from ornstein.data.spec import DataSpec
from ornstein.errors import OrnsteinError, UsageError
from ornstein.files.reading import read_json

if TYPE_CHECKING:
    from torch import Tensor

ABOUT = "pairs.json"
NUMBERS = 1 << 22  # of a part


@dataclass(frozen=True, eq=False)
class Pairs(Dataset):
    """Samples as items, each with the noise that it was drawn from."""

    pairs: Joined = field(kw_only=True)
    is_paired: ClassVar[bool] = True

    def noise(self, indices: NDArray[np.integer[Any]]) -> Tensor:
        """The noise of items, float32 (B, *shape)."""
        import torch

        return torch.from_numpy(self.pairs[indices][:, 0])

    def batch(
        self, indices: NDArray[np.integer[Any]], flip: Tensor | None = None, wide: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        import torch

        if flip is not None:
            raise ValueError(
                "a sample that is mirrored is not the one of its noise: batch(flip=...) is for data alone."
            )
        x = torch.from_numpy(self.pairs[indices][:, 1])
        return x.double() if wide else x, None if self.labels is None else torch.from_numpy(self.labels[indices])


class Joined:
    """Arrays of so many rows each as one, indexed along the first axis."""

    def __init__(self, parts: list[NDArray[Any]]) -> None:
        self.parts, self.rows = parts, len(parts[0])
        self.shape = (sum(map(len, parts)), *parts[0].shape[1:])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: int | slice | NDArray[Any]) -> NDArray[Any]:
        indices = np.arange(len(self))[key]
        made = np.empty((indices.size, *self.shape[1:]), np.float32)
        places = indices.reshape(-1) // self.rows
        for place in np.unique(places):
            mine = places == place
            made[mine] = self.parts[place][indices.reshape(-1)[mine] - place * self.rows]
        return made if indices.ndim else made[0]


class PairedSamples:
    """The samples of pairs in the data's own type, units and axes, computed where they are looked at."""

    def __init__(self, pairs: Joined, spec: DataSpec) -> None:
        self._pairs, self._spec = pairs, spec
        self.shape, self.dtype = (len(pairs), *spec.item_shape), np.dtype(spec.dtype)

    ndim = property(lambda self: len(self.shape))
    size = property(lambda self: math.prod(self.shape))
    nbytes = property(lambda self: self.size * self.dtype.itemsize)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: int | slice | NDArray[Any]) -> NDArray[Any]:
        import torch

        rows = self._pairs[key]
        single = rows.ndim < len(self._pairs.shape)
        own = self._spec.from_model(torch.from_numpy(rows[None, 1] if single else rows[:, 1]))
        return own[0] if single else own

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return self[:].astype(dtype or self.dtype, copy=False)


def rows_of_part(shape: tuple[int, ...]) -> int:
    """How many pairs of items of a shape make a part."""
    return max(1, NUMBERS // (2 * math.prod(shape)))


def part_file(folder: Path, number: int) -> Path:
    """The file of a part."""
    return folder / f"part-{number:05d}.npy"


def is_pairs(folder: Path) -> bool:
    """Whether a folder holds pairs, whole or begun."""
    return (folder / ABOUT).is_file()


def read_part(file: Path, rows: int, shape: tuple[int, ...]) -> NDArray[Any]:
    """The array of a part. Raises FileNotFoundError where there is none, OrnsteinError for a damaged one."""
    try:
        part = read_npy(file)
    except FileNotFoundError:
        raise
    except DAMAGE as error:
        raise OrnsteinError(
            f"{file} cannot be read ({error}); remove it, and the same `ornstein reflow` makes it anew"
        ) from None
    if part.shape != (rows, 2, *shape) or part.dtype != np.float32:
        raise OrnsteinError(
            f"{file} holds {part.dtype} of shape {part.shape} in place of float32 {(rows, 2, *shape)}; remove it, and the same "
            "`ornstein reflow` makes it anew"
        )
    return part


def open_pairs(folder: Path) -> Pairs:
    """The pairs in a folder. Raises UsageError where they are not all made, OrnsteinError for damage."""
    try:
        about = read_json(folder / ABOUT)
        spec, count = DataSpec.from_json(about["spec"]), int(about["count"])
        labels = about["labels"]
        known = None if labels is None else np.asarray(labels, np.int64)
        if count < 1 or (known is not None and (known.shape != (count,) or not (known >= 0).all())):
            raise ValueError(f"it speaks of {count} pairs and other labels")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OrnsteinError(
            f"{folder / ABOUT} cannot be read ({error}); make the pairs anew in another folder"
        ) from None
    each = rows_of_part(spec.shape)
    try:
        parts = [
            read_part(part_file(folder, i), min(each, count - first), spec.shape)
            for i, first in enumerate(range(0, count, each))
        ]
    except FileNotFoundError as error:
        raise UsageError(f"{folder} lacks {error.filename}; the same `ornstein reflow` makes what is missing") from None
    digest = sha256(f"pairs {count} {spec.shape} {spec.classes}".encode())
    for part in parts:
        digest.update(digest_of(part).encode())
    if known is not None:
        digest.update(item_bytes(known))
    spec = replace(spec, count=count, source=str(folder), content_hash=FORM + digest.hexdigest()[:DIGITS])
    joined = Joined(parts)
    return Pairs(cast("NDArray[Any]", PairedSamples(joined, spec)), known, spec, pairs=joined)
