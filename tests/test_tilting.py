"""Exact tilting: Gaussian times Gaussian on every path, the normaliser, and what guidance samples instead."""

import math

import pytest
import torch
from torch import Tensor

from ornstein import exact, path, sample, solvers
from ornstein.guidance import Classifier, ClassifierFree
from ornstein.noise import PerSampleNoise
from ornstein.path import Path
from ornstein.table import Table
from ornstein.tilting import Tilted, systematic, tilt

F64 = torch.float64
DEFAULT = solvers.ERSDE()
MEAN, VARIANCE, AIM, WIDTH = 0.4, 0.5, 1.5, 0.6


def reward(x: Tensor) -> Tensor:
    return -(x - AIM).square().flatten(1).sum(1) / (2 * WIDTH)


def answer(mean: float, variance: float) -> tuple[float, float, float]:
    """Mean and variance of N(mean, variance)·exp(reward)/Z, and log Z."""
    total = variance + WIDTH
    return (
        (mean * WIDTH + AIM * variance) / total,
        variance * WIDTH / total,
        0.5 * math.log(WIDTH / total) - (mean - AIM) ** 2 / (2 * total),
    )


def chain(table: Table, p: Path) -> tuple[float, float]:
    """Mean and variance of what a table draws from N(MEAN, VARIANCE): each x_i is linear in the fresh noises before it."""
    size = table.calls + 2  # a constant, the start, and the noise of each row
    x, estimates = torch.zeros(size, dtype=F64), torch.zeros(2, table.calls, size, dtype=F64)
    x[1] = p.sigma(table.times[0])
    for i in range(table.calls):
        alpha, sigma = p.alpha(table.times[i]), p.sigma(table.times[i])
        centred = x - alpha * MEAN * torch.eye(size, dtype=F64)[0]
        pull = centred / (alpha**2 * VARIANCE + sigma**2)
        estimates[0, i] = alpha * VARIANCE * pull + MEAN * torch.eye(size, dtype=F64)[0]
        estimates[1, i] = sigma * pull
        x = table.P[i] @ estimates[0] + table.Q[i] @ estimates[1]
        x[i + 2] += table.R[i]
    return float(x[0]), float(x[1:].square().sum())


def run(
    p: Path, particles: int, seed: int = 0, steps: int = 20, pull: float = 1.0, solver: solvers.Solver = DEFAULT
) -> Tilted:
    prior = exact.Gaussian(torch.tensor([MEAN], dtype=F64), VARIANCE, p)
    noise = PerSampleNoise(seed)
    start = float(p.sigma(torch.ones((), dtype=F64))) * noise(torch.zeros(particles, 1, dtype=F64), 1.0, 1.0)
    return tilt(prior, reward, start=start, solver=solver, steps=steps, noise=noise, seed=seed, pull=pull)


@pytest.mark.parametrize(("solver", "pull"), [(DEFAULT, 1.0), (solvers.Ancestral(), 0.0)], ids=str)
@pytest.mark.parametrize("p", path.ALL, ids=str)
def test_gaussian_times_gaussian(p: Path, solver: solvers.Solver, pull: float) -> None:
    """The weighted particles are the tilt of what the solver draws, which is a Gaussian known in closed form."""
    found = run(p, 2000, pull=pull, solver=solver)
    mean, variance, log_z = answer(*chain(solver.table(p, solver.grid(p, 20)), p))
    se = math.sqrt(variance / min(found.effective))
    assert float(found.expectation(lambda x: x)) == pytest.approx(mean, abs=5 * se)
    spread = float(found.expectation(lambda x: (x - mean).square()))
    assert spread == pytest.approx(variance, abs=5 * math.sqrt(2) * variance / math.sqrt(min(found.effective)))
    assert found.log_normaliser == pytest.approx(log_z, abs=0.1)
    assert float(found.log_weights.exp().sum()) == pytest.approx(1)


def test_with_fine_steps_it_is_the_posterior() -> None:
    found = run(path.Linear(), 2000, steps=60)
    mean, variance, log_z = answer(MEAN, VARIANCE)
    assert float(found.expectation(lambda x: x)) == pytest.approx(mean, abs=0.05)
    assert float(found.draw().var()) == pytest.approx(variance, rel=0.12)
    assert found.log_normaliser == pytest.approx(log_z, abs=0.05)


