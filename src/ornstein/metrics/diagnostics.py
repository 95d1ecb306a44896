"""Is the model itself right? Errors by noise level, the continuity equation, and what the denoiser knows about its own error.

All at given times t, on real data x and x_t = αx + σ·noise. The three ask for what must hold of the true posterior mean
x̂ = E[x | x_t] alone:

- errors: E‖x − x̂‖²/D and E‖noise − noisê‖²/D, which no other function of x_t makes smaller;
- continuity: with the velocity u = α̇x̂ + σ̇·noisê and any function φ, d/dt E φ(x_t) = E ∇φ(x_t)·u(x_t, t), the weak form of
  ∂_t p + ∇·(pu) = 0. As d/dt E φ(x_t) = E ∇φ(x_t)·(α̇x + σ̇·noise), the difference of both sides is seen on data;
- calibration: Cov[x | x_t] = (σ²/α) ∂x̂/∂x_t (second-order Tweedie; Meng et al. 2021, theorem 1), so the trace of the
  denoiser's own Jacobian predicts its squared error.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from ornstein.denoiser import Denoiser
from ornstein.metrics.score import Score, need, smooth
from ornstein.noise import PerSampleNoise
from ornstein.path import Path

FUNCTIONS = 64  # random φ(x) = sin(w·x + b)/‖w‖, with ‖w‖ from one over the width of x_t to the width of its numbers


@dataclass(frozen=True)
class NoiseLevel:
    """The diagnosis at one time. Errors are per number of x, in model units; scores carry 95 % intervals.

    - `clean`, `noise`: mean squared errors of both estimates;
    - `score`: mean squared difference from the exact noise estimate (= σ²‖score − exact score‖²/D), where the exact is known;
    - `continuity`: the residual over the size of what it is a residual of, averaged over the functions φ, less its sampling
      noise: 0 where the equation holds (it may be slightly negative);
    - `foretold`: the squared error that the Jacobian predicts; `calibration`: the actual error over the predicted one.
    """

    t: float
    log_snr: float
    clean: Score
    noise: Score
    continuity: float
    foretold: Score
    calibration: Score
    score: Score | None = None

    def to_json(self) -> dict[str, Any]:
        """A dictionary of plain numbers."""
        return asdict(self)


def times(path: Path, count: int = 12) -> list[float]:
    """Times of evenly spaced noise levels, by the angle arctan(σ/α), without the ends."""
    angles = (torch.arange(count, dtype=torch.float64) + 0.5) / count * (math.pi / 2)
    candidates = path.time(-2 * angles.tan().log()).tolist()
    return [t for t in candidates if 0 < t < 1]


def diagnose(
    denoiser: Denoiser,
    x: Tensor,
    at: Sequence[float] | None = None,
    *,
    conditioned: Callable[[slice], Denoiser] | None = None,
    exact: Denoiser | None = None,
    seed: int = 0,
    batch_size: int = 128,
) -> Iterator[NoiseLevel]:
    """One `NoiseLevel` after another for real data x (B, ...) in model units.

    `conditioned(rows)` is the denoiser with the rows' conditions.

    `exact` is the true denoiser, where the distribution is known. Each level costs one call of the denoiser and one gradient.
    Raises UsageError below 100 items.
    """
    need(100, "A diagnosis", real=len(x))
    for t in times(denoiser.path) if at is None else at:
        parts = []
        for start in range(0, len(x), batch_size):
            rows = slice(start, min(start + batch_size, len(x)))
            conditional = denoiser if conditioned is None else conditioned(rows)
            parts.append(_measure(conditional, x[rows], t, PerSampleNoise(seed, start), exact))
        yield _level(denoiser.path, t, [torch.cat(column) for column in zip(*parts, strict=True)], exact is not None)


def _measure(denoiser: Denoiser, x: Tensor, t: float, source: PerSampleNoise, exact: Denoiser | None) -> list[Tensor]:
    """Per item: errors of clean and noise, the foretold error, the score's, both sides of the weak form (B, functions)."""
    noise, probe = source(x, t, t), source.repeat(1)(x, t, t).sign()
    point = denoiser.path.at(t, x)
    with torch.enable_grad():
        x_t = (point.alpha * x + point.sigma * noise).requires_grad_()
        estimate = denoiser(x_t, t)
        (pulled,) = torch.autograd.grad((estimate.clean * probe).sum(), x_t)
    x_t, clean, said = x_t.detach(), estimate.clean.detach(), estimate.noise.detach()
    trace = (pulled * probe).flatten(1).mean(1)  # Hutchinson's estimate, over D
    foretold = (point.sigma**2 / point.alpha).flatten() * trace
    velocity = (point.d_alpha * x + point.d_sigma * noise).flatten(1)
    predicted = (point.d_alpha * clean + point.d_sigma * said).flatten(1)
    waves, phases = _functions(x_t.flatten(1).shape[1], float((point.alpha**2 + point.sigma**2).sqrt()))
    waves, phases = waves.to(x_t), phases.to(x_t)
    slopes = (x_t.flatten(1) @ waves + phases).cos()
    unit = waves / waves.norm(dim=0)
    difference = torch.zeros(len(x)) if exact is None else _square(exact(x_t, t).noise - said)
    return [
        _square(x - clean),
        _square(noise - said),
        foretold.expand(len(x)),
        difference,
        slopes * (predicted @ unit),
        slopes * (velocity @ unit),
    ]


def _functions(dims: int, width: float) -> tuple[Tensor, Tensor]:
    """Waves w (D, functions) and phases (functions): directions at random, lengths evenly in their logarithm; always the same."""
    generator = torch.Generator().manual_seed(0)
    waves = torch.randn(dims, FUNCTIONS, generator=generator, dtype=torch.float64)
    lengths = torch.logspace(-1, 0.5, FUNCTIONS, dtype=torch.float64) / width
    phases = torch.rand(FUNCTIONS, generator=generator, dtype=torch.float64) * 2 * math.pi
    return waves / waves.norm(dim=0) * lengths, phases


def _square(x: Tensor) -> Tensor:
    return x.flatten(1).square().mean(1)


def _level(path: Path, t: float, columns: list[Tensor], known: bool) -> NoiseLevel:
    clean, noise, expected, difference, predicted, true = (column.double() for column in columns)
    gap = predicted - true
    residual = gap.mean(0).square() - gap.var(0) / len(gap)  # less its own sampling noise: unbiased
    ratio = float(clean.mean() / expected.mean())
    return NoiseLevel(
        t=t,
        log_snr=float(path.log_snr(torch.tensor(t, dtype=torch.float64))),
        clean=smooth("clean", float(clean.mean()), clean),
        noise=smooth("noise", float(noise.mean()), noise),
        continuity=float(residual.mean() / true.square().mean()),
        foretold=smooth("foretold", float(expected.mean()), expected),
        calibration=smooth("calibration", ratio, (clean - ratio * expected) / expected.mean()),
        score=smooth("score", float(difference.mean()), difference) if known else None,
    )
