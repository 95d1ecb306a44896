"""U-Net for signals, images and volumes: R^{C×spatial} → R^{C×spatial}.

A residual block of the embedding c of time and condition, `skip(x) + conv(dropout(silu(h)))`, has either

    h = norm(conv(silu(norm(x))))·(1 + scale(c)) + shift(c)   adaptive group norm (Dhariwal & Nichol 2021, sec. 3.1)
    h = norm(conv(silu(norm(x))) + shift(c))                  additive (Ho et al. 2020, appendix B)
"""

from collections.abc import Sequence
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention import SpatialAttention
from .embedding import DDPM, SLOW, Condition, Conditioning, concat_image
from .layers import largest_divisor, modulate, pick, xavier_, zero_

PRESETS: dict[str, dict[str, Any]] = {
    "tiny": {"width": 32, "multipliers": (1, 2), "blocks": 1},
    "small": {"width": 32, "multipliers": (1, 2, 3), "blocks": 1, "attention_levels": (2,)},
    "ddpm-cifar10": {
        "width": 128,
        "multipliers": (1, 2, 2, 2),
        "blocks": 2,
        "attention_levels": (1,),
        "head_width": 256,
        "dropout": 0.1,
        "additive": True,
        "group_width": 4,
        "frequencies": DDPM,
    },
}

_CONV: dict[int, type[nn.Conv1d] | type[nn.Conv2d] | type[nn.Conv3d]] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


