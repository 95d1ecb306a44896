"""Langevin steps on a Gaussian, where they are affine: closed forms of a step, of a chain's moments, of what it leaves alone."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from ornstein import Estimate, PerSampleNoise, exact, path, sample, solvers, trajectory
from ornstein.path import Path
from ornstein.solvers import AnnealedLangevin, Langevin, Proportional, SignalToNoise, Solver

F64 = torch.float64
MEAN = torch.tensor([1.5, -0.5, 0.2], dtype=F64)
VARIANCE = torch.tensor([0.49, 2.0, 0.1], dtype=F64)


@dataclass(frozen=True)
class Unit:
    """Noise that is 1 in the row of its own draw and 0 elsewhere; rows 0 and 1 have none."""

    rows: dict[tuple[float, float, int], int]
    k: int = 0

    def repeat(self, k: int) -> "Unit":
        return Unit(self.rows, k)

    def __call__(self, x: Tensor, t: float, s: float) -> Tensor:
        noise = torch.zeros_like(x)
        noise[2 + self.rows.setdefault((t, s, self.k), len(self.rows))] = 1
        return noise


def moments(
    sampler: Solver, p: Path, mean: Tensor, variance: Tensor, grid: Tensor | None = None, steps: int = 5
) -> tuple[Tensor, Tensor]:
    """Mean and variance of the result of an affine run from those of its start, exactly: no draw is made."""
    forms = torch.zeros(400, len(MEAN), dtype=F64)
    forms[1] = 1
    unit = Unit({})
    result = sample(exact.Gaussian(MEAN, VARIANCE, p), start=forms, solver=sampler, grid=grid, steps=steps, noise=unit)
    assert len(unit.rows) <= 398
    weights = result[1:] - result[0]
    return result[0] + weights[0] * mean, weights[0] ** 2 * variance + weights[1:].square().sum(0)


def true(p: Path, t: float) -> tuple[Tensor, Tensor]:
    """Mean and variance of x_t."""
    at = torch.tensor(t, dtype=F64)
    return p.alpha(at) * MEAN, p.alpha(at) ** 2 * VARIANCE + p.sigma(at) ** 2


def step_size(p: Path, t: float, k: float) -> Tensor:
    return k * p.sigma(torch.tensor(t, dtype=F64)) ** 2


@pytest.mark.parametrize("p", path.ALL, ids=str)
@pytest.mark.parametrize("t", [0.02, 0.5, 1.0])
def test_a_step_is_x_plus_h_score_plus_noise(p: Path, t: float) -> None:
    denoiser, x, z = exact.Gaussian(MEAN, VARIANCE, p), torch.randn(4, 3, dtype=F64), torch.randn(4, 3, dtype=F64)
    moved = sample(denoiser, start=x, solver=Langevin(t, Proportional(0.3)), steps=1, noise=lambda x, t, s: z)
    h = step_size(p, t, 0.3)
    assert torch.allclose(moved, x + h * denoiser.score(x, t) + (2 * h).sqrt() * z, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("p", path.ALL, ids=str)
def test_a_chain_has_the_closed_form_moments(p: Path) -> None:
    t, k, n = 0.4, 0.2, 25
    (m, v), h = true(p, t), step_size(p, t, k)
    mean, variance = m + 0.7, 0.3 * v
    found = moments(Langevin(t, Proportional(k)), p, mean, variance, steps=n)
    factor = 1 - h / v
    assert torch.allclose(found[0], m + factor**n * 0.7, rtol=1e-9)
    expected = factor ** (2 * n) * variance + 2 * h * (1 - factor ** (2 * n)) / (1 - factor**2)
    assert torch.allclose(found[1], expected, rtol=1e-9)


@pytest.mark.parametrize("p", path.ALL, ids=str)
def test_the_marginal_is_left_alone_as_the_step_vanishes(p: Path) -> None:
    """Over the same time τ = n·h, from p_t itself: no mean error at all, and a variance error of first order in h."""
    m, v = true(p, 0.3)
    errors = []
    for n in (40, 80, 160):
        mean, variance = moments(Langevin(0.3, Proportional(4 / n)), p, m, v, steps=n)
        assert torch.allclose(mean, m, rtol=1e-10, atol=1e-10)
        errors.append(variance / v - 1)
    assert torch.allclose(errors[0] / errors[1], torch.full((3,), 2.0, dtype=F64), rtol=0.1)
    assert torch.allclose(errors[1] / errors[2], torch.full((3,), 2.0, dtype=F64), rtol=0.05)
    assert float(errors[-1].max()) < 0.015


def test_a_long_chain_forgets_its_start() -> None:
    p, t, k = path.VariancePreserving(), 0.5, 0.5
    (m, v), h = true(p, t), step_size(p, t, k)
    mean, variance = moments(Langevin(t, Proportional(k)), p, torch.full_like(m, 9.0), torch.zeros_like(v), steps=300)
    assert torch.allclose(mean, m, atol=1e-6)
    assert torch.allclose(variance, v / (1 - h / (2 * v)), rtol=1e-6)


def test_langevin_stays_at_its_level() -> None:
    denoiser = exact.Gaussian(MEAN, VARIANCE, path.Linear())
    steps = list(trajectory(denoiser, torch.zeros(2, 3, dtype=F64), solver=Langevin(0.3), steps=4))
    assert [step.t for step in steps] == [0.3] * 5
    assert [step.calls for step in steps] == [1, 2, 3, 4, 4]


@pytest.mark.parametrize("draw", [PerSampleNoise(), lambda x, t, s: torch.randn_like(x)])
def test_every_step_of_a_chain_has_noise_of_its_own(draw: object) -> None:
    """With a score of zero the chain is a random walk; equal draws would make it straight."""

    class Flat:
        path = path.Linear()

        def __call__(self, x: Tensor, t: float) -> Estimate:
            return Estimate(x, torch.zeros_like(x))

    chain = Langevin(0.5, Proportional(0.5))
    walk = sample(Flat(), start=torch.zeros(50, 40), solver=chain, steps=100, noise=draw)  # type: ignore[arg-type]
    assert float(walk.var()) == pytest.approx(100 * 2 * 0.5 * 0.25, rel=0.1)


def test_the_signal_to_noise_rule_is_the_papers_for_each_row() -> None:
    """h = 2(r‖z‖/‖score‖)² in closed form, and the norms of one row do not reach another."""
    p, t = path.VarianceExploding(), 0.4
    denoiser = exact.Gaussian(torch.zeros(64, dtype=F64), 0.25, p)
    x, z = torch.randn(5, 64, dtype=F64) * torch.tensor([[1.0], [2], [3], [4], [50]]), torch.randn(5, 64, dtype=F64)
    moved = sample(denoiser, start=x, solver=Langevin(t, SignalToNoise(0.16, 1e9)), steps=1, noise=lambda x, t, s: z)
    score = denoiser.score(x, t)
    h = 2 * (0.16 * z.norm(dim=1, keepdim=True) / score.norm(dim=1, keepdim=True)) ** 2
    assert torch.allclose(moved, x + h * score + (2 * h).sqrt() * z, rtol=1e-10)


def test_the_signal_to_noise_rule_is_bounded_where_nothing_is_estimated() -> None:
    rule, z = SignalToNoise(0.16, 0.5), torch.ones(3, 2, 2)
    estimate = torch.stack([torch.zeros(2, 2), torch.full((2, 2), 1e-30), torch.ones(2, 2)])
    assert torch.allclose(rule(estimate, z).flatten(), torch.tensor([0.5, 0.5, 2 * 0.16**2]))
    assert torch.equal(rule(torch.zeros(1, 2), torch.zeros(1, 2)), torch.tensor([[0.5]]))


def test_the_bias_of_the_signal_to_noise_rule_falls_with_the_dimension() -> None:
    """A step tied to x and z moves even a Gaussian: much in few dimensions, by a part of order 1/D in many."""
    excess = []
    for size in (4, 64):
        denoiser = exact.Gaussian(torch.zeros(size, dtype=F64), 1.0, path.EDM(1.0))
        x = denoiser.draw(40_000 // size, 0.5, torch.Generator().manual_seed(0))
        chain = Langevin(0.5, SignalToNoise(0.1))
        x = sample(denoiser, start=x, solver=chain, steps=150, noise=lambda x, t, s: torch.randn_like(x))
        excess.append(float(x.var()) / 1.25 - 1)
    assert excess[0] > 0.15
    assert abs(excess[1]) < 0.1


def annealed(p: Path, grid: Tensor, corrections: int, k: float) -> tuple[Tensor, Tensor]:
    """The recursion by hand: chains at the levels, x/α kept between them, and the posterior mean at the end."""
    mean, variance = torch.zeros(3, dtype=F64), p.sigma(grid[0]) ** 2 * torch.ones(3, dtype=F64)
    times = grid.tolist()
    for i, t in enumerate(times):
        if float(p.sigma(grid[i])) == 0:
            break
        alpha, sigma = (float(c(grid[i])) for c in (p.alpha, p.sigma))
        if i:
            before = float(p.alpha(grid[i - 1]))
            scale = alpha / before if before > 0 else sigma / float(p.sigma(grid[i - 1]))
            mean, variance = scale * mean, scale**2 * variance
        (m, v), h = true(p, t), k * sigma**2
        for _ in range(corrections):
            mean, variance = m + (1 - h / v) * (mean - m), (1 - h / v) ** 2 * variance + 2 * h
    if float(p.sigma(grid[-1])) == 0:
        factor = alpha * VARIANCE / v  # E[x | x_t] = m + αC/V (x_t − αm)
        mean, variance = MEAN + factor * (mean - m), factor**2 * variance
    return mean, variance


@pytest.mark.parametrize("p", path.ALL, ids=str)
def test_annealed_langevin_has_the_closed_form_moments(p: Path) -> None:
    grid = torch.tensor([1.0, 0.7, 0.4, 0.1, 0.01, 0.0], dtype=F64)
    start = torch.zeros(3, dtype=F64), p.sigma(grid[0]) ** 2 * torch.ones(3, dtype=F64)
    found = moments(AnnealedLangevin(7, Proportional(0.3)), p, *start, grid=grid)
    expected = annealed(p, grid, 7, 0.3)
    assert torch.allclose(found[0], expected[0], rtol=1e-8, atol=1e-8)
    assert torch.allclose(found[1], expected[1], rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("p", path.ALL, ids=str)
def test_annealed_langevin_reaches_the_data_with_more_levels_and_steps(p: Path) -> None:
    """By the recursion, which the test before ties to the sampler."""
    final = torch.zeros((), dtype=F64)
    expected = p.alpha(final) * MEAN, p.alpha(final) ** 2 * VARIANCE + p.sigma(final) ** 2
    errors = []
    for levels, corrections in ((20, 20), (80, 80)):
        mean, variance = annealed(p, AnnealedLangevin().grid(p, levels), corrections, 0.5)
        errors.append(float(((mean - expected[0]) / expected[1].sqrt()).abs().max()))
        errors.append(float((variance / expected[1] - 1).abs().max()))
    assert errors[0] < 0.05
    assert errors[1] < 0.15
    assert errors[2] < 0.01
    assert errors[3] < 0.02


@pytest.mark.parametrize("p", [path.Linear(), path.VarianceExploding()], ids=str)
def test_annealed_langevin_counts_its_calls_and_ends_at_the_data(p: Path) -> None:
    sampler = AnnealedLangevin(corrections=3)
    steps = list(trajectory(exact.Gaussian(MEAN, VARIANCE, p), torch.zeros(2, 3, dtype=F64), solver=sampler, steps=4))
    calls = 3 * 4 + 1 if p == path.Linear() else 3 * 5  # noise is left at t = 0 of the exploding path
    assert [step.calls for step in steps] == [*range(1, calls + 1), calls]
    assert steps[-1].t == 0


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lambda: Langevin(1.5), r"Langevin: t = 1.5 must lie in \[0, 1\]"),
        (lambda: Proportional(0.0), r"Proportional: factor = 0.0 must lie in \(0, 1\]"),
        (lambda: Proportional(1.1), r"Proportional: factor = 1.1 must lie in \(0, 1\]"),
        (lambda: SignalToNoise(-1.0), "SignalToNoise: ratio = -1.0 and largest = 1.0 must be positive"),
        (lambda: AnnealedLangevin(0), "AnnealedLangevin: corrections = 0 must be at least 1"),
    ],
)
def test_settings_that_mean_nothing_are_refused(build: object, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        build()  # type: ignore[operator]


def test_a_chain_needs_noise_and_no_grid() -> None:
    denoiser, x = exact.Gaussian(MEAN, VARIANCE, path.Linear()), torch.zeros(1, 3, dtype=F64)
    with pytest.raises(ValueError, match=r"Langevin: Linear\(\) has no noise at t = 0"):
        sample(denoiser, start=x, solver=Langevin(0.0), steps=2)
    with pytest.raises(ValueError, match=r"Langevin stays at t = 0.1: give steps instead of a grid"):
        sample(denoiser, start=x, solver=Langevin(0.1), grid=torch.tensor([0.2, 0.1], dtype=F64))
    with pytest.raises(ValueError, match="AnnealedLangevin adds noise and needs a grid that falls"):
        sample(denoiser, start=x, solver=solvers.AnnealedLangevin(), grid=torch.tensor([0.1, 0.2], dtype=F64))