def test_errors_fall_with_the_number_of_particles() -> None:
    """Over repeats: sixteen times the particles, about a quarter of the error, of the mean and of the normaliser."""
    p = path.Linear()
    mean, _, log_z = answer(*chain(DEFAULT.table(p, DEFAULT.grid(p, 20)), p))

    def errors(particles: int) -> Tensor:
        runs = [run(p, particles, seed) for seed in range(16)]
        pairs = [(float(r.expectation(lambda x: x)) - mean, r.log_normaliser - log_z) for r in runs]
        return torch.tensor(pairs).square().mean(0).sqrt()

    few, many = errors(50), errors(800)
    assert bool((many < 0.45 * few).all())
    assert bool((many > 0.1 * few).all())


def test_the_pull_keeps_more_particles_alive() -> None:
    """For a reward narrower than the data, without resampling; for a wide one there is little to gain."""
    prior = exact.Gaussian(torch.tensor([MEAN], dtype=F64), VARIANCE, path.Linear())

    def alive(pull: float) -> float:
        return tilt(prior, lambda x: 3 * reward(x), (1000, 1), steps=20, pull=pull, threshold=0.0).effective[-1]

    assert alive(1.0) > 1.2 * alive(0.0)


def test_without_a_reward_it_is_sampling() -> None:
    prior = exact.Gaussian(torch.tensor([MEAN, 0.1]), VARIANCE, path.Cosine())
    found = tilt(prior, lambda x: 0 * x.sum(1), (64, 2), steps=10)
    expected = sample(prior, (64, 2), solver=DEFAULT, steps=10)
    assert torch.allclose(found.x, expected, atol=1e-5)
    assert found.log_normaliser == pytest.approx(0, abs=1e-6)
    assert all(size == pytest.approx(64) for size in found.effective)
    parts = tilt(prior, lambda x: 0 * x.sum(1), (64, 2), steps=10, batch_size=10)
    assert torch.allclose(parts.x, found.x, atol=1e-6)


def test_systematic_resampling_takes_each_index_as_often_as_its_weight() -> None:
    weights = torch.tensor([0.5, 0.25, 0.0, 0.2, 0.05], dtype=F64).repeat_interleave(20) / 20
    taken = torch.bincount(systematic(weights.log(), torch.Generator().manual_seed(0)), minlength=100)
    assert int(taken.sum()) == 100
    assert bool(((taken - 100 * weights).abs() < 1).all())


def test_guidance_does_not_sample_the_tilted_distribution_and_tilting_does() -> None:
    """Two overlapping classes in one dimension, p(x)·p(y | x)^w known by quadrature: guided samples miss its mean and spread."""
    p, w = path.Linear(), 4.0
    means = torch.tensor([[-0.5], [0.5]], dtype=F64)
    mixture = exact.GaussianMixture([0.5, 0.5], means, 0.3, p)
    x = torch.linspace(-5, 5, 4001, dtype=F64)[:, None]

    def log_class(x: Tensor, t: float = 0.0) -> Tensor:
        return mixture.posterior_weights(x, t)[:, 1].log()

    density = (mixture.log_prob(x) + w * log_class(x)).softmax(0)
    mean = float(density @ x[:, 0])
    std = float((density @ (x[:, 0] - mean).square()).sqrt())
    log_z = float((mixture.log_prob(x) + w * log_class(x)).logsumexp(0) + math.log(10 / 4000))

    noise = PerSampleNoise(0)
    start = noise(torch.zeros(2000, 1, dtype=F64), 1.0, 1.0)
    for guided in (ClassifierFree(mixture.given(1), mixture, w), Classifier(mixture, log_class, w)):
        drawn = sample(guided, start=start, steps=60)
        se = float(drawn.std()) / math.sqrt(len(drawn))
        assert abs(float(drawn.mean()) - mean) > 10 * se
    found = tilt(mixture, lambda x: w * log_class(x), start=start, steps=100, noise=noise)
    assert float(found.expectation(lambda x: x)) == pytest.approx(mean, abs=0.04)
    assert float(found.expectation(lambda x: (x - mean).square()).sqrt()) == pytest.approx(std, abs=0.04)
    assert found.log_normaliser == pytest.approx(log_z, abs=0.05)


def test_mistakes_are_named() -> None:
    prior = exact.Gaussian(torch.zeros(1), 1.0, path.Linear())
    with pytest.raises(ValueError, match="either shape"):
        tilt(prior, reward)
    with pytest.raises(ValueError, match="one value for each of the 4"):
        tilt(prior, lambda x: x.sum(), (4, 1))
    with pytest.raises(ValueError, match="adds no noise"):
        tilt(prior, reward, (4, 1), solver=solvers.DDIM())
