"""Solvers against plain loops of the published algorithms, written with tensors and no table."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from ornstein import PerSampleNoise, exact, path, sample, solvers
from ornstein.path import Path
from ornstein.solvers.exponential import DataPrediction, NoisePrediction

F64 = torch.float64
PATHS = [path.Linear(), path.VariancePreserving(), path.EDM(), path.Betas.squared_cosine(50)]


def mixture(p: Path) -> exact.GaussianMixture:
    return exact.GaussianMixture([0.3, 0.7], torch.tensor([[-1.0, 0.4], [1.0, 0.1]], dtype=F64), 0.05, p)


def levels(p: Path, steps: int = 9) -> Tensor:
    """Uneven times between two levels."""
    u = torch.linspace(0, 1, steps + 1, dtype=F64)
    return p.time(-4 + 8 * u + u * (1 - u))


def scales(p: Path, t: Tensor) -> tuple[float, float, float]:
    """α, σ, λ = log(α/σ)."""
    alpha, sigma = float(p.alpha(t)), float(p.sigma(t))
    return alpha, sigma, math.log(alpha / sigma)


def begin(p: Path, times: Tensor) -> Tensor:
    return torch.randn(6, 2, dtype=F64) * p.sigma(times[0])


def same(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("p", PATHS, ids=str)
@pytest.mark.parametrize("corrector", [True, False])
@pytest.mark.parametrize("b", [solvers.B1(), solvers.B2()], ids=str)
@pytest.mark.parametrize("prediction", [DataPrediction(), NoisePrediction()], ids=str)
@pytest.mark.parametrize("order", [1, 2, 3])
def test_unipc(p: Path, order: int, prediction: object, b: object, corrector: bool) -> None:
    """Zhao et al. 2023, algorithms 5 to 8: the linear systems R_p a_p B(h) = φ_p(h), solved as they stand."""
    denoiser, times, on_clean = mixture(p), levels(p), prediction == DataPrediction()
    x = start = begin(p, times)
    past: list[tuple[float, Tensor]] = []  # (λ, held prediction), oldest first
    corrected_before: Tensor | None = None
    used = 0

    def update(x: Tensor, t: Tensor, s: Tensor, rows: list[tuple[float, Tensor]], new: Tensor | None) -> Tensor:
        (a_t, s_t, lam_t), (a_s, s_s, lam_s) = scales(p, t), scales(p, s)
        h = lam_s - lam_t
        z = -h if on_clean else h
        m0 = rows[-1][1]
        r = [(lam - lam_t) / h for lam, _ in rows[-2::-1]]
        d = [(m - m0) / ratio for (_, m), ratio in zip(rows[-2::-1], r, strict=True)]
        if new is not None:
            r, d = [*r, 1.0], [*d, new - m0]
        scale, weight = (s_s / s_t, a_s) if on_clean else (a_s / a_t, s_s)
        x = scale * x - weight * math.expm1(z) * m0
        if not r:
            return x
        big_b, phi, factorial, conditions = b(z), math.expm1(z) / z - 1, 1.0, []  # type: ignore[operator]
        for i in range(1, len(r) + 1):
            conditions.append(phi * factorial / big_b)
            factorial *= i + 1
            phi = phi / z - 1 / factorial
        matrix = torch.tensor([[ratio**i for ratio in r] for i in range(len(r))], dtype=F64)
        a = [0.5] if len(r) == 1 else torch.linalg.solve(matrix, torch.tensor(conditions, dtype=F64)).tolist()
        return x - weight * big_b * sum(w * term for w, term in zip(a, d, strict=True))

    for i, (t, s) in enumerate(itertools.pairwise(times)):
        estimate = denoiser(x, t)
        held = estimate.clean if on_clean else estimate.noise
        if corrector and i > 0:
            assert corrected_before is not None
            x = update(corrected_before, times[i - 1], t, past[-used:], held)
        past.append((scales(p, t)[2], held))
        used = min(order, len(past))
        corrected_before, x = x, update(x, t, s, past[-used:], None)
    solver = solvers.UniPC(order, b, corrector, prediction)  # type: ignore[arg-type]
    assert same(sample(denoiser, start=start, solver=solver, grid=times), x)


@pytest.mark.parametrize("p", PATHS, ids=str)
@pytest.mark.parametrize("order", [1, 2, 3])
def test_dpm_solver_single_step(p: Path, order: int) -> None:
    """Lu et al. 2022, "DPM-Solver", equations 4.1 to 4.4 with r = 1/2 and r₁ = 1/3, r₂ = 2/3."""
    denoiser, times = mixture(p), levels(p, 5)
    x = start = begin(p, times)
    for t, s in itertools.pairwise(times):
        (a_t, _, lam_t), (a_s, s_s, lam_s) = scales(p, t), scales(p, s)
        h, eps = lam_s - lam_t, denoiser(x, t).noise
        plain = a_s / a_t * x - s_s * math.expm1(h) * eps
        if order == 2:
            middle = p.time(torch.tensor(2 * lam_t + h, dtype=F64))
            a_m, s_m, _ = scales(p, middle)
            u = a_m / a_t * x - s_m * math.expm1(h / 2) * eps
            plain = a_s / a_t * x - s_s * math.expm1(h) * denoiser(u, middle).noise
        if order == 3:
            first, second = (p.time(torch.tensor(2 * (lam_t + r * h), dtype=F64)) for r in (1 / 3, 2 / 3))
            (a_1, s_1, _), (a_2, s_2, _) = scales(p, first), scales(p, second)
            u1 = a_1 / a_t * x - s_1 * math.expm1(h / 3) * eps
            d1 = denoiser(u1, first).noise - eps
            r2h = 2 * h / 3
            u2 = a_2 / a_t * x - s_2 * math.expm1(r2h) * eps - 2 * s_2 * (math.expm1(r2h) / r2h - 1) * d1
            d2 = denoiser(u2, second).noise - eps
            plain = plain - 1.5 * s_s * (math.expm1(h) / h - 1) * d2
        x = plain
    assert same(sample(denoiser, start=start, solver=solvers.DPMSolverSingle(order), grid=times), x)


@pytest.mark.parametrize("p", PATHS, ids=str)
def test_dpm_solver_pp_2s(p: Path) -> None:
    """Lu et al. 2022, "DPM-Solver++", algorithm 1 with r = 1/2: D is the estimate in the middle."""
    denoiser, times = mixture(p), levels(p, 5)
    x = start = begin(p, times)
    for t, s in itertools.pairwise(times):
        (_, s_t, lam_t), (a_s, s_s, lam_s) = scales(p, t), scales(p, s)
        h = lam_s - lam_t
        middle = p.time(torch.tensor(2 * lam_t + h, dtype=F64))
        a_m, s_m, _ = scales(p, middle)
        u = s_m / s_t * x - a_m * math.expm1(-h / 2) * denoiser(x, t).clean
        x = s_s / s_t * x - a_s * math.expm1(-h) * denoiser(u, middle).clean
    assert same(sample(denoiser, start=start, solver=solvers.DPMSolverPPSingle(2), grid=times), x)


@pytest.mark.parametrize("p", PATHS, ids=str)
def test_sde_dpm_solvers(p: Path) -> None:
    """Lu et al. 2022, "DPM-Solver++", section 5: SDE-DPM-Solver++(2M) and its noise form, with their fresh noise."""
    denoiser, times, noise = mixture(p), levels(p), PerSampleNoise(3)
    start = begin(p, times)
    for solver, on_clean in ((solvers.SDEDPMSolverPP(), True), (solvers.SDEDPMSolver(), False)):
        x, before, h_before = start, None, math.nan
        for t, s in itertools.pairwise(times):
            (a_t, s_t, lam_t), (a_s, s_s, lam_s) = scales(p, t), scales(p, s)
            h, estimate = lam_s - lam_t, denoiser(x, t)
            m = estimate.clean if on_clean else estimate.noise
            d = m if before is None else m + (m - before) * h / (2 * h_before)
            xi = noise(x, float(t), float(s))
            if on_clean:
                x = s_s / s_t * math.exp(-h) * x - a_s * math.expm1(-2 * h) * d
                x = x + s_s * math.sqrt(-math.expm1(-2 * h)) * xi
            else:
                x = a_s / a_t * x - 2 * s_s * math.expm1(h) * d + s_s * math.sqrt(math.expm1(2 * h)) * xi
            before, h_before = m, h
        assert same(sample(denoiser, start=start, solver=solver, grid=times, noise=noise), x)


@pytest.mark.parametrize("p", PATHS, ids=str)
@pytest.mark.parametrize("warm_up", [0, 3])
def test_pndm(p: Path, warm_up: int) -> None:
    """Liu et al. 2022, equations 11 to 13 and algorithm 2."""
    denoiser, times = mixture(p), torch.linspace(0.9, 0.05, 8, dtype=F64)
    x = start = begin(p, times)

    def phi(x: Tensor, eps: Tensor, t: Tensor, s: Tensor) -> Tensor:
        (a_t, s_t, _), (a_s, s_s, _) = scales(p, t), scales(p, s)
        return a_s * (x - s_t * eps) / a_t + s_s * eps

    table = {1: [1], 2: [3 / 2, -1 / 2], 3: [23 / 12, -16 / 12, 5 / 12], 4: [55 / 24, -59 / 24, 37 / 24, -9 / 24]}
    past: list[Tensor] = []
    for i, (t, s) in enumerate(itertools.pairwise(times)):
        e1 = denoiser(x, t).noise
        past = [e1, *past[:3]]
        eps = sum(w * e for w, e in zip(table[len(past)], past, strict=True))
        if i < warm_up:
            middle = (t + s) / 2
            e2 = denoiser(phi(x, e1, t, middle), middle).noise
            e3 = denoiser(phi(x, e2, t, middle), middle).noise
            e4 = denoiser(phi(x, e3, t, s), s).noise
            eps = (e1 + 2 * e2 + 2 * e3 + e4) / 6
        x = phi(x, eps, t, s)  # type: ignore[arg-type]
    assert same(sample(denoiser, start=start, solver=solvers.PNDM(warm_up), grid=times), x)


def test_edm_churn() -> None:
    """Karras et al. 2022, algorithm 2, from its second step on: the first begins at the start itself."""
    from ornstein import chart

    p = path.EDM()
    denoiser, noise = mixture(p), PerSampleNoise(5)
    times = p.time(-2 * torch.tensor([40.0, 20.0, 8.0, 3.0, 1.0, 0.3, 0.05], dtype=F64).log())
    times = torch.cat([times, torch.zeros(1, dtype=F64)])
    settings = {"churn": 1.4, "smallest": 0.1, "largest": 15.0, "inflation": 1.007}
    x = start = begin(p, times)
    for i, (t, s) in enumerate(itertools.pairwise(times)):
        here, there = 80 * float(t), 80 * float(s)
        gamma = min(settings["churn"] / 7, math.sqrt(2) - 1)
        if i > 0 and settings["smallest"] <= here <= settings["largest"]:
            raised = here * (1 + gamma)
            x = x + math.sqrt(raised**2 - here**2) * settings["inflation"] * noise(x, float(t), raised / 80)
            here = raised
        slope = (x - denoiser(x, here / 80).clean) / here
        ahead = x + (there - here) * slope
        if there > 0:
            ahead = x + (there - here) / 2 * (slope + (ahead - denoiser(ahead, s).clean) / there)
        x = ahead
    solver = solvers.EDMHeun(**settings, chart=chart.Scaled())
    marks = iter(
        [i for i, t in enumerate(times[:-1]) if i > 0 and settings["smallest"] <= 80 * t <= settings["largest"]]
    )

    def drawn(x: Tensor, t: float, s: float) -> Tensor:
        at = float(times[next(marks)])
        return noise(x, at, 80 * at * (1 + 1.4 / 7) / 80)

    found = sample(denoiser, start=start, solver=solver, grid=times, noise=drawn)
    assert torch.allclose(found, x, rtol=1e-8, atol=1e-8)


def test_edm_without_churn_is_heun() -> None:
    for p in PATHS:
        times = torch.linspace(1, 0, 9, dtype=F64)
        assert solvers.EDMHeun().table(p, times) == solvers.Heun().table(p, times)


def test_noise_and_churn_are_refused_on_the_way_to_noise() -> None:
    rising = torch.tensor([0.1, 0.5, 0.9], dtype=F64)
    for solver in (solvers.SDEDPMSolverPP(), solvers.SDEDPMSolver(), solvers.ERSDE()):
        with pytest.raises(
            ValueError, match=r"fresh noise needs a grid that falls, and this one rises from t = 0.1 to 0.5"
        ):
            solver.table(path.Linear(), rising)
    with pytest.raises(ValueError, match="EDMHeun: churn needs a grid that falls"):
        solvers.EDMHeun(1.0).table(path.Linear(), rising)
