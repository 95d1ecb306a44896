"""Predictor and corrector: the composed recursion on a Gaussian, the paper's 1 − β on its own table, and counted calls."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from ornstein import Estimate, PerSampleNoise, encode, exact, path, sample, solvers, trajectory
from ornstein.path import Path
from ornstein.solvers import (
    ABM,
    DDIM,
    Ancestral,
    EulerMaruyama,
    Heun,
    PredictorCorrector,
    Proportional,
    SignalToNoise,
    Solver,
)

F64 = torch.float64
MEAN = torch.tensor([1.5, -0.5, 0.2], dtype=F64)
VARIANCE = torch.tensor([0.49, 2.0, 0.1], dtype=F64)
GRID = torch.tensor([0.95, 0.6, 0.3, 0.1, 0.0], dtype=F64)


class Units:
    """The n-th distinct draw (t, s, k) is 1 in row 2 + n and 0 elsewhere."""

    def __init__(self, rows: dict[tuple[float, float, int], int], k: int = 0) -> None:
        self.rows, self.k = rows, k

    def repeat(self, k: int) -> "Units":
        return Units(self.rows, k)

    def __call__(self, x: Tensor, t: float, s: float) -> Tensor:
        noise = torch.zeros_like(x)
        noise[2 + self.rows.setdefault((t, s, self.k), len(self.rows))] = 1
        return noise


def moments(sampler: PredictorCorrector, p: Path, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    forms = torch.zeros(40, 3, dtype=F64)
    forms[1] = 1
    result = sample(exact.Gaussian(MEAN, VARIANCE, p), start=forms, solver=sampler, grid=GRID, noise=Units({}))
    weights = result[1:] - result[0]
    return result[0] + weights[0] * mean, weights[0] ** 2 * variance + weights[1:].square().sum(0)


@pytest.mark.parametrize("p", path.ALL, ids=str)
@pytest.mark.parametrize("corrections", [0, 1, 3])
def test_the_moments_are_those_of_predictions_and_corrections_in_turn(p: Path, corrections: int) -> None:
    """DDIM on a Gaussian multiplies x − αm by α_s·αC/V + σ_s·σ/V, a correction by 1 − h/V, h = kσ²(α_t/α_s)²."""
    alpha, sigma = p.alpha(GRID), p.sigma(GRID)
    mean, variance = alpha[0] * MEAN + 0.5, alpha[0] ** 2 * VARIANCE + sigma[0] ** 2
    found = moments(PredictorCorrector(DDIM(), corrections, Proportional(0.3)), p, mean, variance)
    for i in range(1, len(GRID)):
        before = alpha[i - 1] ** 2 * VARIANCE + sigma[i - 1] ** 2
        factor = (alpha[i] * alpha[i - 1] * VARIANCE + sigma[i] * sigma[i - 1]) / before
        mean, variance = alpha[i] * MEAN + factor * (mean - alpha[i - 1] * MEAN), factor**2 * variance
        below = alpha[i + 1] if i + 1 < len(GRID) else alpha[i]
        h, v = 0.3 * sigma[i] ** 2 * (alpha[i] / below) ** 2, alpha[i] ** 2 * VARIANCE + sigma[i] ** 2
        for _ in range(corrections if sigma[i] > 0 else 0):
            mean = alpha[i] * MEAN + (1 - h / v) * (mean - alpha[i] * MEAN)
            variance = (1 - h / v) ** 2 * variance + 2 * h
    assert torch.allclose(found[0], mean, rtol=1e-9, atol=1e-9)
    assert torch.allclose(found[1], variance, rtol=1e-9, atol=1e-9)


def test_on_the_steps_of_a_table_the_factor_is_the_papers() -> None:
    """Algorithm 5: h = 2(1 − β_i)(r‖z‖/‖score‖)², found from what the corrector does to x when z is known."""
    betas = torch.linspace(0.02, 0.5, 10, dtype=F64)
    p, inputs = path.Betas(betas), []
    denoiser = exact.Gaussian(torch.zeros(8, dtype=F64), 0.25, p)

    def record(x: Tensor, t: float) -> Estimate:
        inputs.append((x, t))
        return denoiser(x, t)

    record.path = p  # type: ignore[attr-defined]
    z, r = torch.randn(4, 8, dtype=F64), 0.1
    sampler = PredictorCorrector(DDIM(), 1, SignalToNoise(r, 1e9))
    grid = torch.linspace(1, 0, 11, dtype=F64)
    sample(record, start=torch.randn(4, 8, dtype=F64), solver=sampler, grid=grid, noise=lambda x, t, s: z)  # type: ignore[arg-type]
    corrected = [(a, b, t) for (a, t), (b, u) in pairwise(inputs) if t == u]
    assert [round(t * 10) for *_, t in corrected] == [9, 8, 7, 6, 5, 4, 3, 2, 1]
    for before, after, t in corrected:
        score = denoiser.score(before, t)
        ratio = z.norm(dim=1, keepdim=True) / score.norm(dim=1, keepdim=True)
        h = 2 * (1 - betas[round(t * 10) - 1]) * (r * ratio) ** 2
        assert torch.allclose(after, before + h * score + (2 * h).sqrt() * z, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("predictor", [DDIM(), DDIM(0.5), Ancestral(), EulerMaruyama(), Heun()], ids=str)
@pytest.mark.parametrize("p", [path.Linear(), path.VariancePreserving(), path.EDM()], ids=str)
def test_without_corrections_it_is_the_predictor(predictor: Solver, p: Path) -> None:
    denoiser = exact.Gaussian(MEAN, VARIANCE, p)
    start = PerSampleNoise(3)(torch.zeros(4, 3, dtype=F64), 1.0, 1.0)
    alone = sample(denoiser, start=start, solver=predictor, steps=7)
    assert torch.equal(sample(denoiser, start=start, solver=PredictorCorrector(predictor, 0), steps=7), alone)


@pytest.mark.parametrize("p", path.ALL, ids=str)
@pytest.mark.parametrize(("predictor", "calls_a_step"), [(DDIM(), 1), (ABM(3), 1), (Heun(), 2)], ids=str)
def test_calls_are_counted_and_lazy(p: Path, predictor: Solver, calls_a_step: int) -> None:
    asked: list[float] = []
    denoiser = exact.Gaussian(MEAN, VARIANCE, p)

    def counted(x: Tensor, t: float) -> Estimate:
        asked.append(float(t))
        return denoiser(x, t)

    counted.path = p  # type: ignore[attr-defined]
    start = torch.ones(2, 3, dtype=F64)
    steps = []
    for step in trajectory(counted, start, solver=PredictorCorrector(predictor, 2), steps=4):  # type: ignore[arg-type]
        steps.append(step)
        assert step.calls == len(asked)
    noisy = float(p.sigma(torch.zeros((), dtype=F64))) > 0
    expected = 4 * calls_a_step + 2 * 3 + (2 if noisy else 1 - calls_a_step)
    assert [step.calls for step in steps] == [*range(1, expected + 1), expected]
    assert [step.t for step in steps] == [*asked, 0.0]
    assert torch.equal(steps[0].x, start)
    for step in steps[:-1]:
        assert torch.equal(step.estimate.clean, denoiser(step.x, step.t).clean)


def test_corrections_repair_a_crude_predictor() -> None:
    """Ten ancestral steps lose a third of the variance of a Gaussian; corrections at each level bring much of it back."""
    p = path.VariancePreserving()
    ratios = []
    for corrections in (0, 2, 8):
        forms = torch.zeros(2 + 10 + 9 * 8, 3, dtype=F64)
        forms[1] = 1
        sampler = PredictorCorrector(Ancestral(), corrections, Proportional(0.3))
        result = sample(exact.Gaussian(MEAN, VARIANCE, p), start=forms, solver=sampler, steps=10, noise=Units({}))
        weights = result[1:] - result[0]
        ratios.append((weights.square().sum(0) / VARIANCE).tolist())
    for none, some, many in zip(*ratios, strict=True):
        assert none < some < many
        assert abs(many - 1) < 0.5 * abs(none - 1)


def test_what_it_cannot_do_is_refused() -> None:
    denoiser, x = exact.Gaussian(MEAN, VARIANCE, path.Linear()), torch.zeros(1, 3, dtype=F64)
    with pytest.raises(ValueError, match="PredictorCorrector: corrections = -1 must not be negative"):
        PredictorCorrector(corrections=-1)
    with pytest.raises(ValueError, match="PredictorCorrector adds noise and needs a grid that falls"):
        sample(denoiser, start=x, solver=PredictorCorrector(), grid=torch.tensor([0.1, 0.5], dtype=F64))
    for sampler in solvers.LOOPS:
        if sampler.stochastic:
            with pytest.raises(ValueError, match="adds fresh noise and cannot be run backward"):
                encode(denoiser, x, solver=sampler)
