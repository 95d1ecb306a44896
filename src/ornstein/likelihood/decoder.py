"""Decoders: log p(x | x_t) of the data itself from the lowest noise level that a bound uses, given E[x | x_t] and σ/α there."""

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ornstein.exact import LOG_2PI


class Decoder(Protocol):
    """log p(x | x_t) (B,) in nats from x and the estimate `clean`, both (B, ...), and `ratio` = σ/α."""

    def __call__(self, x: Tensor, clean: Tensor, ratio: float) -> Tensor: ...


@dataclass(frozen=True)
class GaussianDecoder:
    """N(x; clean, (σ/α)²I): a density, for data that are no whole numbers."""

    def __call__(self, x: Tensor, clean: Tensor, ratio: float) -> Tensor:
        size = math.prod(x.shape[1:])
        return -0.5 * (((x - clean) / ratio).flatten(1).square().sum(1) + size * (LOG_2PI + 2 * math.log(ratio)))


@dataclass(frozen=True)
class Discretised:
    """log P(bin of x), (B,) nats for x (B, ...), under N(clean, (σ/α)²): Φ over [x − w/2, x + w/2] (Ho et al. 2020, equation 13).

    `width` is that of a level, which may differ by dimension. The bins of `low` and
    `high`, the ends of the data's range, reach to infinity.
    Raises ValueError where these are no range.
    """

    width: float | Tensor
    low: float = -1.0
    high: float = 1.0

    def __post_init__(self) -> None:
        if not (bool(torch.as_tensor(self.width > 0).all()) and self.low < self.high):
            raise ValueError(f"Discretised: width = {self.width}, low = {self.low}, high = {self.high} are no levels")

    def __call__(self, x: Tensor, clean: Tensor, ratio: float) -> Tensor:
        off, half = (x - clean).double(), self.width / 2
        below = torch.where(x < self.low + half, -math.inf, (off - half) / ratio)
        above = torch.where(x > self.high - half, math.inf, (off + half) / ratio)
        # by the tail in which the bin lies, where differences of Φ keep their digits
        flip = off > 0
        below, above = torch.where(flip, -above, below), torch.where(flip, -below, above)
        top, bottom = torch.special.log_ndtr(above), torch.special.log_ndtr(below)
        return (top + torch.log1p(-torch.exp(bottom - top))).flatten(1).sum(1).to(x.dtype)
