"""Moment matching posterior sampling (Rozet et al. 2024, "Learning diffusion priors from observations by EM")."""

from dataclasses import dataclass

from torch import Tensor

from ornstein.editing.conjugate import solve
from ornstein.editing.tweedie import Covariance, PosteriorDenoiser


@dataclass(frozen=True, eq=False)
class MMPS(PosteriorDenoiser):
    """x given x_t is taken as N(E[x | x_t], Σ) with its own covariance Σ = (σ²/α)·J (Tweedie), so that

    ∇log p(y | x_t) ≈ JᵀAᵀ(AΣAᵀ + σ_y²I)⁻¹(y − A(E[x | x_t]))     (section 4.2 of the paper)

    which is exact for Gaussian data. Each of the `iterations` of conjugate gradients is one vector–Jacobian product with the
    network, and one more ends it; a Gaussian of D dimensions needs min(m, D) of them, a network gains little beyond a few,
    and early stopping also tames a Jacobian that is not quite symmetric. Raises ValueError for iterations below 1. Source:
    Rozet et al. 2024.
    """

    iterations: int = 5

    def __post_init__(self) -> None:
        if self.iterations < 1:
            raise ValueError(f"MMPS: iterations = {self.iterations} must be at least 1")

    def shift(self, clean: Tensor, covariance: Covariance, alpha: Tensor, sigma: Tensor) -> Tensor:
        seen, noise = self.measurement.at(clean), self.measurement.noise

        def product(v: Tensor) -> Tensor:
            return seen.forward(covariance(seen.transpose(v))) + noise**2 * v

        return covariance(seen.transpose(solve(product, seen.residual, self.iterations, noise**2)))
