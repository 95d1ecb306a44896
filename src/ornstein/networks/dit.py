"""Diffusion transformer: patches, fixed sine-cosine positions, blocks with adaLN-Zero (Peebles & Xie 2022, section 3).

With the embedding c of time and condition, and six vectors linear in silu(c) for each block:

    h ← h + gate₁·attention( LN(h)·(1 + scale₁) + shift₁ )
    h ← h + gate₂·mlp( LN(h)·(1 + scale₂) + shift₂ )

The maps from c to the six start at zero, so every block starts as the identity; the output starts at zero.
"""

from collections.abc import Sequence
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention import SelfAttention
from .embedding import DDPM, SLOW, Condition, Conditioning, concat_image, grid_positions
from .layers import modulate, pick, xavier_, zero_

PRESETS: dict[str, dict[str, Any]] = {
    "tiny": {"patch": 2, "width": 96, "depth": 4, "heads": 3},
    "small": {"patch": 4, "width": 192, "depth": 6, "heads": 3},
} | {
    f"{name}/{patch}": {"patch": patch, "width": width, "depth": depth, "heads": heads, "frequencies": DDPM}
    for name, width, depth, heads in (("S", 384, 12, 6), ("B", 768, 12, 12), ("L", 1024, 24, 16), ("XL", 1152, 28, 16))
    for patch in (2, 4, 8)
}


