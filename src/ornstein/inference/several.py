"""The posterior of several independent observations from the posteriors of each: scores summed, with the prior's taken away.

p(θ | x_1 … x_n) ∝ Π p(θ | x_i) / p(θ)^(n−1)    (Geffner et al. 2023, "Compositional score modeling")

At noise level t the same holds for what θ_t leaves open, p(θ | θ_t, x_i). Were each of these Gaussian, of mean
m_i = E[θ | θ_t, x_i] and precision P_i = Σ_i⁻¹ + α²/σ², with Σ_i the covariance of p(θ | x_i), then (Linhart et al. 2024,
"Diffusion posterior sampling for simulation-based inference in tall data settings", section 3)

    P = Σ P_i − (n − 1)·P_0        P·m = Σ P_i m_i − (n − 1)·P_0 m_0

which is exact for Gaussians at every level, and the sum of scores for all as σ → 0. Langevin steps at each level correct the
rest.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ornstein.denoiser import Denoiser, Views
from ornstein.estimate import Estimate
from ornstein.path import Path, Time

LEAST = 1e-3  # of the prior's precision that a product has at least


@dataclass(frozen=True, eq=False)
class Product(Views):
    """A denoiser of θ given all: `each(rows)` is that of all observations on n·B rows, observation after observation; `prior` is
    the denoiser without any. `precisions` (n, D, D) and `prior_precision` (D, D) are inverse covariances in model units."""

    each: "Each"
    prior: Denoiser
    precisions: Tensor
    prior_precision: Tensor

    @property
    def path(self) -> Path:
        return self.prior.path

    def __call__(self, x_t: Tensor, t: Time) -> Estimate:
        count = len(self.precisions)
        alpha, sigma = self.path.levels(t, x_t)
        ratio = float((alpha / sigma.clamp(min=1e-6 * float(alpha.max().clamp(min=1e-30)))).flatten()[0]) ** 2
        means = self.each(x_t, t, count).double()
        alone = self.prior(x_t, t).clean.double()
        eye = torch.eye(x_t.shape[1], dtype=torch.float64, device=x_t.device)
        own = self.prior_precision + ratio * eye
        total = self._total() + ratio * eye
        pull = torch.einsum("nij,nbj->bi", self.precisions + ratio * eye, means) - (count - 1) * alone @ own
        clean = torch.linalg.solve(total, pull.T).T.to(x_t.dtype)
        noise = torch.where(sigma > 0, (x_t - alpha * clean) / sigma.clamp(min=1e-12), torch.zeros_like(x_t))
        return Estimate(clean, noise)

    def _total(self) -> Tensor:
        """Σ Σ_i⁻¹ − (n − 1)·Σ_0⁻¹, with its eigenvalues at least a part of the prior's."""
        total = self.precisions.sum(0) - (len(self.precisions) - 1) * self.prior_precision
        values, vectors = torch.linalg.eigh((total + total.T) / 2)
        least = LEAST * float(torch.linalg.eigvalsh(self.prior_precision).min())
        return (vectors * values.clamp(min=least)) @ vectors.T


@dataclass(frozen=True, eq=False)
class Each:
    """E[θ | θ_t, x_i] of all observations, (n, B, D): one call of the network with `rows` (n, …) repeated."""

    bind: object
    rows: Tensor

    def __call__(self, x_t: Tensor, t: Time, count: int) -> Tensor:
        rows = self.rows.repeat_interleave(len(x_t), 0)
        denoiser: Denoiser = self.bind(rows)  # type: ignore[operator]
        clean = denoiser(x_t.repeat(count, *(1,) * (x_t.ndim - 1)), t).clean
        return clean.reshape(count, *x_t.shape)
