"""Exact tilting: samples of p(x)·exp(r(x))/Z by sequential Monte Carlo, where guidance only leans towards high r.

The twisted diffusion sampler (Wu et al. 2023, "Practical and asymptotically exact conditional sampling in diffusion models",
algorithm 1). K particles follow the steps of a solver that adds noise, x_{i+1} = μ_i + R_i·ξ with μ_i from the estimates so
far, pulled by the gradient of a twist ψ_i that stands for E[exp r(x) | x_i]; weights make up for all that the pull and the
twist get wrong,

    ψ_i = exp r(clean(x_i, t_i))        x_{i+1} = μ_i + R_i²·∇log ψ_i(x_i) + R_i·ξ
    w ← w · ψ_{i+1}/ψ_i · N(x_{i+1}; μ_i, R_i²)/N(x_{i+1}; μ_i + R_i²·∇log ψ_i, R_i²),

with systematic resampling of particles and their past estimates where the effective sample size falls. At the end the twist
is exp r(x) itself, so as K grows the weighted particles are samples of the tilted model, and the estimate of Z is unbiased for
any K. The model is what the solver draws on its grid. r may be log p(y | x), with any factor.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ornstein.arguments import as_noise, as_table_solver, as_times, check_denoiser, keywords
from ornstein.denoiser import Denoiser, for_rows
from ornstein.guidance.gradient import gradient
from ornstein.noise import NoiseSource, of_row
from ornstein.sampling import Report, starting
from ornstein.solvers import ERSDE, Solver
from ornstein.solvers.solver import table_of
from ornstein.table import Table


@dataclass(frozen=True, eq=False)
class Tilted:
    """Weighted particles x (K, ...), their normalised log-weights (K,), and what the run says of itself.

    `log_normaliser` estimates log Z = log E[exp r(x)], nats. `effective` is the effective sample size 1/Σw² before each step
    and at the end: far below K, more particles are needed.
    """

    x: Tensor
    log_weights: Tensor
    log_normaliser: float
    effective: tuple[float, ...]

    def expectation(self, f: Callable[[Tensor], Tensor]) -> Tensor:
        """Σ_k w_k·f(x)_k for f that keeps the first axis."""
        values = f(self.x)
        return torch.tensordot(self.log_weights.exp().to(values), values, 1)

    def draw(self, seed: int = 0) -> Tensor:
        """K unweighted samples, by systematic resampling: some particles several times, some not at all."""
        return self.x[systematic(self.log_weights, torch.Generator().manual_seed(seed))]


@keywords
def tilt(
    denoiser: Denoiser,
    reward: Callable[[Tensor], Tensor],
    shape: Sequence[int] | None = None,
    *,
    start: Tensor | None = None,
    solver: Solver | str | None = None,
    steps: int = 50,
    grid: Tensor | None = None,
    pull: float = 1.0,
    threshold: float = 0.5,
    noise: NoiseSource | None = None,
    seed: int = 0,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    batch_size: int | None = None,
    progress: Report | None = None,
) -> Tilted:
    """Particles of p(x)·exp(reward(x))/Z, p the denoiser's model; `reward(x)`: (K, ...) -> (K,) nats.

    `shape` (K, ...) has the number of particles first; or give the `start`, K draws of p at the grid's first time. `solver` is
    one that adds noise in (most of) its steps, by default `ERSDE()`. `pull` multiplies the gradient in the proposal: any value
    is right in the limit, and 0 needs no gradient, for rewards that have none. Particles are resampled where the effective
    sample size is below `threshold`·K. `batch_size` limits how many of them a network call takes. Particles of one run
    depend on each other; runs with other seeds do not. The `seed` also draws the resampling. The other arguments are those
    of `sample`.
    Raises ValueError unless exactly one of shape and start is given, for a bad grid, and for a solver that adds no noise.
    """
    check_denoiser("tilt", denoiser)
    method, source = as_table_solver("tilt", solver, ERSDE()), as_noise(noise, 0 if noise is not None else seed)
    times = as_times(denoiser.path, method, steps, grid, falling=True)
    table, generator = table_of(method, denoiser.path, times), torch.Generator().manual_seed(seed)
    x = starting("tilt", denoiser, shape, start, times, source, device, dtype)
    if not table.stochastic:
        raise ValueError(f"{method} adds no noise, so its samples cannot be steered; use ERSDE() or Ancestral()")
    with torch.no_grad():
        return _run(Twist(denoiser, reward, pull, batch_size), table, x, source, threshold, generator, progress)


def _run(
    twist: "Twist",
    table: Table,
    x: Tensor,
    noise: NoiseSource,
    threshold: float,
    generator: torch.Generator,
    progress: Report | None,
) -> Tilted:
    moments, count = table.times.tolist(), len(x)
    rows = zip(table.P.tolist(), table.Q.tolist(), table.R.tolist(), strict=True)
    past: list[Tensor] = []  # clean_0, noise_0, clean_1, ...
    sizes: list[float] = []
    log_twist = torch.zeros(count, dtype=torch.float64, device=x.device)
    log_weights, log_z = log_twist, 0.0
    for i, (on_clean, on_noise, std) in enumerate(rows):
        if progress is not None:
            progress(i, table.calls)
        before = log_twist
        log_twist, slope, *estimate = twist(x, moments[i])
        past += estimate
        log_weights = log_weights + log_twist - before
        sizes.append(_effective(log_weights))
        if sizes[-1] < threshold * count:
            log_z += float(log_weights.logsumexp(0)) - math.log(count)
            chosen = systematic(log_weights, generator).to(x.device)
            log_weights = torch.zeros_like(log_weights)
            log_twist, slope, past = log_twist[chosen], slope[chosen], [each[chosen] for each in past]
        weights = [value for pair in zip(on_clean, on_noise, strict=True) for value in pair][: len(past)]
        mean = sum((value * each for value, each in zip(weights, past, strict=True) if value), torch.zeros_like(x))
        if std == 0:
            x = mean
            continue
        fresh = of_row(noise, i, x, moments[i], moments[i + 1])
        x = mean + std**2 * slope + std * fresh
        log_weights = log_weights - (std * slope * (fresh + 0.5 * std * slope)).flatten(1).double().sum(1)
    log_weights = log_weights + twist.reward(x).double() - log_twist
    sizes.append(_effective(log_weights))
    total = float(log_weights.logsumexp(0))
    if progress is not None:
        progress(table.calls, table.calls)
    return Tilted(x, log_weights - total, log_z + total - math.log(count), tuple(sizes))


@dataclass(frozen=True, eq=False)
class Twist:
    """log ψ = reward(clean) (K,) in float64, its gradient times `pull`, and the estimate, at x (K, ...) and t."""

    denoiser: Denoiser
    reward: Callable[[Tensor], Tensor]
    pull: float
    batch_size: int | None

    def __call__(self, x: Tensor, t: float) -> tuple[Tensor, ...]:
        size = self.batch_size or len(x)
        rows = [slice(first, first + size) for first in range(0, len(x), size)]
        parts = [self._part(for_rows(self.denoiser, part, x), x[part], t) for part in rows]
        return tuple(torch.cat(some) for some in zip(*parts, strict=True))

    def _part(self, denoiser: Denoiser, x: Tensor, t: float) -> tuple[Tensor, ...]:
        def value(y: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
            estimate = denoiser(y, t)
            values = self.reward(estimate.clean)
            return values, (values, *estimate)

        if self.pull == 0:
            _, (values, *estimate) = value(x)
            return values.double(), torch.zeros_like(x), *estimate
        slope, values, *estimate = gradient(value, x)
        return values.double(), self.pull * slope, *estimate


def systematic(log_weights: Tensor, generator: torch.Generator) -> Tensor:
    """K indices, index k about K·w_k times, from log-weights (K,): one uniform number, K even steps (Kitagawa 1996)."""
    count = len(log_weights)
    levels = log_weights.double().cpu().softmax(0).cumsum(0)
    places = (torch.arange(count, dtype=torch.float64) + torch.rand((), generator=generator).double()) / count
    return torch.searchsorted(levels / levels[-1], places).clamp(max=count - 1)


def _effective(log_weights: Tensor) -> float:
    """(Σw)²/Σw²."""
    return float((2 * log_weights.logsumexp(0) - (2 * log_weights).logsumexp(0)).exp())
