"""Every source of noise with every stochastic method: all that a run draws is independent, so each keeps its law.

The sources are sums of named standard normals (`PerSampleNoise` is one for each stream and step, `BrownianNoise` a weighted
sum), so the covariances of a run's draws, and with them the law of its result, are known without drawing.
"""

import math
from collections.abc import Hashable
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Self

import pytest
import torch
from torch import Tensor

from ornstein import Estimate, exact, path, sample, solvers
from ornstein.noise import BrownianNoise, NoiseSource, PerSampleNoise, _increment
from ornstein.path import Path, Time
from ornstein.sampling import begin
from ornstein.solvers import Solver
from ornstein.table import Table, execute

F64 = torch.float64
STEPS = 100
PATHS = (path.Linear(), path.VariancePreserving(), path.EDM())
Weights = dict[Hashable, float]


def one(source: PerSampleNoise | BrownianNoise, t: float, s: float) -> Weights:
    """A draw as names and weights of independent standard normals."""
    if isinstance(source, BrownianNoise) and t != s:
        return {(source.stream, name): weight for name, weight in _increment(t, s, source.depth)}
    return {(source.stream, t, s): 1.0}


@dataclass(frozen=True)
class Recording:
    """A source that records what it draws for row 0, and for all of its streams in one list."""

    source: PerSampleNoise | BrownianNoise
    drawn: list[Weights] = field(default_factory=list)

    def repeat(self, k: int) -> Self:
        return type(self)(self.source.repeat(k), self.drawn)

    def __call__(self, x: Tensor, t: Any, s: Any) -> Tensor:
        at, to = (float(torch.as_tensor(u).flatten()[0]) for u in (t, s))
        self.drawn.append(one(self.source, at, to))
        return self.source(x, t, s)


def covariance(drawn: list[Weights]) -> Tensor:
    names = {name: i for i, name in enumerate(dict.fromkeys(name for weights in drawn for name in weights))}
    matrix = torch.zeros(len(drawn), len(names), dtype=F64)
    for row, weights in zip(matrix, drawn, strict=True):
        for name, weight in weights.items():
            row[names[name]] = weight
    return matrix @ matrix.T


SOURCES = (PerSampleNoise(3), BrownianNoise(3))
TABLES = tuple(
    solver
    for solver in (*solvers.ALL, solvers.SDEDPMSolver(2, 0.7), solvers.EDMHeun(40.0, inflation=1.003))
    if solver.table(path.Linear(), torch.tensor([0.9, 0.5, 0.2], dtype=F64)).stochastic
)
CHAINS = tuple(each for each in (*solvers.LOOPS, solvers.Langevin(0.2)) if each.stochastic)


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: type(source).__name__)
@pytest.mark.parametrize("solver", [*TABLES, *CHAINS], ids=str)
def test_the_draws_of_a_run_are_independent(solver: Solver, source: PerSampleNoise | BrownianNoise) -> None:
    denoiser = exact.GaussianMixture([0.5, 0.5], torch.tensor([[-1.0], [1.0]], dtype=F64), 0.1, path.Linear())
    noise = Recording(source)
    start = begin(denoiser.path, torch.zeros(1, 1, dtype=F64), 1.0, noise)
    steps = 10 if isinstance(solver, solvers.AnnealedLangevin) else STEPS
    sample(denoiser, start=start, solver=solver, steps=steps, noise=noise)
    actual = covariance(noise.drawn)
    assert len(actual) >= STEPS / 4
    assert float((actual - torch.eye(len(actual), dtype=F64)).abs().max()) < 1e-3


@cache
def table(solver: Solver, p: Path) -> Table:
    return solver.table(p, solver.grid(p, STEPS))


class Modes:
    """The estimates of two narrow modes at ±1, whose N(0, 1) neighbour is `exact.Gaussian`; x (B, D), elements by themselves."""

    def __init__(self, p: Path) -> None:
        self.path = p
        self._one = exact.GaussianMixture([0.5, 0.5], torch.tensor([[-1.0], [1.0]], dtype=F64), 0.01, p)

    def __call__(self, x_t: Tensor, t: Time) -> Estimate:
        return Estimate(*(each.reshape(x_t.shape) for each in self._one(x_t.reshape(-1, 1), t)))


def variance_of_gaussian(made: Table, drawn: list[Weights], p: Path) -> float:
    """Of the result for N(0, 1), where a run is linear in the start and in all that is drawn: exact."""
    count = len(drawn)
    weights = iter(torch.eye(count, dtype=F64))

    def unit(x: Tensor, t: Any, s: Any) -> Tensor:
        return next(weights)[:, None]

    scale = float(p.sigma(made.times[0]))
    denoiser = exact.Gaussian(torch.zeros(1, dtype=F64), torch.ones(1, dtype=F64), p)
    *_, last = execute(made, denoiser, scale * unit(torch.zeros(()), 1, 1), unit)
    result = last.x[:, 0]
    return float(result @ covariance(drawn) @ result)


@pytest.mark.parametrize("p", PATHS, ids=str)
@pytest.mark.parametrize("solver", TABLES, ids=str)
def test_a_standard_normal_has_the_variance_of_the_tables_own_recursion(solver: Solver, p: Path) -> None:
    made = table(solver, p)
    actual = []
    for source in SOURCES:
        noise = Recording(source)
        denoiser = exact.Gaussian(torch.zeros(1, dtype=F64), torch.ones(1, dtype=F64), p)
        start = begin(p, torch.zeros(1, 1, dtype=F64), float(made.times[0]), noise)
        sample(denoiser, start=start, solver=solver, steps=STEPS, noise=noise)
        apart: list[Weights] = [{i: 1.0} for i in range(len(noise.drawn))]
        expected = variance_of_gaussian(made, apart, p)
        actual.append(expected)
        assert variance_of_gaussian(made, noise.drawn, p) == pytest.approx(expected, rel=1e-3)
    end = float(p.sigma(torch.zeros((), dtype=F64))) ** 2 + 1
    assert math.isclose(actual[0], actual[1])
    assert actual[0] == pytest.approx(end, rel=0.12)  # of the table itself: Euler–Maruyama is at 1.116 on EDM


def fresh(x: Tensor, t: Any, s: Any) -> Tensor:
    return torch.randn_like(x)


@pytest.mark.parametrize("solver", TABLES, ids=str)
def test_two_modes_have_the_variance_that_fresh_noise_gives_them(solver: Solver) -> None:
    denoiser = Modes(path.Linear())
    like = torch.zeros(64, 128, dtype=F64)
    sources: list[NoiseSource] = [fresh, PerSampleNoise(3), BrownianNoise(3)]
    expected, *actual = (
        float(
            sample(denoiser, start=begin(denoiser.path, like, 1.0, noise), solver=solver, steps=STEPS, noise=noise)
            .square()
            .mean()
        )
        for noise in sources
    )
    assert actual == pytest.approx([expected] * 2, rel=0.02)
