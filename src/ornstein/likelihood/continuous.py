"""The continuous variational bound with its three terms (Kingma et al. 2021, "Variational diffusion models", equations 11–17).

    −log p(x) ≤ KL(q(x_1 | x) ‖ p(x_1)) + ½ ∫ E‖ε − ε̂‖² (−dλ) − E log p(x | x_ε),   the integral from t_ε to 1

With the optimal denoiser the sum over continuous time leaves no gap but that of the prior and of the decoder at t_ε.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ornstein.arguments import Report, as_noise, as_tensor, as_whole, batches, check_denoiser, keywords
from ornstein.denoiser import Denoiser
from ornstein.likelihood import clock
from ornstein.likelihood.decoder import Decoder, GaussianDecoder
from ornstein.likelihood.prior import CentredPrior, PriorTerm
from ornstein.noise import NoiseSource, repeat

SMALLEST = 2e-3  # σ/α of the decoder for data that are no whole numbers
CONTROL = 0.5  # the standard deviation of data for which the control variate is made


class Bound(NamedTuple):
    """Upper bounds on −log p(x), (B,) nats, by their terms, and the standard error that the drawn noise leaves in each.

    `steps` holds the diffusion term's parts, (parts, B): by stratum of the clock, or by step; the noisiest is last. Part k is
    what the times from times[k] to times[k + 1] cost; times (parts + 1,).
    """

    prior: Tensor
    diffusion: Tensor
    reconstruction: Tensor
    probe: Tensor
    steps: Tensor
    times: Tensor

    @property
    def total(self) -> Tensor:
        """The bound (B,)."""
        return self.prior + self.diffusion + self.reconstruction


@keywords
def elbo(
    denoiser: Denoiser,
    x: Tensor,
    *,
    calls: int = 32,
    nearest: float = SMALLEST,
    decoder: Decoder | None = None,
    prior: PriorTerm | None = None,
    noise: NoiseSource | None = None,
    seed: int = 0,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    batch_size: int | None = None,
    progress: Report | None = None,
) -> Bound:
    """The continuous bound for x (B, ...): an unbiased estimate of each term from `calls` + 2 network calls.

    Times are stratified: one uniform in each of `calls` even slices of the likelihood's clock, which is the log-SNR between the
    ends. ‖ε‖² − D, whose mean is 0, is subtracted with the coefficient that leaves no noise for Gaussian data of standard
    deviation ½. The standard error is that of neighbouring slices taken for repetitions of each other, which is never too
    small on average. `nearest` is σ/α at t_ε (a path's own least, where that is more); the reconstruction there is by `decoder`
    (None: Gaussian). `prior` is the density that the model has at t = 1 (None: `CentredPrior()`, N(αm, σ²I) with m its own
    estimate of the mean; `NormalPrior()`: N(0, I)). The other arguments are those of `log_prob`. Raises ValueError for less
    than 2 calls.
    """
    check_denoiser("elbo", denoiser)
    as_whole("elbo: calls", calls, 2)
    x = as_tensor("elbo", "x", x).to(device, dtype)
    decoder, prior = decoder or GaussianDecoder(), prior or CentredPrior()
    return join(
        lambda one, items, source: _elbo(one, items, calls, nearest, decoder, prior, source),
        batches(denoiser, x, as_noise(noise, seed), batch_size),
        progress,
    )


def join(
    compute: Callable[[Denoiser, Tensor, NoiseSource], Bound],
    parts: Sequence[tuple[Denoiser, Tensor, NoiseSource]],
    progress: Report | None,
) -> Bound:
    """The bounds of all batches as one, with progress in items."""
    bounds, done, total = list[Bound](), 0, sum(len(items) for _, items, _ in parts)
    for one, items, source in parts:
        bounds.append(compute(one, items, source))
        done += len(items)
        if progress is not None:
            progress(done, total)
    prior, diffusion, reconstruction, probe, *_ = (torch.cat(some, -1) for some in zip(*bounds, strict=True))
    return Bound(
        prior, diffusion, reconstruction, probe, torch.cat([each.steps for each in bounds], 1), bounds[0].times
    )


def _elbo(
    denoiser: Denoiser, x: Tensor, calls: int, nearest: float, decoder: Decoder, prior: PriorTerm, noise: NoiseSource
) -> Bound:
    path = denoiser.path
    start = clock.nearest(path, nearest)
    first, last = clock.ends(path, start)
    width = (last - first) / calls
    uniform = torch.special.ndtr(noise(torch.zeros(len(x), calls, dtype=torch.float64), 1.0, 0.0)).to(x.device)
    parts = []
    with torch.no_grad():
        for k in range(calls):
            w = first + width * (k + uniform[:, k])
            phi = clock.angle(w)
            eps = repeat(noise, 1 + k)(x, start, start)
            t = clock.time(path, phi).clamp(start, 1.0).to(x.dtype)
            alpha, sigma = path.levels(t, x)
            error = (eps - denoiser(alpha * x + sigma * eps, t).noise).flatten(1).square().sum(1).double()
            rest = (control(phi) * excess(eps)).to(error)
            parts.append((error - rest) * clock.rate(w) / (torch.sin(phi) * torch.cos(phi)) * width)
        terms = torch.stack(parts)
        reconstruction, spread = reconstruct(denoiser, x, start, decoder, noise, calls)
    probe = (neighbours(terms) + spread).sqrt()
    total, reconstruction, probe, terms = (v.to(x.dtype) for v in (terms.sum(0), reconstruction, probe, terms))
    edges = clock.time(path, clock.angle(torch.linspace(first, last, calls + 1, dtype=torch.float64)))
    edges[0], edges[-1] = start, 1.0
    return Bound(prior(denoiser, x), total, reconstruction, probe, terms, edges)


def reconstruct(
    denoiser: Denoiser, x: Tensor, t: float, decoder: Decoder, noise: NoiseSource, stream: int
) -> tuple[Tensor, Tensor]:
    """−E log p(x | x_t) from two draws, (B,), and the variance of that mean."""
    alpha, sigma = denoiser.path.levels(t, x)
    draws = []
    for k in (1, 2):
        eps = repeat(noise, stream + k)(x, t, t)
        clean = denoiser(alpha * x + sigma * eps, t).clean
        value = -decoder(x, clean, float(sigma / alpha)).double()
        draws.append(value - 0.5 * excess(eps) if isinstance(decoder, GaussianDecoder) else value)
    return (draws[0] + draws[1]) / 2, (draws[0] - draws[1]) ** 2 / 4


def control(phi: Tensor) -> Tensor:
    """The part of ε that Gaussian data of standard deviation s leave unexplained, squared: (s²/(s² + tan²φ))²."""
    cosine, sine = (CONTROL * torch.cos(phi)) ** 2, torch.sin(phi) ** 2
    return (cosine / (cosine + sine)) ** 2


def excess(eps: Tensor) -> Tensor:
    """‖ε‖² − D, (B,): of mean 0."""
    return eps.flatten(1).double().square().sum(1) - math.prod(eps.shape[1:])


def neighbours(terms: Tensor) -> Tensor:
    """The variance of Σ terms (K, B) over K, from differences of neighbours in pairs (Wolter 2007, section 8.2)."""
    pairs = (terms[1:] - terms[:-1]).square()
    return pairs.mean(0) * (len(terms) / 2)
