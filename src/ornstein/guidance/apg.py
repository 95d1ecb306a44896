"""Adaptive projected guidance (Sadat et al. 2024, "Eliminating oversaturation and artifacts of high guidance scales")."""

from dataclasses import dataclass

from torch import Tensor

from ornstein.estimate import Estimate
from ornstein.guidance.contrast import Contrast
from ornstein.guidance.guided_denoiser import inner, move_clean, ratio
from ornstein.path import Time


@dataclass(frozen=True, eq=False)
class APG(Contrast):
    """clean = D_c + (w − 1)·(Δ⊥ + η·Δ∥),  Δ = D_c − D_u  (the paper's algorithm 1, D the estimate of clean data).

    Δ∥ is the part of Δ along D_c, which mostly adds contrast; `parallel` η = 0 leaves it out and η = 1 is classifier-free
    guidance. `radius` r shrinks Δ to that norm where it is longer, Δ·min(1, r/‖Δ‖); None does not. All per sample. The paper's
    momentum is left out: a denoiser knows x_t and t, not earlier calls. Raises ValueError for a radius that is not positive.
    Source: Sadat et al. 2024.
    """

    parallel: float = 0.0
    radius: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.radius is not None and not self.radius > 0:
            raise ValueError(f"APG: radius = {self.radius} must be positive; None does not limit the difference")

    def combine(self, t: Time, scale: float | Tensor, conditional: Estimate, unconditional: Estimate) -> Estimate:
        clean = conditional.clean
        gap = clean - unconditional.clean
        if self.radius is not None:
            gap = gap * ratio(inner(gap, gap).new_tensor(self.radius), inner(gap, gap).sqrt(), 1.0).clamp(max=1)
        along = ratio(inner(gap, clean), inner(clean, clean), 0.0) * clean
        return move_clean(self.path, conditional, t, (scale - 1) * (gap + (self.parallel - 1) * along))


CONTRASTS = (APG,)
