"""The discrete variational bound of a diffusion model (Sohl-Dickstein et al. 2015; Ho et al. 2020, equation 5).

    −log p(x) ≤ KL(q(x_T | x) ‖ p(x_T)) + Σ_i E KL(q(x_{i−1} | x_i, x) ‖ p(x_{i−1} | x_i)) − E log p(x | x_1)

The model's step is the posterior with E[x | x_t] in the place of x, and a variance of choice, or one that the model has learned.
"""

import math
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from ornstein.arguments import Report, as_noise, as_tensor, batches, check_denoiser, keywords
from ornstein.denoiser import Denoiser
from ornstein.grid import explicit
from ornstein.likelihood import clock
from ornstein.likelihood.continuous import SMALLEST, Bound, control, excess, join, neighbours, reconstruct
from ornstein.likelihood.decoder import Decoder, GaussianDecoder
from ornstein.likelihood.prior import CentredPrior, PriorTerm
from ornstein.noise import NoiseSource, repeat
from ornstein.path import Path
from ornstein.variance import divergence, estimated, learned_by

Variance = Callable[[Path, Tensor, Tensor], Tensor]


def small(path: Path, s: Tensor, t: Tensor) -> Tensor:
    """The variance of x_s given x_t and x, DDPM's β̃: the best for data that are a single item."""
    return path.posterior(s, t).sigma ** 2


def large(path: Path, s: Tensor, t: Tensor) -> Tensor:
    """The variance of x_t given x_s, DDPM's β: the best for data N(0, I) on a variance preserving path."""
    return path.transition(s, t).sigma ** 2


@keywords
def bound(
    denoiser: Denoiser,
    x: Tensor,
    *,
    steps: int = 100,
    grid: Tensor | None = None,
    variance: Variance | None = None,
    decoder: Decoder | None = None,
    nearest: float = SMALLEST,
    prior: PriorTerm | None = None,
    noise: NoiseSource | None = None,
    seed: int = 0,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    batch_size: int | None = None,
    progress: Report | None = None,
) -> Bound:
    """The discrete bound for x (B, ...): every step of the grid, with one draw of noise each, and two for the decoder.

    `grid` is a decreasing tensor of times from 1 to 0, such as `grid.trailing(path, T)` for DDPM's own T steps; where σ(0) = 0
    its last step is the decoder's. None: `steps` even steps of the likelihood's clock down to σ/α = `nearest`, then 0.
    `variance` of the model's steps: None takes those that it has learned (`ornstein.variance`), and of one that has not `small`,
    with which a step costs ½(SNR(s) − SNR(t))‖x − x̂‖². Terms, prior, control variate and standard error are as in `elbo`, the
    other arguments as in `log_prob`. Raises ValueError for a grid that does not go from 1 to 0.
    """
    check_denoiser("bound", denoiser)
    x = as_tensor("bound", "x", x).to(device, dtype)
    levels, decoder, prior = (
        _levels(denoiser.path, steps, grid, nearest),
        decoder or GaussianDecoder(),
        prior or CentredPrior(),
    )
    return join(
        lambda one, items, source: _bound(one, items, levels, variance, decoder, prior, source),
        batches(denoiser, x, as_noise(noise, seed), batch_size),
        progress,
    )


def _bound(
    denoiser: Denoiser,
    x: Tensor,
    levels: Tensor,
    variance: Variance | None,
    decoder: Decoder,
    prior: PriorTerm,
    noise: NoiseSource,
) -> Bound:
    path = denoiser.path
    from_t, to_s = levels[:-1], levels[1:]
    is_learned = variance is None and learned_by(denoiser) is not None
    posterior, model = path.posterior(to_s, from_t), (variance or small)(path, to_s, from_t)
    if not bool((model > 0).all()):
        raise ValueError(f"bound: the variance of a step is {float(model.min()):g}; it must be positive")
    true = posterior.sigma**2
    widths = 0.5 * math.prod(x.shape[1:]) * ((model / true).log() + true / model - 1)
    weights = posterior.on_clean**2 / (2 * model)  # of ‖x − clean‖² = (σ/α)²‖ε − E[ε | x_t]‖²
    alphas, sigmas = path.alpha(from_t), path.sigma(from_t)
    ratios = torch.where(alphas > 0, (sigmas / alphas) ** 2, 0.0)  # without signal x − clean does not depend on ε
    controls = weights * ratios * control(torch.atan2(sigmas, alphas))
    parts, times = [], levels.tolist()
    with torch.no_grad():
        for k, (t, s) in enumerate(pairwise(times)):
            alpha, sigma = path.levels(t, x)
            eps = repeat(noise, 1 + k)(x, t, s)
            if is_learned:
                estimate, v = estimated(denoiser, alpha * x + sigma * eps, t)
                nats = divergence(path, to_s[k].to(x), from_t[k].to(x), x, estimate.clean, v)
                parts.append(nats.flatten(1).double().sum(1))
                continue
            off = (x - denoiser(alpha * x + sigma * eps, t).clean).flatten(1).double().square().sum(1)
            parts.append(off * float(weights[k]) - excess(eps) * float(controls[k]) + float(widths[k]))
        terms = torch.stack(parts).flip(0)
        reconstruction, spread = reconstruct(denoiser, x, times[-1], decoder, noise, len(times))
    probe = (neighbours(terms) + spread).sqrt()
    total, reconstruction, probe, terms = (v.to(x.dtype) for v in (terms.sum(0), reconstruction, probe, terms))
    return Bound(prior(denoiser, x), total, reconstruction, probe, terms, levels.flip(0))


def _levels(path: Path, steps: int, grid: Tensor | None, nearest: float) -> Tensor:
    """Times from 1 to that of the decoder, which is the last with noise."""
    if grid is None:
        if steps < 2:
            raise ValueError(f"bound: steps = {steps} must be at least 2")
        last = clock.nearest(path, nearest)
        begin, end = clock.ends(path, last)
        times = clock.time(path, clock.angle(torch.linspace(end, begin, steps + 1, dtype=torch.float64)))
        times[0], times[-1] = 1.0, last
        return times
    times = explicit(grid)
    if times[0] != 1 or times[-1] != 0 or len(times) < 4:
        raise ValueError("bound: a grid goes from t = 1 to 0 in at least 3 steps")
    return times if float(path.sigma(times[-1])) > 0 else times[:-1]
