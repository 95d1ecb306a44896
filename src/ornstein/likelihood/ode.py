"""The likelihood along the probability-flow ODE (Chen et al. 2018; Song et al. 2021, appendix D.2)."""

import math
from dataclasses import replace
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from ornstein.arguments import Report, as_noise, as_tensor, as_whole, batches, check_denoiser, keywords, one_line
from ornstein.denoiser import Denoiser
from ornstein.errors import reject_class
from ornstein.likelihood.adaptive import Adaptive
from ornstein.likelihood.fixed import CORRECTED, FixedSteps
from ornstein.likelihood.flow import ProbabilityFlow
from ornstein.likelihood.hutchinson import Hutchinson
from ornstein.likelihood.prior import LARGE, Prior, default
from ornstein.likelihood.trace import ExactTrace, Trace
from ornstein.noise import NoiseSource

FINER = (
    3  # times as many steps measure the error of a fixed solver, a hundredth of the tolerances that of an adaptive one
)
TIGHTER = 100


class Integrator(Protocol):
    """How the ODE is solved: y (B, ...) where it ends, and the integrated divergence (S, B)."""

    def run(
        self, flow: ProbabilityFlow, y: Tensor, trace: Trace, noise: NoiseSource, same: bool = ...
    ) -> tuple[Tensor, Tensor]: ...


class Estimated(NamedTuple):
    """Log-likelihoods (B,) in nats, and what is uncertain in each.

    probe: the standard error of the trace's chance, 0 where it is exact and NaN for a single sample; solver: the error of
    the steps, with its sign (the exact value is near log_prob + solver).
    """

    log_prob: Tensor
    probe: Tensor
    solver: Tensor


@keywords
def log_prob(
    denoiser: Denoiser,
    x: Tensor,
    t: float = 0.0,
    *,
    trace: Trace | None = None,
    solver: Integrator | None = None,
    steps: int = 96,
    prior: Prior | None = None,
    noise: NoiseSource | None = None,
    seed: int = 0,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    batch_size: int | None = None,
    progress: Report | None = None,
) -> Tensor:
    """log p_t(x) of the denoiser's model, (B,) nats for x (B, ...), computed in the type and on the device of x.

    At t = 0 this is the density of the data, or, on a path that ends with noise (σ(0) > 0: variance exploding), that of the
    data with this noise.

    trace: None: exact up to 64 dimensions, two Rademacher probes above.
    solver, steps: an integrator, `FixedSteps(n)` or `Adaptive()`; None: that many fixed steps.
    prior: the density at t = 1, a function of (denoiser, x); None: closed-form denoisers know theirs, others take the Gaussian
        with the mean and covariance of their own estimate (`matched`).
    noise, seed: the source of the probes; None: row i from the `seed` and i alone.
    device, dtype: where x is moved to first; None: it stays.
    batch_size, progress: how many items are computed at once, and progress(done, total) in items.

    Nothing is differentiable in x. Raises ValueError for a time outside [0, 1), TypeError for another kind of argument.

    >>> import torch
    >>> from ornstein import exact, likelihood, path
    >>> likelihood.log_prob(exact.Gaussian(torch.zeros(2), 1.0, path.Linear()), torch.zeros(1, 2))  # −log 2π
    tensor([-1.8379])
    """
    return estimate(
        denoiser,
        x,
        t,
        trace=trace,
        solver=solver,
        steps=steps,
        prior=prior,
        noise=noise,
        seed=seed,
        device=device,
        dtype=dtype,
        batch_size=batch_size,
        progress=progress,
        check=False,
    ).log_prob


