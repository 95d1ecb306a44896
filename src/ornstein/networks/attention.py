"""Multi-head self-attention: `softmax(q kᵀ / √d) v` over the rows of a sequence, d the width of a head.

Source: Vaswani et al. 2017, equation (1) and section 3.2.2; in a U-Net, Ho et al. 2020, appendix B.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import largest_divisor, xavier_, zero_

PLAIN = 1024  # rows up to which training on a CPU keeps the whole matrix of attention


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """`softmax(q kᵀ / √d) v` for q, k, v (B, heads, N, d) of one type.

    The fused kernel, but for short sequences in training on a CPU in half precision: there its backward pass takes more than
    twice as long as that of plain products, whose softmax is computed in float32 and rounded.
    """
    half = q.dtype in (torch.bfloat16, torch.float16)
    if not (half and q.device.type == "cpu" and q.shape[-2] <= PLAIN and torch.is_grad_enabled()):
        return F.scaled_dot_product_attention(q, k, v)
    with torch.autocast("cpu", enabled=False):  # which would compute the softmax of a copy in float32
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
        return scores.softmax(-1) @ v


class SelfAttention(nn.Module):
    """Self-attention on sequences (B, N, C) -> (B, N, C), with biases, without a norm or a residual."""

    def __init__(self, channels: int, heads: int) -> None:
        """Raises ValueError unless `heads` divides `channels`."""
        super().__init__()
        if heads < 1 or channels % heads:
            raise ValueError(f"{heads} attention heads do not divide a width of {channels}; choose a divisor")
        self.heads = heads
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)
        xavier_(self)

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, N, C)."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # (B, heads, N, C/heads) each
        h = attend(q, k, v)
        out: Tensor = self.out(h.transpose(1, 2).flatten(2))
        return out


class SpatialAttention(nn.Module):
    """`x + attention(norm(x))` over all pixels of x (B, C, *spatial), for any number of spatial dimensions.

    `norm` acts on (B, C, *spatial). The output projection starts at zero, so the layer starts as the identity. Heads:
    about `channels / head_width`, at least one, and always a divisor of `channels`.
    """

    def __init__(self, norm: nn.Module, channels: int, head_width: int = 64) -> None:
        super().__init__()
        self.norm = norm
        self.attention = SelfAttention(channels, largest_divisor(channels, channels // head_width))
        zero_(self.attention.out)

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, C, *spatial)."""
        h = self.norm(x).flatten(2).transpose(1, 2)  # (B, N, C): a view when x is channels-last
        return x + self.attention(h).transpose(1, 2).unflatten(2, x.shape[2:])
