"""Estimates of clean data clipped to the range of data (Saharia et al. 2022, "Imagen", section 2.3)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ornstein.denoiser import Denoiser
from ornstein.estimate import Estimate
from ornstein.guidance.guided_denoiser import move_clean
from ornstein.path import Path, Time


@dataclass(frozen=True, eq=False)
class Clip:
    """Static thresholding: clean ← min(max(clean, low), high), and noise = (x_t − α·clean)/σ follows.

    Raises ValueError unless low < high.

    Source: Saharia et al. 2022 (Imagen), section 2.3.
    """

    denoiser: Denoiser
    low: float = -1.0
    high: float = 1.0

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ValueError(f"Clip: low = {self.low} must be below high = {self.high}")

    @property
    def path(self) -> Path:
        return self.denoiser.path

    def __call__(self, x_t: Tensor, t: Time) -> Estimate:
        estimate = self.denoiser(x_t, t)
        return move_clean(self.path, estimate, t, estimate.clean.clamp(self.low, self.high) - estimate.clean)


@dataclass(frozen=True, eq=False)
class DynamicThreshold:
    """Dynamic thresholding: clean ← bound/s·min(max(clean, −s), s), s the `quantile` of |clean| in each sample.

    Only where s exceeds `bound`, the largest absolute value of data. Raises ValueError for a quantile outside (0, 1], or a
    bound that is not positive. Source: Saharia et al. 2022 (Imagen), section 2.3.
    """

    denoiser: Denoiser
    quantile: float = 0.995
    bound: float = 1.0

    def __post_init__(self) -> None:
        if not (0 < self.quantile <= 1 and self.bound > 0):
            raise ValueError(
                f"DynamicThreshold: needs a quantile in (0, 1] and a positive bound, not {self.quantile} and {self.bound}"
            )

    @property
    def path(self) -> Path:
        return self.denoiser.path

    def __call__(self, x_t: Tensor, t: Time) -> Estimate:
        estimate = self.denoiser(x_t, t)
        clean = estimate.clean
        s = torch.quantile(clean.flatten(1).abs().float(), self.quantile, 1).to(clean.dtype).clamp(min=self.bound)
        s = s.reshape(-1, *[1] * (clean.ndim - 1))
        return move_clean(self.path, estimate, t, torch.maximum(torch.minimum(clean, s), -s) * (self.bound / s) - clean)
