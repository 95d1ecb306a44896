"""An image as condition, which the network sees besides x_t: what a degradation leaves of each training image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ornstein.conditions.condition import Condition, require
from ornstein.degradations import DEGRADATIONS, Degradation, Grey, LowRes, RandomMask
from ornstein.errors import UsageError

if TYPE_CHECKING:
    from ornstein.data.dataset import Dataset
    from ornstein.data.spec import DataSpec


@dataclass(frozen=True)
class ImageCondition(Condition):
    """A degraded image, (B, C' + 1, H, W): its channels, 0 where unknown, and a channel that is 1 where known.

    The null condition is 0 everywhere: no pixel is known (as in Saharia et al. 2022, "Palette", whose tasks these are).
    """

    degradation: Degradation
    shape: tuple[int, ...]

    names = ("image", "mask")
    place = 90

    def __post_init__(self) -> None:
        sides = len(self.shape) == 3 and all(type(n) is int and n > 0 for n in self.shape)
        require(sides, f"the shape of an image condition is {self.shape}")
        self.degradation.check(self.shape)

    @property
    def numbers(self) -> int:  # type: ignore[override]
        return self.degradation.numbers

    @property
    def arguments(self) -> dict[str, int]:
        return {"image": self.degradation.channels(self.shape[0]) + 1}

    @property
    def description(self) -> str:
        return f"an image, {self.degradation}"

    def null(self, count: int) -> Tensor:
        return torch.zeros(count, self.degradation.channels(self.shape[0]) + 1, *self.shape[1:])

    def missing(self, dataset: Dataset) -> str:
        return "" if dataset.spec.shape == self.shape else f"lacks images of shape {self.shape}"

    def of(self, dataset: Dataset, indices: NDArray[np.int64], x: Tensor, numbers: Tensor) -> Tensor:
        left, mask = self.degradation(x, numbers)
        return torch.cat([left * mask, mask], 1)

    def named(self, value: Any) -> dict[str, Any]:
        pair = isinstance(value, tuple) and len(value) == 2
        return dict(zip(("image", "mask"), value, strict=True)) if pair else {"image": value}

    def visible(self, rows: Tensor) -> Tensor:
        """The condition as images (B, C, H, W) to look at, in model units: grey where no pixel is known."""
        left = rows[:, :-1] * rows[:, -1:]
        channels = self.shape[0]
        if left.shape[1] == channels:
            return left
        colour = left.expand(-1, min(channels, 3), -1, -1)
        return torch.cat([colour, torch.ones_like(left)], 1) if channels == 4 else colour

    def requested(self, values: Mapping[str, Any], count: int, spec: DataSpec) -> Tensor:
        """`values["image"]`: an image, or one for each sample, in the units of the data: whole (H, W, C), which the task is then

        Raises UsageError that says what is wrong.
        done to, or what is left of it. `values["mask"]` (H, W), not 0 where it is hidden, for inpainting."""
        if "image" not in values:
            raise UsageError("condition: a mask needs the image that it belongs to; give both")
        x = self._read(values["image"], spec)
        if x.shape[1:] == self.shape:
            left, mask = self._whole(x, values.get("mask"))
        else:
            left = self.degradation.widened(x, self.shape)
            mask = torch.ones_like(left[:, :1])
        if values.get("mask") is not None and not isinstance(self.degradation, RandomMask):
            raise UsageError(
                f"condition: this run was trained with --degradation {self.degradation}, which takes no mask; leave it out"
            )
        rows = torch.cat([left * mask, mask], 1)
        if len(rows) not in (1, count):
            raise UsageError(f"condition: {len(rows)} images for {count} samples; give one, or one for each")
        return rows.expand(count, -1, -1, -1)

    def _read(self, image: Any, spec: DataSpec) -> Tensor:
        """Images in the units of the data to model units, (B, C, H, W) of the whole or of what is left."""
        array = np.asarray(image)
        whole, left = self.shape, self.degradation.left(self.shape)
        for channels, height, width in (whole, left):
            if array.ndim >= 3 and spec.shape == (channels, height, width) and array.shape[-3:] == spec.item_shape:
                array = np.moveaxis(
                    array.reshape(-1, *spec.item_shape), [1 + spec.layout[1:].index(a) for a in "HWC"], [1, 2, 3]
                )
            forms = [(height, width, channels), *([(height, width)] if channels == 1 else [])]
            if array.dtype.kind in "biuf" and any(form in (array.shape, array.shape[1:]) for form in forms):
                own = spec.of_shape((channels, height, width))
                x = own.to_model(array.reshape(-1, height, width, channels))
                if bool(x.isfinite().all()):
                    return x
        either = " or ".join(dict.fromkeys(str((*shape[1:], shape[0])) for shape in (whole, left)))
        raise UsageError(f"condition: an image must hold finite numbers and have shape {either}, not {array.shape}")

    def _whole(self, x: Tensor, mask: Any) -> tuple[Tensor, Tensor]:
        if not isinstance(self.degradation, RandomMask):
            return self.degradation(x, torch.zeros(len(x), self.degradation.numbers))
        if mask is None:
            raise UsageError("condition: this run fills in what a mask hides; give the mask with the image")
        hidden = np.asarray(mask)
        hidden = hidden[..., 0] if hidden.ndim > 2 and hidden.shape[-1] == 1 else hidden
        hidden = hidden[None] if hidden.ndim == 2 else hidden
        if hidden.shape not in ((1, *self.shape[1:]), (len(x), *self.shape[1:])):
            raise UsageError(f"condition: the mask must have shape {self.shape[1:]}, not {np.asarray(mask).shape}")
        visible = torch.from_numpy(hidden == 0).to(x).unsqueeze(1).expand(len(x), -1, -1, -1)
        return x * visible, visible

    def to_json(self) -> dict[str, Any]:
        degradation = {"type": type(self.degradation).__name__, **vars(self.degradation)}
        return {"type": "ImageCondition", "degradation": degradation, "shape": list(self.shape)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> ImageCondition:
        fields = dict(values["degradation"])
        degradation: Degradation = DEGRADATIONS[fields.pop("type")](**fields)
        return cls(degradation, tuple(values["shape"]))


ALL = (
    ImageCondition(LowRes(2), (3, 4, 6)),
    ImageCondition(Grey(), (3, 4, 6)),
    ImageCondition(RandomMask(), (1, 4, 6)),
)
