"""Linear operators on images (B, C, H, W): an image seen through a lens, on a coarse sensor, behind a mask."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Blur:
    """Convolution with a Gaussian of standard deviation `width` in pixels, cut off at 3; the border is repeated outwards.

    (B, C, H, W) to the same shape. Raises ValueError for a width that is not positive.
    """

    width: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.width < math.inf:
            raise ValueError(f"Blur: width = {self.width} must be positive, a standard deviation in pixels")

    def __call__(self, x: Tensor) -> Tensor:
        radius = math.ceil(3 * self.width)
        places = torch.arange(-radius, radius + 1, dtype=x.dtype, device=x.device)
        kernel = torch.exp(-0.5 * (places / self.width) ** 2)
        kernel = (kernel / kernel.sum()).expand(x.shape[1], 1, 1, -1)
        padded = F.pad(x, [radius] * 4, mode="replicate")
        rows = F.conv2d(padded, kernel, groups=x.shape[1])
        return F.conv2d(rows, kernel.transpose(2, 3), groups=x.shape[1])


@dataclass(frozen=True)
class Downsample:
    """The mean of each square of factor × factor pixels: (B, C, H, W) to (B, C, H/factor, W/factor).

    Raises ValueError for a factor below 1, or one that does not divide the sides.
    """

    factor: int = 2

    def __post_init__(self) -> None:
        if self.factor < 1:
            raise ValueError(f"Downsample: factor = {self.factor} must be a whole number, 1 or more")

    def __call__(self, x: Tensor) -> Tensor:
        if x.shape[-2] % self.factor or x.shape[-1] % self.factor:
            raise ValueError(f"Downsample: {self.factor} does not divide the sides {x.shape[-2]} and {x.shape[-1]}")
        return F.avg_pool2d(x, self.factor)


@dataclass(frozen=True, eq=False)
class Mask:
    """x where `mask` is 1, and 0 elsewhere: to the same shape. `mask` holds 0 and 1 and broadcasts against x (B, ...)."""

    mask: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        return x * self.mask.to(x)


@dataclass(frozen=True, eq=False)
class Rescale:
    """What another operator gives, times `scale`, which broadcasts against it: for noise that is not the same everywhere.

    y = A(x) + n with n of deviation s in each place is y/s = A(x)/s + ε with ε ~ N(0, I).
    """

    operator: Callable[[Tensor], Tensor]
    scale: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        return self.operator(x) * self.scale.to(x)
