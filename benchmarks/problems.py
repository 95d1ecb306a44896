"""The problems of the solver benchmarks: mixtures whose denoiser is exact, one path for all libraries, fixed seeds.

All libraries start from the same x at the end of the variance preserving path (σ/α = 152, where DDPM's own table ends at 157)
and are told E[x | x_t] at any noise level they ask for. The reference is the same ODE solved with 2,000 calls.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from ornstein import chart, exact, grid, path, sample, solvers

PATH = path.VariancePreserving()
START = math.exp(-float(PATH.log_snr(1.0)) / 2)  # σ/α where every run begins
REFERENCE = solvers.ABM(4, chart.Angle()), 2000


@dataclass(frozen=True, eq=False)
class Problem:
    """A mixture on PATH, the noise that runs begin with (B, D), and `end`, where the fine solve takes it."""

    name: str
    model: exact.GaussianMixture
    noise: Tensor
    end: Tensor

    @property
    def start(self) -> Tensor:
        """x at t = 1 of PATH."""
        return self.noise * PATH.sigma(torch.tensor(1.0, dtype=torch.float64))

    def clean(self, scaled: Tensor, ratio: float) -> Tensor:
        """E[x | x_t] for x_t/α and σ/α: what libraries with paths of their own ask for."""
        alpha = 1 / math.sqrt(1 + ratio**2)
        t = float(PATH.time(-2 * math.log(ratio))) if ratio > 0 else 0.0
        return self.model(scaled * alpha, t).clean

    def errors(self, x: Tensor) -> dict[str, float]:
        """RMSE over all elements, and the median over samples of ‖x − end‖/√D. Infinite where a solver broke down."""
        each = (x.double() - self.end).norm(dim=1) / math.sqrt(x.shape[1])
        if not bool(each.isfinite().all()):
            return {"rmse": math.inf, "median": math.inf}
        return {"rmse": float(each.square().mean().sqrt()), "median": float(each.median())}


def problem(name: str, model: exact.GaussianMixture, count: int, seed: int) -> Problem:
    """`count` starts drawn with the seed, and where a solve of 2,000 steps takes them."""
    noise = torch.randn(count, *model.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    solver, steps = REFERENCE
    start = noise * PATH.sigma(torch.tensor(1.0, dtype=torch.float64))
    return Problem(name, model, noise, sample(model, start=start, solver=solver, grid=grid.polynomial(PATH, steps)))


def ring(
    components: int = 8, radius: float = 1.5, variance: float = 0.02, on: path.Path = PATH
) -> exact.GaussianMixture:
    """Equal components on a circle."""
    angle = torch.arange(components, dtype=torch.float64) * (2 * math.pi / components)
    means = radius * torch.stack([angle.cos(), angle.sin()], 1)
    return exact.GaussianMixture(torch.ones(components) / components, means, variance, on)


def random(dimension: int, components: int, seed: int, on: path.Path = PATH) -> exact.GaussianMixture:
    """Means N(0, I), variances uniform in [0.03, 0.23], weights uniform in [0.3, 1.3] before they are normalised."""
    draw = torch.Generator().manual_seed(seed)
    weights = torch.rand(components, generator=draw, dtype=torch.float64) + 0.3
    means = torch.randn(components, dimension, generator=draw, dtype=torch.float64)
    variances = torch.rand(components, generator=draw, dtype=torch.float64) * 0.2 + 0.03
    return exact.GaussianMixture(weights / weights.sum(), means, variances, on)


MODELS: dict[str, tuple[Callable[[path.Path], exact.GaussianMixture], int]] = {  # on a path; the seed of the starts
    "2-D ring of 8": (lambda on: ring(on=on), 0),
    "2-D random, seed 1": (lambda on: random(2, 5, 1, on), 1),
    "2-D random, seed 2": (lambda on: random(2, 5, 2, on), 2),
    "64-D random, seed 1": (lambda on: random(64, 16, 1, on), 1),
    "64-D random, seed 2": (lambda on: random(64, 16, 2, on), 2),
    "64-D random, seed 3": (lambda on: random(64, 16, 3, on), 3),
}
ALL: dict[str, Callable[[], Problem]] = {
    name: partial(lambda name, make, seed: problem(name, make(PATH), 512, seed), name, make, seed)
    for name, (make, seed) in MODELS.items()
}
