"""Equalities that theory promises between solvers, and with independent plain loops of the published algorithms."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from ornstein import PerSampleNoise, chart, exact, grid, path, sample, solvers
from ornstein.path import Path

F64 = torch.float64


def below_the_end(p: Path, steps: int = 12) -> Tensor:
    """From σ/α = 30 or the path's end to t = 0."""
    return grid.karras(p, steps, rho=3.0, sigma_min=0.01, sigma_max=30.0)


def size(p: Path) -> float:
    return max(1.0, float(p.sigma(torch.ones((), dtype=F64))))


@pytest.mark.parametrize("p", path.ALL, ids=str)
def test_ddim_is_euler_in_the_scaled_chart(p: Path) -> None:
    times = below_the_end(p)
    distance = solvers.DDIM().table(p, times).distance(solvers.Euler(chart.Scaled()).table(p, times))
    assert distance <= 1e-12 * size(p)


@pytest.mark.parametrize("p", path.ALL, ids=str)
@pytest.mark.parametrize("make", grid.ALL)
def test_ddim_is_euler_in_the_flow_chart(p: Path, make: object) -> None:
    """A constant estimate moves on a straight line in both charts, so Euler's step is exact for it; zero SNR included."""
    times = make(p, 12)  # type: ignore[operator]
    distance = solvers.DDIM().table(p, times).distance(solvers.Euler(chart.Flow()).table(p, times))
    assert distance <= 1e-12 * size(p)


@pytest.mark.parametrize("p", [path.Linear(), path.EDM(), path.VarianceExploding()], ids=str)
def test_euler_in_path_time_is_ddim_exactly_where_the_path_is_straight(p: Path) -> None:
    times = grid.uniform(p, 12)
    distance = solvers.DDIM().table(p, times).distance(solvers.Euler().table(p, times))
    straight = not isinstance(p, path.VarianceExploding)  # there σ is geometric in t
    assert (distance <= 1e-12 * size(p)) == straight


@pytest.mark.parametrize("p", path.ALL, ids=str)
def test_euler_in_the_angle_is_another_method(p: Path) -> None:
    times = grid.polynomial(p, 12)
    assert solvers.DDIM().table(p, times).distance(solvers.Euler(chart.Angle()).table(p, times)) > 1e-3


@pytest.mark.parametrize("p", path.ALL, ids=str)
@pytest.mark.parametrize("make", grid.ALL)
def test_ddim_with_all_the_noise_is_ancestral_sampling(p: Path, make: object) -> None:
    times = make(p, 12)  # type: ignore[operator]
    distance = solvers.DDIM(1.0).table(p, times).distance(solvers.Ancestral().table(p, times))
    assert distance <= 1e-9 * size(p)


@pytest.mark.parametrize("p", path.ALL, ids=str)
def test_dpm_solver_of_order_one_is_ddim(p: Path) -> None:
    times = grid.uniform(p, 12)
    assert solvers.DPMSolverPP(1).table(p, times) == solvers.DDIM().table(p, times)


@pytest.mark.parametrize("p", path.ALL, ids=str)
@pytest.mark.parametrize("eta", [0.0, lambda t: 0.0 * t])
def test_euler_maruyama_without_noise_is_euler(p: Path, eta: object) -> None:
    times = grid.uniform(p, 12)
    table = solvers.EulerMaruyama(eta).table(p, times)  # type: ignore[arg-type]
    assert table.distance(solvers.Euler().table(p, times)) <= 1e-12 * size(p)


@pytest.mark.parametrize("p", path.ALL, ids=str)
def test_eta_as_a_function_replaces_the_paths_own_diffusion(p: Path) -> None:
    times = torch.linspace(0.9, 0.0, 8, dtype=F64)
    scaled = solvers.EulerMaruyama(0.7).table(p, times)
    given = solvers.EulerMaruyama(lambda t: 0.7 * p.diffusion(t)).table(p, times)
    assert scaled.distance(given) <= 1e-12 * size(p)


TABLES = [path.Betas.linear(40, 1e-3, 0.3), path.Betas.scaled_linear(50, 0.002, 0.3), path.Betas.squared_cosine(30)]


@pytest.mark.parametrize("p", [*TABLES, path.Betas.linear()], ids=str)
@pytest.mark.parametrize("solver", [solvers.Ancestral(), solvers.DDIM(1.0)], ids=str)
def test_all_steps_of_a_beta_table_are_ddpm(p: path.Betas, solver: solvers.Solver) -> None:
    """x_{i−1} = μ̃_i(x_i, clean) + √β̃_i ξ with Ho et al. 2020, equation 7, from the β alone."""
    table = solver.table(p, grid.trailing(p, p.steps))
    assert table.calls == p.steps
    alpha_bar = [1.0]
    for beta in p.betas:
        alpha_bar.append(alpha_bar[-1] * (1 - beta))
    for row, i in enumerate(range(p.steps, 0, -1)):
        beta, now, before = p.betas[i - 1], alpha_bar[i], alpha_bar[i - 1]
        on_clean = math.sqrt(before) * beta / (1 - now)
        on_x = math.sqrt(1 - beta) * (1 - before) / (1 - now)
        std = math.sqrt((1 - before) / (1 - now) * beta)
        assert table.P[row, row].item() == pytest.approx(on_clean + on_x * math.sqrt(now), abs=1e-9)
        assert table.Q[row, row].item() == pytest.approx(on_x * math.sqrt(1 - now), abs=1e-9)
        assert table.R[row].item() == pytest.approx(std, abs=1e-9)


