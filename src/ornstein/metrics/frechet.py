"""Fréchet distance between Gaussian fits of features ("FID" only when they are the original Inception's)."""

from dataclasses import replace

import torch
from torch import Tensor

from ornstein.metrics.metric import NUMERIC, TwoSample
from ornstein.metrics.score import Null, Score, distance, usable

LEAST = 100
ITEMS, OTHERS = 1000, 16  # the pairs that tell the second order


def frechet(samples: Tensor, real: Tensor) -> Score:
    """‖μ_x − μ_y‖² + tr(Σ_x + Σ_y − 2(Σ_x Σ_y)^½) of the fits N(μ, Σ) to features (N, D), (M, D), in float64.

    Dowson and Landau 1982, equation 4; Heusel et al. 2017, equation 6. Biased upwards by about 1/N: compare at equal counts.
    The interval uses its derivative (the Bures gradient): ψ(x) = 2(μ_x − μ_y)ᵀx̃ + x̃ᵀ(I − A)x̃ with x̃ = x − μ_x and A the
    linear map that takes N(0, Σ_x) to N(0, Σ_y), and its second order (see `_second_order`), all that is left at the null.
    Raises UsageError below max(100, 2D) items, where the covariances would be noise, and for items that cannot be compared.
    """
    features = samples.shape[1]
    usable(max(LEAST, 2 * features), f"A Fréchet distance in {features} features", samples=samples, real=real)
    x, y = samples.double(), real.double()
    shift = x.mean(0) - y.mean(0)
    x, y = x - x.mean(0), y - y.mean(0)
    cov_x, cov_y = x.T @ x / (len(x) - 1), y.T @ y / (len(y) - 1)
    root_x, root_y = _root(cov_x), _root(cov_y)
    # with the factors' SVD, Σ_x^½ Σ_y^½ = U S Vᵀ: (Σ_x^½ Σ_y Σ_x^½)^½ = U S Uᵀ and its twin V S Vᵀ, by one decomposition
    u, s, vt = torch.linalg.svd(root_x @ root_y)
    value = shift.square().sum() + cov_x.trace() + cov_y.trace() - 2 * s.sum()
    psi_x = 2 * x @ shift + x.square().sum(1) - _quadratic(x, root_x, u, s)
    psi_y = -2 * y @ shift + y.square().sum(1) - _quadratic(y, root_y, vt.T, s)
    first = float(psi_x.var() / len(x) + psi_y.var() / len(y))
    null = _second_order(x, y)
    score = distance("Fréchet distance", float(value.clamp(min=0)), null, max(first - 2 * null.variance, 0.0))
    return replace(score, low=max(score.low, 0.0))


def _second_order(x: Tensor, y: Tensor) -> Null:
    """The mean and the variance of the distance at the null, from centred items of both sides taken as one distribution.

    With σ the eigenvalues of its covariance and E = Σ_x − Σ_y in its eigenvectors, the distance there is
    ‖μ_x − μ_y‖² + Σ_ij E_ij²/(2(σ_i + σ_j)) to second order, the squared MMD (biased) with the degenerate kernel

        k̃(x, x') = x·x' + Σ_ij x_i x_j x'_i x'_j/(2(σ_i + σ_j)) − ¼(‖x‖² + ‖x'‖² − Σσ).

    So its mean is (1/n + 1/m) E k̃(x, x) and its variance 2(1/n + 1/m)² E k̃(x, x')², here of up to 1000 items, each with 16
    others.
    """
    pooled = torch.cat([x, y])
    values, vectors = torch.linalg.eigh(pooled.T @ pooled / len(pooled))
    there = values > 1e-9 * values.max()
    values = values[there]
    some = pooled[torch.arange(n := min(ITEMS, len(pooled))) * len(pooled) // n] @ vectors[:, there]
    # in items of unit variance Σ_ij is a Cauchy matrix, which has few terms
    parts, axes = torch.linalg.eigh(values[:, None] * values / (2 * (values[:, None] + values)))
    most = parts > 1e-6 * parts.max()
    parts, axes, white, quarter = parts[most], axes[:, most], some / values.sqrt(), some.square().sum(1) / 4

    def kernel(shift: int) -> Tensor:
        pair = (white * white.roll(shift, 0) @ axes).square() @ parts
        return (some * some.roll(shift, 0)).sum(1) + pair - quarter - quarter.roll(shift) + values.sum() / 4

    pairs = torch.stack([kernel(1 + n * k // (2 * OTHERS)) for k in range(OTHERS)])
    scale = 1 / len(x) + 1 / len(y)
    own = kernel(0)
    mean, error = float(own.mean()) * scale, float(own.std()) / len(own) ** 0.5 * scale
    return Null(mean, 2 * float(pairs.square().mean()) * scale**2, mean, error)


def _root(cov: Tensor) -> Tensor:
    """The symmetric square root; what is negative by rounding is 0."""
    values, vectors = torch.linalg.eigh(cov)
    return vectors * values.clamp(min=0).sqrt() @ vectors.T


def _quadratic(x: Tensor, root: Tensor, u: Tensor, s: Tensor) -> Tensor:
    """x̃ᵀ root⁻¹ (U S Uᵀ) root⁻¹ x̃ of each row, with the pseudo-inverse: items have no part where their covariance has none."""
    white = x @ torch.linalg.pinv(root, rtol=1e-6, hermitian=True)
    return ((white @ u).square() * s).sum(1)


METRICS = (TwoSample("frechet", place=20, kinds=NUMERIC, function=frechet, title=lambda extractor: extractor.frechet),)