def _conv(dims: int, inputs: int, outputs: int, kernel: int = 3) -> nn.Conv1d | nn.Conv2d | nn.Conv3d:
    return xavier_(_CONV[dims](inputs, outputs, kernel, padding=kernel // 2))


def _norm(channels: int, width: int, affine: bool = True) -> nn.GroupNorm:
    """At most 32 groups of about `width` channels or more."""
    return nn.GroupNorm(largest_divisor(channels, min(32, channels // width)), channels, eps=1e-6, affine=affine)


class _Residual(nn.Module):
    def __init__(
        self, inputs: int, outputs: int, embedding: int, dims: int, dropout: float, additive: bool, group_width: int
    ) -> None:
        super().__init__()
        self.additive = additive
        self.norm1 = _norm(inputs, group_width)
        self.conv1 = _conv(dims, inputs, outputs)
        self.modulation = xavier_(nn.Linear(embedding, outputs if additive else 2 * outputs))
        self.norm2 = _norm(outputs, group_width, affine=additive)  # otherwise the modulation's bias is the affine map
        self.dropout = nn.Dropout(dropout)
        self.conv2 = zero_(_conv(dims, outputs, outputs))
        self.skip = nn.Identity() if inputs == outputs else _conv(dims, inputs, outputs, kernel=1)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        m = self.modulation(c)
        m = m.view(m.shape + (1,) * (x.ndim - 2))
        h = self.norm2(h + m) if self.additive else modulate(self.norm2(h), *m.chunk(2, dim=1))
        out: Tensor = self.skip(x) + self.conv2(self.dropout(F.silu(h)))
        return out


class _Stage(nn.Module):
    """A residual block and, at the levels chosen, self-attention."""

    def __init__(self, residual: _Residual, attention: SpatialAttention | None) -> None:
        super().__init__()
        self.residual = residual
        self.attention = attention

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        h: Tensor = self.residual(x, c)
        return h if self.attention is None else self.attention(h)


class _Down(nn.Module):
    """Halve every side, rounding up: a convolution of stride 2 with as much padding as the size needs.

    Even sizes are padded at the end alone, as in DDPM's code; odd ones at both ends.
    """

    def __init__(self, dims: int, channels: int) -> None:
        super().__init__()
        self.conv = xavier_(_CONV[dims](channels, channels, 3, stride=2))

    def forward(self, x: Tensor) -> Tensor:
        padding = [side for n in reversed(x.shape[2:]) for side in (n % 2, 1)]
        out: Tensor = self.conv(F.pad(x, padding))
        return out


class _Up(nn.Module):
    """Nearest-neighbour interpolation to the size of the skip connection that follows, then a convolution."""

    def __init__(self, dims: int, channels: int) -> None:
        super().__init__()
        self.conv = _conv(dims, channels, channels)

    def forward(self, x: Tensor, size: torch.Size) -> Tensor:
        out: Tensor = self.conv(F.interpolate(x, size=size, mode="nearest"))
        return out


class UNet(nn.Module):
    """U-Net with adaptive group norm and self-attention: x (B, C, *spatial) -> (B, C or out_channels, *spatial).

    Any sizes, odd and unequal ones too: each level halves them, rounding up. The output is zero at first.
    Source: Ho et al. 2020, appendix B; Dhariwal & Nichol 2021, section 3.
    """

    config: dict[str, Any]

    def __init__(
        self,
        channels: int,
        width: int = 64,
        multipliers: Sequence[int] = (1, 2, 2),
        blocks: int | Sequence[int] = 2,
        attention_levels: Sequence[int] = (),
        dims: int = 2,
        classes: int = 0,
        vector: int = 0,
        dropout: float = 0.0,
        out_channels: int | None = None,
        head_width: int = 64,
        additive: bool = False,
        fourier: float = 0.0,
        frequencies: Sequence[float] = SLOW,
        image: int = 0,
        group_width: int = 16,
        aim: bool = False,
    ) -> None:
        """channels: C; level `i` has `width·multipliers[i]` channels and `blocks` (or `blocks[i]`) residual blocks on the way
        down and one more on the way up.

        attention_levels: the levels that attend, 0 the finest; the middle, at the coarsest size, always does.
        dims: 1, 2 or 3 spatial dimensions. classes, vector, fourier, frequencies, aim: as in `Conditioning`. head_width: channels
        of an attention head, about. additive: DDPM's blocks in place of adaptive group norm. image: channels of an image as
        condition. group_width: channels in a group of the norms, about, as long as that makes no more than 32 groups; with
        multiples of 16 the network is fastest (see `networks.placed`).
        Raises ValueError for a number of dimensions or a level that does not exist.
        """
        super().__init__()
        counts = (blocks,) * len(multipliers) if isinstance(blocks, int) else tuple(blocks)
        self.config = {
            "channels": channels,
            "width": width,
            "multipliers": list(multipliers),
            "blocks": list(counts),
            "attention_levels": list(attention_levels),
            "dims": dims,
            "classes": classes,
            "vector": vector,
            "dropout": dropout,
            "out_channels": out_channels,
            "head_width": head_width,
            "additive": additive,
            "fourier": fourier,
            "frequencies": list(frequencies),
            "image": image,
            "group_width": group_width,
            "aim": aim,
        }
        self.takes_aim = aim
        levels = range(len(multipliers))
        if dims not in _CONV:
            raise ValueError(f"a U-Net has 1, 2 or 3 spatial dimensions, not dims={dims}")
        if not set(attention_levels) <= set(levels):
            raise ValueError(f"attention_levels={tuple(attention_levels)} must lie in 0..{len(multipliers) - 1}")
        if len(counts) != len(multipliers):
            raise ValueError(f"blocks={counts} must name one count for each of the {len(multipliers)} multipliers")
        self.channels, self.dims, self.classes, self.image = channels, dims, classes, image
        embedding = 4 * width
        widths = [width * m for m in multipliers]

        def stage(inputs: int, outputs: int, attend: bool) -> _Stage:
            residual = _Residual(inputs, outputs, embedding, dims, dropout, additive, group_width)
            if not attend:
                return _Stage(residual, None)
            return _Stage(residual, SpatialAttention(_norm(outputs, group_width), outputs, head_width))

        self.conditioning = Conditioning(width, embedding, classes, vector, fourier, frequencies, aim)
        self.stem = _conv(dims, channels + image, width)
        self.down, skips, current = nn.ModuleList(), [width], width
        for level in levels:
            for _ in range(counts[level]):
                self.down.append(stage(current, widths[level], level in attention_levels))
                current = widths[level]
                skips.append(current)
            if level < levels[-1]:
                self.down.append(_Down(dims, current))
                skips.append(current)
        self.middle = nn.ModuleList([stage(current, current, True), stage(current, current, False)])
        self.up = nn.ModuleList()
        for level in reversed(levels):
            for _ in range(counts[level] + 1):
                self.up.append(stage(current + skips.pop(), widths[level], level in attention_levels))
                current = widths[level]
            if level > 0:
                self.up.append(_Up(dims, current))
        self.norm = _norm(current, group_width)
        self.head = zero_(_conv(dims, current, out_channels or channels))

    @staticmethod
    def fitted(shape: Sequence[int]) -> dict[str, Any]:
        """The arguments by which it fits items of shape (C, *spatial)."""
        return {"channels": shape[0]} | ({} if len(shape) == 3 else {"dims": len(shape) - 1})

    @classmethod
    def preset(
        cls, name: str, channels: int = 3, classes: int = 0, vector: int = 0, dims: int = 2, **overrides: Any
    ) -> Self:
        """A network of the table below (small ones with 10 classes), with any other argument by its name.

        ============== ============================ ============ ===================== =================
        name           for                          parameters   GFLOP per image       measured at
        ============== ============================ ============ ===================== =================
        tiny           8×8                          0.705 M      0.0307                1×8×8
        small          28×28 to 64×64               1.91 M       0.467                 1×28×28
        ddpm-cifar10   32×32; Ho et al. 2020        35.7 M       12.4                  3×32×32
        ============== ============================ ============ ===================== =================

        One multiply-accumulate is two floating-point operations. Raises ValueError for an unknown name.
        """
        arguments = pick(PRESETS, name, cls.__name__) | overrides
        return cls(channels, classes=classes, vector=vector, dims=dims, **arguments)

    def forward(self, x: Tensor, t: Tensor, condition: Condition = None, aim: Tensor | None = None) -> Tensor:
        """x: (B, C, *spatial); t: () or (B,) in [0, 1]; condition: see `Condition`; aim: () or (B,), how far a jump goes.

        Raises ValueError for what does not fit.
        """
        if x.ndim != self.dims + 2 or x.shape[1] != self.channels:
            sides = ", ".join("DHW"[3 - self.dims :])
            raise ValueError(f"x must have shape (B, {self.channels}, {sides}), not {tuple(x.shape)}")
        c = F.silu(self.conditioning(t, condition, x.shape[0], aim))
        h = self.stem(concat_image(x, condition, self.image))
        skips = [h]
        for layer in self.down:
            h = layer(h) if isinstance(layer, _Down) else layer(h, c)
            skips.append(h)
        for layer in self.middle:
            h = layer(h, c)
        for layer in self.up:
            if isinstance(layer, _Up):
                h = layer(h, skips[-1].shape[2:])
            else:
                h = layer(torch.cat((h, skips.pop()), dim=1), c)
        out: Tensor = self.head(F.silu(self.norm(h)))
        return out
