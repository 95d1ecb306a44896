"""Images mirrored, moved, scaled and turned in training; none of it leaks into samples (Karras et al. 2022, appendix F).

What was done is a vector condition, zero for an image as it is; sampling gives no vector, which is zero.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

NUMBERS = 9
"""Uniform numbers in [0, 1) that one image's augmentation takes."""
WIDTH = 6
"""Length of the vector: mirrored, moved right, moved down, log of the scale, cosine of the angle less 1, its sine."""


@dataclass(frozen=True)
class Augment:
    """Each of mirroring, moving by whole pixels (up to an eighth of a side), scaling (by 2^{0.2 N(0,1)}) and turning (by any
    angle) is done with a probability of its own; where nothing is, the image stays bit for bit."""

    probability: float = 0.12

    def __call__(self, x: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Images (B, C, H, W) and uniform numbers (B, NUMBERS) -> augmented images and vectors (B, WIDTH)."""
        chosen, how = (numbers[:, :4] < self.probability).to(x), numbers[:, 4:].to(x)
        mirrored = chosen[:, 0] * (how[:, 0] < 0.5)
        reach = torch.tensor([x.shape[3] // 8, x.shape[2] // 8]).to(x)
        moved = chosen[:, 1:2] * ((2 * how[:, 1:3] - 1) * reach).round()  # pixels: right, down
        octaves = chosen[:, 2] * torch.special.ndtri(how[:, 3].clamp(1e-6, 1 - 1e-6))  # in fifths
        angle = chosen[:, 3] * 2 * math.pi * (how[:, 4] - 0.5)
        vector = torch.stack(
            [mirrored, *(moved / reach.clamp(min=1)).unbind(1), octaves, angle.cos() - 1, angle.sin()], dim=1
        )
        changed = (vector != 0).any(1)
        if not bool(changed.any()):
            return x, vector
        # grid_sample asks, for each place of the result, for the place it came from: the inverse map
        maps, some = _inverse(mirrored, octaves, angle, moved, (x.shape[3], x.shape[2]))[changed], x[changed]
        grid = F.affine_grid(maps, list(some.shape), align_corners=False)
        made = F.grid_sample(some, grid, mode="bicubic", padding_mode="border", align_corners=False)
        made = torch.clamp(made, some.amin((1, 2, 3), True), some.amax((1, 2, 3), True))  # bicubic overshoots
        return x.index_put((changed.nonzero()[:, 0],), made), vector


def _inverse(mirrored: Tensor, octaves: Tensor, angle: Tensor, moved: Tensor, size: tuple[int, int]) -> Tensor:
    """Maps (B, 2, 3) from places of the result to places of the image, in grid_sample's units (−1 to 1 from side to side)."""
    half = torch.tensor(size).to(moved) / 2
    scale = torch.exp2(-0.2 * octaves)
    cos, sin = angle.cos() * scale, angle.sin() * scale
    turn = torch.stack([torch.stack([cos, sin], 1), torch.stack([-sin, cos], 1)], 1)  # in pixels about the centre
    turn = torch.stack([1 - 2 * mirrored, torch.ones_like(mirrored)], 1).unsqueeze(2) * turn
    offset = -(turn @ moved.unsqueeze(2))
    return torch.cat([turn * half / half.unsqueeze(1), offset / half.unsqueeze(1)], 2)
