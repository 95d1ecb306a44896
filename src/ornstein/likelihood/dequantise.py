"""Dequantisation: whole-number data get noise within their bins, so that a density bounds their probability.

log P(x) ≥ E_q[log p(y) − log q(y | x)],   y in the bin of x     (Theis et al. 2016, section 3.1; Ho et al. 2019, section 4.1)
"""

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ornstein.exact import LOG_2PI
from ornstein.noise import NoiseSource


class Dequantisation(Protocol):
    """Draws y from q(y | x), shaped as x, with −log q(y | x), (B,) nats; x are the middles of bins of a `width`."""

    def __call__(self, x: Tensor, width: Tensor | float, noise: NoiseSource) -> tuple[Tensor, Tensor]: ...


@dataclass(frozen=True)
class Uniform:
    """y uniform in the bin."""

    def __call__(self, x: Tensor, width: Tensor | float, noise: NoiseSource) -> tuple[Tensor, Tensor]:
        unit = torch.special.ndtr(noise(x, 0.0, 0.0).double())
        widths = torch.as_tensor(width, dtype=torch.float64, device=x.device).expand(x.shape)
        return (x + (unit - 0.5) * widths).to(x.dtype), widths.log().flatten(1).sum(1).to(x.dtype)


@dataclass(frozen=True)
class Truncated:
    """The variational family N(x, std²) within the bin, `std` in the units of x (Zheng et al. 2023, section 4.1).

    With std = σ/α of a time t that is small beside the bin, αy is distributed as the x_t that the network was trained on, and
    log p_t(αy) + D log α bounds as well as any. As std grows it becomes uniform. Raises ValueError unless std is positive.
    """

    std: float

    def __post_init__(self) -> None:
        if not self.std > 0:
            raise ValueError(f"Truncated: std = {self.std} must be positive")

    def __call__(self, x: Tensor, width: Tensor | float, noise: NoiseSource) -> tuple[Tensor, Tensor]:
        half = torch.as_tensor(width, dtype=torch.float64, device=x.device).expand(x.shape) / (2 * self.std)
        inside = torch.special.erf(half / math.sqrt(2))  # the normal's probability of the bin
        unit = torch.special.ndtr(noise(x, 0.0, 0.0).double())
        z = torch.special.ndtri(0.5 + (unit - 0.5) * inside).clamp(-half, half)
        minus_log_q = (0.5 * z.square() + 0.5 * LOG_2PI + math.log(self.std) + inside.log()).flatten(1).sum(1)
        return (x + z * self.std).to(x.dtype), minus_log_q.to(x.dtype)
