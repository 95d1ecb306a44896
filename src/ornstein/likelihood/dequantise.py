"""Dequantisation: whole-number data get noise within their bins, so that a density bounds their probability.

log P(x) ≥ E_q[log p(y) − log q(y | x)],   y in the bin of x     (Theis et al. 2016, section 3.1; Ho et al. 2019, section 4.1)
"""

import math
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from ornstein.exact import LOG_2PI
from ornstein.noise import NoiseSource


class Dequantisation(Protocol):
    """Draws y from q(y | x), shaped as x, with −log q(y | x), (B,) nats; x are the middles of bins of a `width`.

    `ratio` is the noise level σ/α where the model's density of y is taken, αy for x_t; 0 is the data's own end of the path.
    """

    @property
    def ratio(self) -> float:
        """The noise added over the width of a bin."""
        ...

    def __call__(self, x: Tensor, width: Tensor | float, noise: NoiseSource) -> tuple[Tensor, Tensor]: ...


@dataclass(frozen=True)
class Uniform:
    """y ~ U(x − w/2, x + w/2), uniform in the bin of width w. Source: Theis et al. 2016, section 3.1."""

    ratio: ClassVar[float] = 0.0

    def __call__(self, x: Tensor, width: Tensor | float, noise: NoiseSource) -> tuple[Tensor, Tensor]:
        unit = torch.special.ndtr(noise(x, 0.0, 0.0).double())
        widths = _spread(width, x)
        return (x + (unit - 0.5) * widths).to(x.dtype), widths.log().flatten(1).sum(1).to(x.dtype)


@dataclass(frozen=True)
class Truncated:
    """N(x, ratio²) within the bin, `ratio` in the units of x (Zheng et al. 2023, section 4.1).

    With ratio = σ/α of a time t, small compared with the bin, αy is distributed as the x_t that the network was trained on, and
    log p_t(αy) + D log α bounds as well as any. As it grows it becomes uniform. Raises ValueError unless it is positive.
    """

    ratio: float

    def __post_init__(self) -> None:
        if not self.ratio > 0:
            raise ValueError(f"Truncated: ratio = {self.ratio} must be positive")

    def __call__(self, x: Tensor, width: Tensor | float, noise: NoiseSource) -> tuple[Tensor, Tensor]:
        half = _spread(width, x) / (2 * self.ratio)
        v, minus_log_q = within(half, torch.zeros_like(half), torch.ones_like(half), noise(x, 0.0, 0.0))
        return (x + v * self.ratio).to(x.dtype), (minus_log_q + math.log(self.ratio) * half[0].numel()).to(x.dtype)


def within(half: Tensor, mean: Tensor, std: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """v ~ N(mean, std²) within ±half, from standard normals by the inverse of its distribution function, and −log q(v), (B,)."""
    low, high = (-half - mean) / std, (half - mean) / std
    inside = torch.special.ndtr(high) - torch.special.ndtr(low)
    below = torch.special.ndtr(low) + torch.special.ndtr(noise.double()) * inside
    z = torch.minimum(torch.maximum(torch.special.ndtri(below), low), high)
    minus_log_q = (0.5 * z.square() + 0.5 * LOG_2PI + std.log() + inside.log()).flatten(1).sum(1)
    return mean + std * z, minus_log_q


def _spread(width: Tensor | float, x: Tensor) -> Tensor:
    return torch.as_tensor(width, dtype=torch.float64, device=x.device).expand(x.shape)
