"""A residual network for vectors, modulated by time and condition.

h = W x
h ← h + MLP_k( LN(h)·(1 + scale_k(c)) + shift_k(c) ),   k = 1 … depth
output = W' ( LN(h)·(1 + scale(c)) + shift(c) )

with scales and shifts linear in c, the silu of the embedding of time and condition.

With `linear` the vector condition y enters beside x, h = W [x, y], and a path without the blocks is added to the output:

output = … + W'' ( h_0·(1 + gain(c)) ),   h_0 = W [x, y]

What a denoiser of Gaussian data is, linear in (x, y) with factors that change with time, is among these functions, and the blocks
learn what is left.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch.nn.functional as F
from torch import Tensor, nn

from .codes import Codes
from .embedding import SLOW, Condition, Conditioning, concat_image, concat_vector
from .layers import modulate, pick, xavier_, zero_

PRESETS: dict[str, dict[str, Any]] = {
    "mini": {"width": 64, "depth": 2, "linear": True},
    "tiny": {"width": 128, "depth": 3},
    "small": {"width": 256, "depth": 4},
    "tiny-linear": {"width": 128, "depth": 3, "linear": True},
    "small-linear": {"width": 256, "depth": 4, "linear": True},
}


class _Block(nn.Module):
    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulation = nn.Linear(width, 2 * width)
        self.inner = nn.Linear(width, 2 * width)
        self.dropout = nn.Dropout(dropout)
        self.outer = nn.Linear(2 * width, width)
        xavier_(self)
        zero_(self.modulation)

    def forward(self, h: Tensor, c: Tensor) -> Tensor:
        shift, scale = self.modulation(c).chunk(2, dim=-1)
        y = F.silu(self.inner(modulate(self.norm(h), shift, scale)))
        return h + self.outer(self.dropout(y))


class MLP(nn.Module):
    """Residual multilayer perceptron: x (B, D), t () or (B,) -> (B, D) or (B, out_channels).

    Its blocks are DiT's without attention (adaptive layer norm; Peebles & Xie 2022, section 3.2).
    The output is zero at first.
    """

    config: dict[str, Any]

    def __init__(
        self,
        dim: int,
        width: int = 256,
        depth: int = 4,
        classes: int = 0,
        vector: int = 0,
        dropout: float = 0.0,
        fourier: float = 0.0,
        frequencies: Sequence[float] = SLOW,
        out_channels: int | None = None,
        image: int = 0,
        aim: bool = False,
        codes: Mapping[str, Any] | None = None,
        linear: bool = False,
    ) -> None:
        """dim: D; classes, vector, fourier, frequencies, aim: as in `Conditioning`; out_channels: of the output (None: D).

        image: channels of an image as condition, which are vectors beside x here, (B, image, D). codes: data_std and states of
        `Codes`, with which it predicts the rows of a table.
        linear: a path beside the blocks, linear in x and the vector condition.
        """
        super().__init__()
        self.config = {
            "dim": dim,
            "width": width,
            "depth": depth,
            "classes": classes,
            "vector": vector,
            "dropout": dropout,
            "fourier": fourier,
            "frequencies": list(frequencies),
            "out_channels": out_channels,
            "image": image,
            "aim": aim,
            "linear": linear,
            "codes": None if codes is None else dict(codes),
        }
        self.takes_aim = aim
        self.codes = None if codes is None else Codes(dim, **codes)
        self.dim, self.classes, self.image = dim, classes, image
        self.conditioning = Conditioning(width, width, classes, vector, fourier, frequencies, aim)
        self.joined = vector if linear else 0
        self.stem = xavier_(nn.Linear((1 + image) * dim + self.joined, width))
        self.blocks = nn.ModuleList(_Block(width, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulation = zero_(nn.Linear(width, 2 * width))
        self.head = zero_(nn.Linear(width, out_channels or dim))
        self.gain = zero_(nn.Linear(width, width)) if linear else None
        self.tail = zero_(nn.Linear(width, out_channels or dim, bias=False)) if linear else None

    @staticmethod
    def fitted(shape: Sequence[int]) -> dict[str, Any]:
        """The arguments by which it fits items of shape (D,)."""
        return {"dim": shape[0]}

    @classmethod
    def preset(cls, name: str, dim: int, classes: int = 0, vector: int = 0, **overrides: Any) -> Self:
        """`mini` (0.071 M parameters in 2 dimensions, with a linear path), `tiny` (0.363 M), `small` (1.84 M), and with that path
        `tiny-linear` (0.380 M) or `small-linear` (1.91 M), with any other argument by its name.

        Raises ValueError for an unknown name.
        """
        return cls(dim, classes=classes, vector=vector, **(pick(PRESETS, name, cls.__name__) | overrides))

    def forward(self, x: Tensor, t: Tensor, condition: Condition = None, aim: Tensor | None = None) -> Tensor:
        """x: (B, D); t: () or (B,) in [0, 1]; condition: see `Condition`; aim: () or (B,), how far a jump goes.

        Raises ValueError for what does not fit.
        """
        if x.ndim != 2 or x.shape[1] != self.dim:
            raise ValueError(f"x must have shape (B, {self.dim}), not {tuple(x.shape)}")
        c = F.silu(self.conditioning(t, condition, x.shape[0], aim))
        seen = concat_image(x.unsqueeze(1), condition, self.image).flatten(1)
        h = start = self.stem(concat_vector(seen, condition, self.joined))
        for block in self.blocks:
            h = block(h, c)
        shift, scale = self.modulation(c).chunk(2, dim=-1)
        out: Tensor = self.head(modulate(self.norm(h), shift, scale))
        if self.gain is not None and self.tail is not None:
            out = out + self.tail(start * (1 + self.gain(c)))
        return out if self.codes is None else self.codes(out, x, t)
