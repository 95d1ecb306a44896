"""Degradations of images, whose results are conditions of a network. Pure functions of images and uniform numbers."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

LUMA = (0.299, 0.587, 0.114)
"""ITU-R BT.601, as everywhere here."""


class Degradation(Protocol):
    """degradation(x, numbers) -> degraded images (B, C', H, W) of x (B, C, H, W), and a mask (B, 1, H, W), 1 where known.

    Images are in model units; `numbers` (B, n) are uniform on [0, 1). Raises ValueError for images that it does not
    fit (`check`), naming what does.
    """

    numbers: ClassVar[int]

    def channels(self, channels: int) -> int:
        """C' of images of C channels."""
        ...

    def check(self, shape: tuple[int, ...]) -> None:
        """Raises ValueError for a shape (C, H, W) that it does not fit."""
        ...

    def left(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """(C', H', W') of what is left when it is an image of its own, as a user has it."""
        ...

    def widened(self, left: Tensor, shape: tuple[int, ...]) -> Tensor:
        """A degraded image of shape (B, *left(shape)) as the network sees it: (B, C', H, W)."""
        ...

    def __call__(self, x: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]: ...


@dataclass(frozen=True)
class LowRes:
    """The mean of each square of factor × factor pixels, for all of its pixels: super-resolution.

    Raises ValueError for a factor that is no whole number of at least 2.
    """

    factor: int = 4
    numbers: ClassVar[int] = 0

    def __post_init__(self) -> None:
        if type(self.factor) is not int or self.factor < 2:
            raise ValueError(f"low-res: the factor is {self.factor} and must be a whole number, 2 or more")

    def __str__(self) -> str:
        return f"low-res:{self.factor}"

    def channels(self, channels: int) -> int:
        return channels

    def check(self, shape: tuple[int, ...]) -> None:
        _, height, width = shape
        if height % self.factor or width % self.factor:
            raise ValueError(
                f"{self} does not divide {width}x{height}; give another factor, or a --size that it divides"
            )

    def left(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return shape[0], shape[1] // self.factor, shape[2] // self.factor

    def widened(self, left: Tensor, shape: tuple[int, ...]) -> Tensor:
        return F.interpolate(left, scale_factor=float(self.factor), mode="nearest")

    def __call__(self, x: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
        return self.widened(F.avg_pool2d(x, self.factor), tuple(x.shape[1:])), torch.ones_like(x[:, :1])


@dataclass(frozen=True)
class Grey:
    """The luma of a colour image: colourisation."""

    numbers: ClassVar[int] = 0

    def __str__(self) -> str:
        return "grey"

    def channels(self, channels: int) -> int:
        return 1

    def check(self, shape: tuple[int, ...]) -> None:
        if shape[0] not in (3, 4):
            raise ValueError(f"grey needs images in colour, and these have {shape[0]} channel{'s' * (shape[0] != 1)}")

    def left(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return 1, *shape[1:]

    def widened(self, left: Tensor, shape: tuple[int, ...]) -> Tensor:
        return left

    def __call__(self, x: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
        luma = torch.tensor(LUMA).to(x).reshape(1, 3, 1, 1)
        return (x[:, :3] * luma).sum(1, keepdim=True), torch.ones_like(x[:, :1])


@dataclass(frozen=True)
class RandomMask:
    """The image but for a hole of random shape: inpainting.

    The hole is, as likely each: what lies on one side of a straight line, a box, or where a random wave is high. About half of
    the image is hidden on average.
    """

    numbers: ClassVar[int] = 16

    def __str__(self) -> str:
        return "mask"

    def channels(self, channels: int) -> int:
        return channels

    def check(self, shape: tuple[int, ...]) -> None:
        pass

    def left(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return shape

    def widened(self, left: Tensor, shape: tuple[int, ...]) -> Tensor:
        return left

    def __call__(self, x: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
        visible = (~holes(numbers, x.shape[2], x.shape[3]).to(x.device)).to(x).unsqueeze(1)
        return x * visible, visible


def holes(numbers: Tensor, height: int, width: int) -> Tensor:
    """Where images are hidden, boolean (B, H, W), by uniform numbers (B, 16)."""
    n = numbers.double().cpu()[:, :, None, None]
    down = ((torch.arange(height, dtype=torch.float64) + 0.5) / height)[None, :, None]
    right = ((torch.arange(width, dtype=torch.float64) + 0.5) / width)[None, None, :]
    angle = 2 * math.pi * n[:, 1]
    line = (right - 0.5) * angle.cos() + (down - 0.5) * angle.sin() > 0.6 * (n[:, 2] - 0.5)
    tall, wide = 0.3 + 0.6 * n[:, 1], 0.3 + 0.6 * n[:, 2]
    box = ((down - n[:, 3]).abs() < tall / 2) & ((right - n[:, 4]).abs() < wide / 2)
    field = torch.zeros(len(n), height, width, dtype=torch.float64)
    for k in range(4):
        turns = [4 * n[:, 3 * k + i + 1] - 2 for i in range(2)]
        field = field + (2 * math.pi * (turns[0] * right + turns[1] * down + n[:, 3 * k + 3])).cos()
    wave = field > 2 * (n[:, 13] - 0.5)
    kind = n[:, 0]
    return torch.where(kind < 1 / 3, line, torch.where(kind < 2 / 3, box, wave))


DEGRADATIONS: dict[str, Any] = {kind.__name__: kind for kind in (LowRes, Grey, RandomMask)}
