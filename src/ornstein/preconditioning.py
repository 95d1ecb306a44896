"""Preconditioning: what a network is called with, network(c_in·x_t, c_noise) (Karras et al. 2022, section 5 and table 1).

c_skip and c_out, what its output means, are the target's: any pair (a, b) on data and noise. `target.EDM` is the paper's.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ornstein.path import Path


class Preconditioning(Protocol):
    """(c_in, c_noise) at times t: the factor on x_t (None: 1) and the time that the network sees, both shaped as t."""

    def __call__(self, path: Path, t: Tensor) -> tuple[Tensor | None, Tensor]: ...


@dataclass(frozen=True)
class Identity:
    """c_in = 1, c_noise = t: the network is called with x_t and t as they are."""

    def __call__(self, path: Path, t: Tensor) -> tuple[Tensor | None, Tensor]:
        return None, t


@dataclass(frozen=True)
class UnitVariance:
    """c_in = 1/√(α²σ_d² + σ²), so that the input has variance 1, and c_noise = 2/π·arctan(σ/α) in [0, 1].

    σ_d is `data_std`. Both depend on the noise level alone (c_in up to the path's scale) and are bounded at both ends, so one
    network serves every path. Raises ValueError for a data_std that is not positive.
    """

    data_std: float

    def __post_init__(self) -> None:
        if not self.data_std > 0:
            raise ValueError(f"UnitVariance: data_std = {self.data_std} must be positive")

    def __call__(self, path: Path, t: Tensor) -> tuple[Tensor | None, Tensor]:
        alpha, sigma = path.alpha(t), path.sigma(t)
        return ((alpha * self.data_std) ** 2 + sigma**2).rsqrt(), torch.atan2(sigma, alpha) * (2 / torch.pi)


ALL: tuple[Preconditioning, ...] = (Identity(), UnitVariance(0.5))
