"""Stochastic solvers on a Gaussian: a run is affine in start and noise, so mean and variance are known without sampling."""

import math
from functools import cache

import pytest
import torch
from torch import Tensor

from ornstein import exact, grid, path, solvers
from ornstein.path import Path
from ornstein.solvers import Solver
from ornstein.table import Table, execute

F64 = torch.float64
MEAN = torch.tensor([1.5, -0.5, 0.2], dtype=F64)
VARIANCE = torch.tensor([0.49, 2.0, 0.1], dtype=F64)


def noise_rate(solver: Solver) -> float:
    """η of a stochastic solver in dx = (u − ½(ηg)²·score) dt + ηg dw̄."""
    return float(getattr(solver, "eta", 1.0))


STOCHASTIC = [s for s in solvers.ALL if s.table(path.Linear(), torch.tensor([0.9, 0.5, 0.2], dtype=F64)).stochastic]
CLOSED = [s for s in STOCHASTIC if isinstance(s, (solvers.DDIM, solvers.Ancestral, solvers.EulerMaruyama))]
WITH_RATES = [*CLOSED, solvers.DDIM(0.5), solvers.EulerMaruyama(0.5), solvers.EulerMaruyama(1.3)]


@cache
def even(p: Path, steps: int) -> Tensor:
    """Times even in the log-SNR, between two levels that every path reaches."""
    return p.time(torch.linspace(-4, 4, steps + 1, dtype=F64))


@cache
def polynomial(p: Path, steps: int) -> Tensor:
    return grid.polynomial(p, steps)


