"""Diffusion posterior sampling (Chung et al. 2023, "Diffusion posterior sampling for general noisy inverse problems")."""

from dataclasses import dataclass

from torch import Tensor

from ornstein.editing.tweedie import Covariance, PosteriorDenoiser
from ornstein.guidance.guided_denoiser import inner


@dataclass(frozen=True, eq=False)
class DPS(PosteriorDenoiser):
    """x given x_t is taken for certain, its posterior mean: ∇log p(y | x_t) ≈ −ζ·∇‖y − A(E[x | x_t])‖.

    The likelihood of Gaussian noise, equation 16, has the gradient of ‖·‖²/2σ_y², which ignores the spread of x given x_t and is
    too strong where that spread exceeds σ_y; the paper's steps are therefore divided by the norm of each row's residual
    (algorithm 1 and section 3.3), which is the form here. ζ is to be tuned for a problem: too small forgets y, too large
    oscillates. At ζ = √m/σ_y, m the numbers measured, both forms agree where the residual is all noise.
    Raises ValueError for a ζ that is not positive. Source: Chung et al. 2023.
    """

    zeta: float = 1.0

    def __post_init__(self) -> None:
        if not self.zeta > 0:
            raise ValueError(f"DPS: zeta = {self.zeta} must be positive")

    def shift(self, clean: Tensor, covariance: Covariance, alpha: Tensor, sigma: Tensor) -> Tensor:
        seen = self.measurement.at(clean)
        norm = inner(seen.residual, seen.residual).sqrt()
        unit = seen.residual / norm.clamp_min(1e-30)
        return self.zeta * covariance(seen.transpose(unit))