class Block(nn.Module):
    """One block of the transformer: h (B, N, width) and silu(c) (B or 1, width) -> (B, N, width)."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.attention = SelfAttention(width, heads)
        self.mlp = xavier_(
            nn.Sequential(
                nn.Linear(width, 4 * width),
                nn.GELU(),  # the paper's tanh differs by less than 5e-4, and takes two to four times as long on CPUs
                nn.Dropout(dropout),
                nn.Linear(4 * width, width),
            )
        )
        self.modulation = zero_(nn.Linear(width, 6 * width))

    def forward(self, h: Tensor, c: Tensor) -> Tensor:
        """The tokens after attention and MLP, each gated."""
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(c).unsqueeze(1).chunk(6, dim=-1)
        h = torch.addcmul(h, gate1, self.attention(modulate(self.norm(h), shift1, scale1)))
        return torch.addcmul(h, gate2, self.mlp(modulate(self.norm(h), shift2, scale2)))


class DiT(nn.Module):
    """Diffusion transformer: x (B, C, *size) -> (B, C or out_channels, *size), for a size fixed when it is built.

    The paper's networks predict noise and covariance: `out_channels = 2 C`. The output is zero at first. Source: Peebles & Xie
    2022, "Scalable diffusion models with transformers".
    """

    config: dict[str, Any]

    def __init__(
        self,
        channels: int,
        size: int | Sequence[int],
        patch: int = 2,
        width: int = 384,
        depth: int = 12,
        heads: int = 6,
        classes: int = 0,
        vector: int = 0,
        dropout: float = 0.0,
        fourier: float = 0.0,
        frequencies: Sequence[float] = SLOW,
        out_channels: int | None = None,
        image: int = 0,
        aim: bool = False,
    ) -> None:
        """channels: C; size: an integer for square images, else (L,), (H, W), (D, H, W); patch: side of a patch.

        dropout: inside the MLPs. classes, vector, fourier, frequencies, aim: as in `Conditioning`. image: channels of an image as
        condition.
        Raises ValueError when `patch` does not divide the size, `heads` the width, or the width cannot hold positions.
        """
        super().__init__()
        size = (size, size) if isinstance(size, int) else tuple(size)
        self.config = {
            "channels": channels,
            "size": list(size),
            "patch": patch,
            "width": width,
            "depth": depth,
            "heads": heads,
            "classes": classes,
            "vector": vector,
            "dropout": dropout,
            "fourier": fourier,
            "frequencies": list(frequencies),
            "out_channels": out_channels,
            "image": image,
            "aim": aim,
        }
        self.takes_aim = aim
        if any(n % patch for n in size):
            raise ValueError(f"patches of {patch} do not divide the size {size}; resize the data or change the patch")
        self.channels, self.classes, self.size, self.patch, self.image = channels, classes, size, patch, image
        grid = [n // patch for n in size]
        volume = patch ** len(size)
        self.conditioning = Conditioning(256, width, classes, vector, fourier, frequencies, aim)
        self.stem = xavier_(nn.Linear((channels + image) * volume, width))
        self.positions: Tensor
        self.register_buffer("positions", grid_positions(grid, width))
        self.blocks = nn.ModuleList(Block(width, heads, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.modulation = zero_(nn.Linear(width, 2 * width))
        self.head = zero_(nn.Linear(width, (out_channels or channels) * volume))

    @staticmethod
    def fitted(shape: Sequence[int]) -> dict[str, Any]:
        """The arguments by which it fits items of shape (C, *spatial)."""
        return {"channels": shape[0], "size": tuple(shape[1:])}

    @classmethod
    def preset(
        cls, name: str, channels: int, size: int | Sequence[int], classes: int = 0, vector: int = 0, **overrides: Any
    ) -> Self:
        """A network of the table below (small ones with 10 classes), with any other argument by its name.

        ============ ===================== ============ ================= ==============
        name         for                   parameters   GFLOP per image   measured at
        ============ ===================== ============ ================= ==============
        tiny         8×8                   0.724 M      0.0151            1×8×8
        small        28×28 to 32×32        4.17 M       0.275             1×28×28
        S/2 … XL/8   Peebles & Xie 2022    33 … 675 M   see their table 4 4×32×32
        ============ ===================== ============ ================= ==============

        One multiply-accumulate is two floating-point operations here, one in the paper: S/2 costs 6.06 "Gflops" there,
        12.1 GFLOP here. Raises ValueError for an unknown name.
        """
        arguments = pick(PRESETS, name, cls.__name__) | overrides
        return cls(channels, size, classes=classes, vector=vector, **arguments)

    def forward(self, x: Tensor, t: Tensor, condition: Condition = None, aim: Tensor | None = None) -> Tensor:
        """x: (B, C, *size); t: () or (B,) in [0, 1]; condition: see `Condition`; aim: () or (B,), how far a jump goes.

        Raises ValueError for what does not fit.
        """
        if x.shape[1:] != (self.channels, *self.size):
            expected = ", ".join(map(str, (self.channels, *self.size)))
            raise ValueError(f"x must have shape (B, {expected}), not {tuple(x.shape)}")
        c = F.silu(self.conditioning(t, condition, x.shape[0], aim))
        h = self.stem(self._patches(concat_image(x, condition, self.image))) + self.positions
        for block in self.blocks:
            h = block(h, c)
        shift, scale = self.modulation(c).unsqueeze(1).chunk(2, dim=-1)
        return self._image(self.head(modulate(self.norm(h), shift, scale)))

    def _patches(self, x: Tensor) -> Tensor:
        """(B, C', *size) -> (B, N, patch^dims·C'), row-major over patches and within one."""
        dims = len(self.size)
        sides = [side for n in self.size for side in (n // self.patch, self.patch)]
        x = x.reshape(*x.shape[:2], *sides)  # (B, C, h, p, w, p)
        x = x.permute(0, *range(2, 2 + 2 * dims, 2), *range(3, 3 + 2 * dims, 2), 1)  # (B, h, w, p, p, C)
        return x.flatten(1 + dims).flatten(1, dims)

    def _image(self, h: Tensor) -> Tensor:
        """(B, N, patch^dims·C) -> (B, C, *size), the inverse of `_patches`."""
        dims = len(self.size)
        grid = [n // self.patch for n in self.size]
        h = h.reshape(h.shape[0], *grid, *[self.patch] * dims, -1)  # (B, h, w, p, p, C)
        interleaved = [axis for k in range(dims) for axis in (1 + k, 1 + dims + k)]
        return h.permute(0, 1 + 2 * dims, *interleaved).reshape(h.shape[0], -1, *self.size)