def test_ddpm_written_as_a_loop_draws_the_same_samples() -> None:
    """Algorithm 2 of Ho et al. 2020 with the mean written in ε, from the β alone."""
    p = TABLES[0]
    denoiser, noise = (
        exact.GaussianMixture([0.3, 0.7], torch.tensor([[-1.0], [1.0]], dtype=F64), 0.05, p),
        PerSampleNoise(4),
    )
    x = start = torch.randn(6, 1, dtype=F64)
    alpha_bar = torch.cumprod(1 - torch.tensor(p.betas, dtype=F64), 0)
    for i in range(p.steps, 0, -1):
        beta, t, s = p.betas[i - 1], i / p.steps, (i - 1) / p.steps
        eps = denoiser(x, t).noise
        x = (x - beta / (1 - alpha_bar[i - 1]).sqrt() * eps) / math.sqrt(1 - beta)
        if i > 1:
            std = ((1 - alpha_bar[i - 2]) / (1 - alpha_bar[i - 1]) * beta).sqrt()
            x = x + std * noise(x, t, s)
    drawn = sample(denoiser, start=start, solver=solvers.Ancestral(), grid=grid.trailing(p, p.steps), noise=noise)
    assert torch.allclose(drawn, x, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("p", path.ALL, ids=str)
def test_dpm_solver_is_the_published_second_order_loop(p: Path) -> None:
    """Lu et al. 2022, algorithm 2, with r_i = h_{i−1}/h_i and D_i = (1 + 1/2r_i) x̂_i − x̂_{i−1}/2r_i."""
    denoiser = exact.GaussianMixture([0.3, 0.7], torch.tensor([[-1.0, 0.4], [1.0, 0.1]], dtype=F64), 0.05, p)
    times = p.time(torch.linspace(-2, 3, 9, dtype=F64).sinh() / 2)  # uneven, so that r_i matters
    x = start = torch.randn(6, 2, dtype=F64) * p.sigma(times[0])
    clean_before = h_before = None
    for t, s in itertools.pairwise(times):
        lam_t, lam_s = (math.log(float(p.alpha(u) / p.sigma(u))) for u in (t, s))
        h, clean = lam_s - lam_t, denoiser(x, t).clean
        d = clean
        if clean_before is not None and h_before is not None:
            r = h_before / h
            d = (1 + 1 / (2 * r)) * clean - clean_before / (2 * r)
        x = p.sigma(s) / p.sigma(t) * x - p.alpha(s) * math.expm1(-h) * d
        clean_before, h_before = clean, h
    drawn = sample(denoiser, start=start, solver=solvers.DPMSolverPP(), grid=times)
    assert torch.allclose(drawn, x, rtol=1e-9, atol=1e-9)


def test_heun_on_the_edm_path_is_the_published_loop() -> None:
    """Karras et al. 2022, algorithm 1 without churn: σ(t) = t, D(x; σ) the estimate of the data."""
    p = path.EDM()
    denoiser = exact.GaussianMixture([0.3, 0.7], torch.tensor([[-1.0, 0.4], [1.0, 0.1]], dtype=F64), 0.05, p)
    times, calls = grid.karras(p, 9), 0
    x = start = torch.randn(5, 2, dtype=F64) * 80
    for t, s in itertools.pairwise(times):
        here, there = float(t) * 80, float(s) * 80
        slope, calls = (x - denoiser(x, t).clean) / here, calls + 1
        ahead = x + (there - here) * slope
        if there != 0:
            corrected, calls = (ahead - denoiser(ahead, s).clean) / there, calls + 1
            ahead = x + (there - here) * (slope + corrected) / 2
        x = ahead
    solver = solvers.Heun(chart.Scaled())
    assert solver.table(p, times).calls == calls
    assert torch.allclose(sample(denoiser, start=start, solver=solver, grid=times), x, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", [solvers.Euler, solvers.Heun])
@pytest.mark.parametrize("c", [chart.Scaled(), chart.Flow(), chart.Angle()], ids=str)
def test_a_solver_in_a_chart_is_the_same_on_every_path(kind: type, c: chart.Chart) -> None:
    """At the same noise levels x/scale does not depend on the path."""
    results = []
    for p in path.ALL:
        denoiser = exact.Gaussian(torch.tensor([0.3, -1.0], dtype=F64), torch.tensor([0.2, 1.5], dtype=F64), p)
        times = p.time(torch.linspace(-4, 5, 7, dtype=F64))
        first, last = (math.hypot(float(p.alpha(t)), float(p.sigma(t))) for t in (times[0], times[-1]))
        start = torch.tensor([[0.4, -1.1]], dtype=F64) * first
        results.append(sample(denoiser, start=start, solver=kind(c), grid=times) / last)
    assert torch.allclose(torch.cat(results), results[0].expand(len(results), -1), rtol=1e-7, atol=1e-7)


def test_ddim_and_2m_are_the_same_on_every_path() -> None:
    for solver in (solvers.DDIM(), solvers.DPMSolverPP()):
        results = []
        for p in path.ALL:
            denoiser = exact.Gaussian(torch.tensor([0.3, -1.0], dtype=F64), torch.tensor([0.2, 1.5], dtype=F64), p)
            times = p.time(torch.linspace(-4, 5, 7, dtype=F64))
            start = torch.tensor([[0.4, -1.1]], dtype=F64) * math.hypot(
                *(float(c(times[0])) for c in (p.alpha, p.sigma))
            )
            scale = math.hypot(*(float(c(times[-1])) for c in (p.alpha, p.sigma)))
            results.append(sample(denoiser, start=start, solver=solver, grid=times) / scale)
        assert torch.allclose(torch.cat(results), results[0].expand(len(results), -1), rtol=1e-7, atol=1e-7)