@keywords
def estimate(
    denoiser: Denoiser,
    x: Tensor,
    t: float = 0.0,
    *,
    trace: Trace | None = None,
    solver: Integrator | None = None,
    steps: int = 96,
    prior: Prior | None = None,
    noise: NoiseSource | None = None,
    seed: int = 0,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    batch_size: int | None = None,
    progress: Report | None = None,
    check: bool = True,
) -> Estimated:
    """`log_prob` of x (B, ...), (B,) nats, with the error of each value, split into probe and solver parts.

    The solver part, NaN without `check`, compares with three times the steps (of adaptive ones, a hundredth of the tolerances),
    both with the same one probe for the whole way, so that no chance is in the difference: four times the work where the trace
    is exact, else five times. See `solver_error`. The other arguments and errors are those of `log_prob`.
    """
    check_denoiser("log_prob", denoiser)
    x = as_tensor("log_prob", "x", x).to(device, dtype)
    trace, integrator, prior = trace or trace_for(x), _integrator(solver, steps), prior or default(denoiser)
    parts: list[Estimated] = []
    for one, items, source in batches(denoiser, x, as_noise(noise, seed), batch_size):
        parts.append(_estimated(_flow(one, t), items, trace, integrator, prior, source, check))
        if progress is not None:
            progress(sum(len(part.log_prob) for part in parts), len(x))
    return Estimated(*(torch.cat(some) for some in zip(*parts, strict=True)))


def _integrator(solver: Integrator | None, steps: int) -> Integrator:
    if solver is None:
        return FixedSteps(as_whole("steps", steps, CORRECTED))
    reject_class("solver", solver)
    if isinstance(solver, str) or hasattr(solver, "grid") or not hasattr(solver, "run"):
        raise TypeError(
            f"solver={one_line(solver)} draws no likelihoods, which are integrated with a divergence: give "
            "likelihood.FixedSteps(96) or likelihood.Adaptive(), or steps=96"
        )
    return solver


def _estimated(
    flow: ProbabilityFlow, x: Tensor, trace: Trace, solver: Integrator, prior: Prior, noise: NoiseSource, check: bool
) -> Estimated:
    y, divergence = solver.run(flow, flow.start(x.detach()), trace, noise)
    with torch.no_grad():
        values = flow.log_prob(prior, y, divergence)
    samples = len(values)
    if trace.exact:
        probe = torch.zeros_like(values[0])
    else:
        probe = values.std(0) / math.sqrt(samples) if samples > 1 else torch.full_like(values[0], math.nan)
    error = torch.full_like(values[0], math.nan)
    if check:
        error = solver_error(flow, x, trace, solver, prior, noise, values if trace.exact else None)
    return Estimated(values.mean(0), probe, error)


def solver_error(
    flow: ProbabilityFlow,
    x: Tensor,
    trace: Trace,
    solver: Integrator,
    prior: Prior,
    noise: NoiseSource,
    values: Tensor | None = None,
) -> Tensor:
    """The correction of each value (B,) for the error of its steps: the value in finer steps less the value.

    An error of order p leaves 3^−p of itself in three times the steps, so this is 1 − 3^−p of it, with its sign, whatever p
    is. No order is divided out: the method's own holds for smooth fields and fine steps alone. It is never smaller than the
    rounding of the type in so many sums, √steps · ½ε (|log p_1| + |∫ divergence|): where that is all, finer steps tell nothing.
    """
    if isinstance(solver, Adaptive):
        finer: Integrator = replace(solver, rtol=solver.rtol / TIGHTER, atol=solver.atol / TIGHTER)
    elif isinstance(solver, FixedSteps):
        finer = replace(solver, steps=FINER * solver.steps)
    else:
        return torch.full((len(x),), math.nan, dtype=x.dtype, device=x.device)

    def by(other: Integrator) -> tuple[Tensor, Tensor]:
        y, divergence = other.run(flow, flow.start(x.detach()), trace, noise, same=True)
        with torch.no_grad():
            ends = flow.log_prob(prior, y, divergence)
        return ends.mean(0), (divergence.abs() + (ends - divergence).abs()).mean(0)

    best, size = by(finer)
    error = best - (by(solver)[0] if values is None else values.mean(0))
    steps = solver.steps if isinstance(solver, FixedSteps) else 1
    rounding = size * (math.sqrt(steps) * torch.finfo(x.dtype).eps / 2)
    return torch.where(error.abs() < rounding, torch.where(error < 0, -rounding, rounding), error)


def trace_for(x: Tensor) -> Trace:
    """The default: exact up to 64 dimensions, two Rademacher probes above."""
    return ExactTrace() if math.prod(x.shape[1:]) <= LARGE else Hutchinson()


def _flow(denoiser: Denoiser, t: float) -> ProbabilityFlow:
    if not 0 <= t < 1:
        raise ValueError(f"log_prob: t = {t:g} must lie in [0, 1)")
    return ProbabilityFlow(denoiser, t)
