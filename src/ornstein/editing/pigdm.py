"""Pseudoinverse-guided diffusion (Song et al. 2023, "Pseudoinverse-guided diffusion models for inverse problems")."""

from dataclasses import dataclass

from torch import Tensor

from ornstein.editing.conjugate import solve
from ornstein.editing.tweedie import Covariance, PosteriorDenoiser


@dataclass(frozen=True, eq=False)
class PiGDM(PosteriorDenoiser):
    """x given x_t is taken as N(E[x | x_t], r²I): ∇log p(y | x_t) ≈ JᵀAᵀ(r²AAᵀ + σ_y²I)⁻¹(y − A(E[x | x_t])), equation 7.

    r² = σ²s²/(α²s² + σ²) is right for isotropic Gaussian data of standard deviation s = `data_std` (the paper's r on its VE path
    has s = 1). No step of its own is to be tuned. An operator that is not linear is linearised at E[x | x_t]. The inverse is by
    conjugate gradients, which ask nothing of the network. Raises ValueError for a data_std that is not positive. Source: Song
    et al. 2023 (ΠGDM).
    """

    data_std: float = 1.0
    iterations: int = 50

    def __post_init__(self) -> None:
        if not self.data_std > 0:
            raise ValueError(f"PiGDM: data_std = {self.data_std} must be positive")

    def shift(self, clean: Tensor, covariance: Covariance, alpha: Tensor, sigma: Tensor) -> Tensor:
        seen, noise = self.measurement.at(clean), self.measurement.noise
        spread = (sigma * self.data_std) ** 2 / ((alpha * self.data_std) ** 2 + sigma**2)

        def product(v: Tensor) -> Tensor:
            return seen.forward(spread * seen.transpose(v)) + noise**2 * v

        return covariance(seen.transpose(solve(product, seen.residual, self.iterations, noise**2)))
