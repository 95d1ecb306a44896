"""The density at t = 1, where the ODE ends: log p_1 of x (B, ...), in nats, as a function of denoiser and x.

On a path with α(1) = 0 it is N(0, σ²I), and all three agree. Where some signal is left at t = 1 the true marginal is not that.
The prior term of a bound is what an item leaves there: KL(q(x_1 | x) ‖ p(x_1)) with q(x_1 | x) = N(αx, σ²I).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ornstein.denoiser import Denoiser
from ornstein.exact import LOG_2PI, Exact
from ornstein.likelihood.trace import graph, vjps

Prior = Callable[[Denoiser, Tensor], Tensor]
LARGE = 64  # dimensions up to which Jacobians are made whole


def standard(denoiser: Denoiser, x: Tensor) -> Tensor:
    """log N(x; 0, σ(1)²I), (B,) nats for x (B, ...): the noise from which `sample` starts."""
    _, sigma = denoiser.path.levels(1.0, x)
    return _normal(x / sigma) - math.prod(x.shape[1:]) * sigma.log()


def matched(denoiser: Denoiser, x: Tensor) -> Tensor:
    """log N(x; αm, V), (B,) nats for x (B, ...), with the mean and covariance that the denoiser itself estimates at t = 1.

    It is a density, as m and V do not depend on x.

    V = σ²H⁻¹ with H = I − α·∂E[x | x_1]/∂x_1 at αm (Tweedie's formula, second order), symmetric and with its eigenvalues kept
    within [½, 1]. It is exact for Gaussian data. In more than 64 dimensions V = σ²I, whose part of the error is
    ¼(α/σ)⁴‖Cov[x]‖² nats on average: 5e-10 (VP) to 6e-6 (scaled-linear β) for each dimension of unit variance.
    """
    alpha, sigma = (float(level) for level in denoiser.path.levels(1.0, x))
    size = math.prod(x.shape[1:])
    if alpha == 0:
        return standard(denoiser, x)
    middle = alpha * centre(denoiser, x)
    if size > LARGE:
        return _normal((x - middle) / sigma) - size * math.log(sigma)
    leaf, clean = graph(lambda y: denoiser(y, 1.0).clean, middle)
    units = torch.eye(size, dtype=x.dtype, device=x.device)
    jacobian = vjps(clean, leaf, units[:, None].expand(-1, len(x), -1).reshape(-1, *x.shape)).flatten(2).movedim(0, 1)
    values, vectors = torch.linalg.eigh(units - alpha * (jacobian + jacobian.mT) / 2)
    values = values.clamp(0.5, 1.0)

    def turned(y: Tensor) -> Tensor:  # in the eigenvectors
        return torch.einsum("bji,bj->bi", vectors, y.flatten(1))

    # one Newton step from αE[x | x_1 = αm] to the middle, where the score is 0
    off = turned(x - middle) + turned(middle - alpha * clean.detach()) / values
    return _normal(off * values.sqrt() / sigma) + 0.5 * values.log().sum(1) - size * math.log(sigma)


class PriorTerm(Protocol):
    """KL(q(x_1 | x) ‖ p(x_1)) (B,) in nats of items x (B, ...)."""

    def __call__(self, denoiser: Denoiser, x: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class CentredPrior:
    """p(x_1) = N(αm, σ²I), m the denoiser's own estimate of the mean of the data: the KL is ½(α/σ)²‖x − m‖²."""

    def __call__(self, denoiser: Denoiser, x: Tensor) -> Tensor:
        alpha, sigma = denoiser.path.levels(1.0, x)
        return 0.5 * (alpha / sigma) ** 2 * (x - centre(denoiser, x)).flatten(1).square().sum(1)


@dataclass(frozen=True)
class NormalPrior:
    """p(x_1) = N(0, vI) with v = α² + σ², which is N(0, I) on every variance preserving path: DDPM's L_T (Ho et al. 2020,
    equation 5), KL = ½(α²‖x‖²/v + D(σ²/v − 1 − log(σ²/v))).

    With it the bound is that of the model which starts from such noise.
    """

    def __call__(self, denoiser: Denoiser, x: Tensor) -> Tensor:
        alpha, sigma = denoiser.path.levels(1.0, x.double())
        signal = alpha**2 / (alpha**2 + sigma**2)  # σ²/v = 1 − signal
        rest = -signal - torch.log1p(-signal)
        squares = x.double().flatten(1).square().sum(1) / (alpha**2 + sigma**2)
        return (0.5 * (alpha**2 * squares + math.prod(x.shape[1:]) * rest)).to(x.dtype)


def known(denoiser: Denoiser, x: Tensor) -> Tensor:
    """log p_1(x), (B,) nats for x (B, ...), of a denoiser in closed form. Raises TypeError for one that does not know it."""
    if not isinstance(denoiser, Exact):
        raise TypeError(f"known: {type(denoiser).__name__} does not know its density; use likelihood.matched")
    return denoiser.log_prob(x, 1.0)


def default(denoiser: Denoiser) -> Prior:
    """`known` for denoisers in closed form, `matched` for all others."""
    return known if isinstance(denoiser, Exact) else matched


def centre(denoiser: Denoiser, x: Tensor) -> Tensor:
    """E[x | x_1 = 0], shaped as x: the mean of the data up to (α/σ)² of its size."""
    with torch.no_grad():
        return denoiser(torch.zeros_like(x), 1.0).clean


def _normal(x: Tensor) -> Tensor:
    return -0.5 * (x.flatten(1).square().sum(1) + LOG_2PI * math.prod(x.shape[1:]))
