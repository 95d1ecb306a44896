"""A transformer over the columns of vectors: one token a column, DiT's blocks (Peebles & Xie 2022), no order but by embeddings.

A dimension d of column k, with what is known of it, enters its token by a map of its own, and leaves it by another:

    h_k = e_k + Σ_{d in k} W_d [x_d, image_d]        out_d = w_d · ( LN(h_k)·(1 + scale) + shift ) + b_d

as the feature tokens of Gorishniy et al. 2021, "Revisiting deep learning models for tabular data", section 3.3. The output is
zero at first.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .codes import Codes
from .dit import Block
from .embedding import SLOW, Condition, Conditioning, concat_image
from .layers import modulate, pick, zero_

PRESETS: dict[str, dict[str, Any]] = {
    "tiny": {"width": 48, "depth": 3, "heads": 3},
    "small": {"width": 96, "depth": 4, "heads": 4},
}


class ColumnTransformer(nn.Module):
    """Transformer over columns: x (B, D), t () or (B,) -> (B, D) or (B, out_channels)."""

    config: dict[str, Any]

    def __init__(
        self,
        dim: int,
        columns: Sequence[int] = (),
        width: int = 96,
        depth: int = 4,
        heads: int = 4,
        classes: int = 0,
        vector: int = 0,
        dropout: float = 0.0,
        fourier: float = 0.0,
        frequencies: Sequence[float] = SLOW,
        out_channels: int | None = None,
        image: int = 0,
        aim: bool = False,
        codes: Mapping[str, Any] | None = None,
    ) -> None:
        """dim: D; columns: how many dimensions each has, in order (none: one each); the rest as in `MLP` and `DiT`.

        Raises ValueError for columns that do not add up to D, or outputs that are no multiple of it.
        """
        super().__init__()
        outputs, sizes = out_channels or dim, list(columns) or [1] * dim
        if sum(sizes) != dim or min(sizes) < 1:
            raise ValueError(f"columns of {sizes} dimensions do not add up to {dim}")
        self.config = {
            "dim": dim,
            "columns": list(columns),
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
            "codes": None if codes is None else dict(codes),
        }
        self.takes_aim = aim
        self.codes = None if codes is None else Codes(dim, **codes)
        self.dim, self.classes, self.image = dim, classes, image
        self._column = [k for k, size in enumerate(sizes) for _ in range(size)]  # of each dimension
        self.conditioning = Conditioning(2 * width, width, classes, vector, fourier, frequencies, aim)
        self.stem = nn.Parameter(torch.randn(dim, 1 + image, width) / (1 + image) ** 0.5)
        self.embedding = nn.Parameter(torch.randn(len(sizes), width))
        self.blocks = nn.ModuleList(Block(width, heads, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.modulation = zero_(nn.Linear(width, 2 * width))
        self.head = nn.Parameter(torch.zeros(outputs, width))
        self.bias = nn.Parameter(torch.zeros(outputs))

    @staticmethod
    def fitted(shape: Sequence[int]) -> dict[str, Any]:
        """The arguments by which it fits items of shape (D,)."""
        return {"dim": shape[0], "columns": ()}

    @classmethod
    def preset(cls, name: str, dim: int, classes: int = 0, vector: int = 0, **overrides: Any) -> Self:
        """`tiny` (0.144 M parameters in 8 dimensions) or `small` (0.726 M), with any other argument by its name.

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
        seen = concat_image(x.unsqueeze(1), condition, self.image)
        entered = torch.einsum("bcd,dcw->bdw", seen, self.stem.to(seen.dtype))
        h = self._tokens(entered) + self.embedding.to(entered.dtype)
        for block in self.blocks:
            h = block(h, c)
        shift, scale = self.modulation(c).unsqueeze(1).chunk(2, dim=-1)
        h = modulate(self.norm(h), shift, scale)[:, [self._column[i % self.dim] for i in range(len(self.head))]]
        out = (h * self.head.to(h.dtype)).sum(-1) + self.bias.to(h.dtype)
        return out if self.codes is None else self.codes(out, x, t)

    def _tokens(self, entered: Tensor) -> Tensor:
        """What enters by dimensions (B, D, width), added up by columns."""
        if len(self.embedding) == self.dim:
            return entered
        places = torch.tensor(self._column, device=entered.device)
        tokens = entered.new_zeros(len(entered), len(self.embedding), entered.shape[2])
        return tokens.index_add(1, places, entered)
