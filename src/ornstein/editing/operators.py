"""Linear operators on series (B, C, L), images (B, C, H, W) and volumes (B, C, D, H, W): blur, downsampling, masks, rescaling."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

POOLS = {3: F.avg_pool1d, 4: F.avg_pool2d, 5: F.avg_pool3d}  # by the axes of a batch


@dataclass(frozen=True)
class Blur:
    """A(x) = convolution along each side with a Gaussian of standard deviation `width` in pixels.

    It is cut off at three of these; the border is repeated outwards.

    (B, C, *sides) to the same shape. Raises ValueError for a width that is not positive, and items without sides.
    """

    width: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.width < math.inf:
            raise ValueError(f"Blur: width = {self.width} must be positive, a standard deviation in pixels")

    def __call__(self, x: Tensor) -> Tensor:
        _must_have_sides("Blur", x)
        radius = math.ceil(3 * self.width)
        places = torch.arange(-radius, radius + 1, dtype=x.dtype, device=x.device)
        kernel = torch.exp(-0.5 * (places / self.width) ** 2)
        kernel = (kernel / kernel.sum())[None, None]
        for axis in range(2, x.ndim):
            last = x.movedim(axis, -1)
            lines = F.pad(last.reshape(-1, 1, last.shape[-1]), [radius] * 2, mode="replicate")
            x = F.conv1d(lines, kernel).reshape(last.shape).movedim(-1, axis)
        return x


@dataclass(frozen=True)
class Downsample:
    """A(x) = mean of each block of `factor` pixels a side: (B, C, *sides) to (B, C, *(side/factor)).

    Raises ValueError for a factor below 1, or one that does not divide the sides, and items without sides.
    """

    factor: int = 2

    def __post_init__(self) -> None:
        if self.factor < 1:
            raise ValueError(f"Downsample: factor = {self.factor} must be a whole number, 1 or more")

    def __call__(self, x: Tensor) -> Tensor:
        _must_have_sides("Downsample", x)
        if any(side % self.factor for side in x.shape[2:]):
            raise ValueError(
                f"Downsample: {self.factor} does not divide the sides {' and '.join(map(str, x.shape[2:]))}"
            )
        return POOLS[x.ndim](x, self.factor)


def _must_have_sides(name: str, x: Tensor) -> None:
    """Raises ValueError for what is no series, image or volume."""
    if x.ndim not in POOLS:
        raise ValueError(f"{name}: items of shape {tuple(x.shape[1:])} are no series, images or volumes; use Mask")


@dataclass(frozen=True, eq=False)
class Mask:
    """A(x) = x where `mask` is 1, and 0 elsewhere: to the same shape. `mask` holds 0 and 1 and broadcasts against x (B, ...)."""

    mask: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        return x * self.mask.to(x)

    def seen(self, y: Tensor) -> Tensor:
        """y with 0 where it is hidden; there y may hold anything, NaN included."""
        return torch.where(self.mask.to(y.device) != 0, y, 0.0)


@dataclass(frozen=True, eq=False)
class Rescale:
    """What another operator gives, times `scale`, which broadcasts against it: for noise that is not the same everywhere.

    y = A(x) + n with n of deviation s in each place is y/s = A(x)/s + ε with ε ~ N(0, I).
    """

    operator: Callable[[Tensor], Tensor]
    scale: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        return self.operator(x) * self.scale.to(x)