def moments(table: Table, p: Path, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of the result from those of the start, by running the table on affine forms.

    Row 0 of the batch is the run from 0 without noise, row 1 from 1 without noise, row 2 + i from 0 with noise 1 in row i.
    """
    forms = torch.zeros(table.calls + 2, len(MEAN), dtype=F64)
    forms[1] = 1
    rows = {t: i for i, t in enumerate(table.times[:-1].tolist())}

    def unit(x: Tensor, t: float, s: float) -> Tensor:
        noise = torch.zeros_like(x)
        noise[2 + rows[t]] = 1
        return noise

    result = list(execute(table, exact.Gaussian(MEAN, VARIANCE, p), forms, unit))[-1].x
    weights = result[1:] - result[0]
    return result[0] + weights[0] * mean, weights[0] ** 2 * variance + weights[1:].square().sum(0)


def true(p: Path, t: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of x_t."""
    return p.alpha(t) * MEAN, p.alpha(t) ** 2 * VARIANCE + p.sigma(t) ** 2


def one_step(solver: Solver, p: Path, t: float, s: float, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    at = [torch.tensor(u, dtype=F64) for u in (t, s)]
    (a_t, a_s), (s_t, s_s) = ([float(c(u)) for u in at] for c in (p.alpha, p.sigma))
    total = a_t**2 * VARIANCE + s_t**2
    # clean = m + (αC/V)(x − αm), noise = (σ/V)(x − αm)
    clean, noise, dev = a_t * VARIANCE / total, s_t / total, mean - a_t * MEAN
    eta = noise_rate(solver)
    if isinstance(solver, solvers.EulerMaruyama):
        h, g = t - s, eta * float(p.diffusion(at[0]))
        slopes = float(p.d_alpha(at[0])), float(p.d_sigma(at[0]))
        # x − h(α̇·clean + σ̇·noise − ½g²·score), with score = −(x − αm)/V
        factor = 1 - h * (slopes[0] * clean + slopes[1] * noise + 0.5 * g**2 / total)
        return mean - h * slopes[0] * MEAN + (factor - 1) * dev, factor**2 * variance + g**2 * h
    kept = a_t / a_s * s_s / s_t  # of the noise, correlation of the two levels' noises in the forward process
    fresh = eta * s_s * math.sqrt(1 - kept**2)
    if isinstance(solver, solvers.Ancestral):
        factor = kept * s_s / s_t + a_s * (1 - kept**2) * clean
        return a_s * MEAN + factor * dev, factor**2 * variance + fresh**2
    factor = a_s * clean + math.sqrt(s_s**2 - fresh**2) * noise
    return a_s * MEAN + factor * dev, factor**2 * variance + fresh**2


@pytest.mark.parametrize("solver", WITH_RATES, ids=str)
@pytest.mark.parametrize("p", path.ALL, ids=str)
def test_one_step_has_the_closed_form_recursion(p: Path, solver: Solver) -> None:
    for t, s in ((0.9, 0.89), (0.5, 0.48), (0.3, 0.28)):
        mean, variance = torch.tensor([0.4, 1.0, -2.0], dtype=F64), torch.tensor([0.5, 1.5, 0.0], dtype=F64)
        found = moments(solver.table(p, torch.tensor([t, s], dtype=F64)), p, mean, variance)
        expected = one_step(solver, p, t, s, mean, variance)
        assert torch.allclose(found[0], expected[0], rtol=1e-9, atol=1e-9)
        assert torch.allclose(found[1], expected[1], rtol=1e-9, atol=1e-9)


def fitted_order(steps: list[int], errors: list[float]) -> float:
    x, y = torch.tensor(steps, dtype=F64).log(), torch.tensor(errors, dtype=F64).log()
    x, y = x - x.mean(), y - y.mean()
    return -float((x * y).sum() / (x * x).sum())


@pytest.mark.parametrize("solver", [*WITH_RATES, solvers.SDEDPMSolverPP(), solvers.SDEDPMSolver(2, 0.7)], ids=str)
@pytest.mark.parametrize("p", path.ALL, ids=str)
def test_mean_and_variance_converge_at_the_declared_order(p: Path, solver: Solver) -> None:
    """Between two levels, from a mean that is not the marginal's: a deviation d of the SDE with noise ηg decays as

    d_s = d_t (V_s/V_t)^((1 + η²)/2) (α_t/α_s)^(η²), V = α²C + σ², since d(log d)/dt = ½V̇/V + ½η²g²/V and g² = V̇ − 2(α̇/α)V.
    """
    eta, steps, errors = noise_rate(solver), [20, 28, 40], []
    for n in steps:
        times = even(p, n)
        (m_t, v_t), (m_s, v_s) = true(p, times[0]), true(p, times[-1])
        deviation = 0.8 * v_t.sqrt()
        decay = (v_s / v_t) ** ((1 + eta**2) / 2) * (p.alpha(times[0]) / p.alpha(times[-1])) ** (eta**2)
        mean, variance = moments(solver.table(p, times), p, m_t + deviation, v_t)
        errors.append(float((mean - m_s - decay * deviation).norm() + (variance - v_s).norm()))
    assert abs(fitted_order(steps, errors) - solver.order) < 0.15


@pytest.mark.parametrize("solver", STOCHASTIC, ids=str)
@pytest.mark.parametrize("p", path.ALL, ids=str)
def test_from_pure_noise_the_datas_mean_and_variance_are_reached_at_the_declared_order(p: Path, solver: Solver) -> None:
    steps, errors = [48, 68, 96], []
    for n in steps:
        times = polynomial(p, n)
        mean, variance = moments(solver.table(p, times), p, *true(p, times[0]))
        expected = true(p, times[-1])
        errors.append(float((mean - expected[0]).norm() + (variance - expected[1]).norm()))
    assert -0.15 < fitted_order(steps, errors) - solver.order < (0.15 if solver.order == 1 else 0.6)


@pytest.mark.parametrize("p", path.ALL, ids=str)
def test_every_amount_of_noise_has_the_same_marginals_in_the_limit(p: Path) -> None:
    """Richardson's extrapolation 2·v(2N) − v(N) of first-order moments, against each other and the exact ones."""
    for eta in (0.0, 0.6, 1.3):
        solver, limits = solvers.EulerMaruyama(eta), []
        for n in (40, 80):
            times = even(p, n)
            limits.append(torch.stack(moments(solver.table(p, times), p, *true(p, times[0]))))
        assert torch.allclose(2 * limits[1] - limits[0], torch.stack(true(p, times[-1])), rtol=2e-2, atol=2e-3)


@pytest.mark.parametrize("solver", [solvers.DDIM(0.5), solvers.DDIM(1.0), solvers.Ancestral()], ids=str)
@pytest.mark.parametrize("p", path.ALL, ids=str)
def test_samplers_of_the_posterior_keep_the_mean_exactly(p: Path, solver: Solver) -> None:
    times = grid.polynomial(p, 3)
    mean, _ = moments(solver.table(p, times), p, *true(p, times[0]))
    assert torch.allclose(mean, MEAN * p.alpha(times[-1]), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("variance", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("p", path.ALL, ids=str)
def test_the_variance_of_ancestral_steps_is_between_the_posterior_and_the_forward_step(
    p: Path, variance: float
) -> None:
    times = torch.tensor([0.9, 0.6, 0.2], dtype=F64)
    table = solvers.Ancestral(variance).table(p, times)
    forward = p.transition(times[1:], times[:-1]).sigma.log()
    posterior = p.posterior(times[1:], times[:-1]).sigma.log()
    assert torch.allclose(table.R.log(), variance * forward + (1 - variance) * posterior, rtol=1e-10, atol=1e-10)
    assert torch.equal(table.P, solvers.Ancestral().table(p, times).P)
    with_end = solvers.Ancestral(variance).table(p, grid.polynomial(p, 5))
    assert bool(with_end.R.isfinite().all())


def test_the_variance_of_a_ddpm_step_is_beta() -> None:
    """On the table's own times, √β; and with it N(0, I) is kept exactly, which the posterior's variance makes too narrow."""
    betas = path.Betas.linear()
    times = torch.tensor([500, 499], dtype=F64) / 1000
    step = solvers.Ancestral(1.0).table(betas, times)
    alpha = betas.alpha(times)
    assert float(step.R[0]) == pytest.approx(math.sqrt(1 - float(alpha[0] / alpha[1]) ** 2), rel=1e-9)
    for variance, expected in ((1.0, 1.0), (0.0, 0.98)):
        many = solvers.Ancestral(variance).table(betas, torch.linspace(0.9, 0.3, 20, dtype=F64))
        weights = torch.zeros(many.calls + 2, 1, dtype=F64)
        weights[1] = 1
        rows = {t: i for i, t in enumerate(many.times[:-1].tolist())}

        def unit(x: Tensor, t: float, s: float, rows: dict[float, int] = rows) -> Tensor:
            return torch.zeros_like(x).index_fill_(0, torch.tensor(2 + rows[t]), 1.0)

        denoiser = exact.Gaussian(torch.zeros(1, dtype=F64), 1.0, betas)
        result = list(execute(many, denoiser, weights, unit))[-1].x
        found = float((result[1:] - result[0]).square().sum())
        assert found == pytest.approx(expected, rel=1e-9) if variance == 1 else found < expected
    with pytest.raises(ValueError, match=r"Ancestral: variance = 1.5 must lie in \[0, 1\]"):
        solvers.Ancestral(1.5)


@pytest.mark.parametrize("p", path.ALL, ids=str)
def test_ancestral_steps_are_exact_when_the_data_is_one_point(p: Path) -> None:
    """With C = 0 the posterior of x_s is the kernel itself, so any steps give the marginal at every level."""
    times = torch.tensor([0.95, 0.5, 0.1], dtype=F64)
    table = solvers.Ancestral().table(p, times)
    alpha, sigma = p.alpha(times), p.sigma(times)
    variance = sigma[0] ** 2
    for i in range(2):
        # clean is the point itself and noise = (x − α·point)/σ
        variance = table.Q[i, i] ** 2 * variance / sigma[i] ** 2 + table.R[i] ** 2
        assert float(variance) == pytest.approx(float(sigma[i + 1] ** 2), rel=1e-10)
        assert float(table.P[i, i]) == pytest.approx(float(alpha[i + 1]), rel=1e-10)
