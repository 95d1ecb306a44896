"""Steps of chosen size: the tolerance is met against the closed-form flow, noise is not selected, and samples stay apart."""

import math
import sys
from typing import Any

import pytest
import torch
from torch import Tensor

from ornstein import Estimate, NetworkDenoiser, PerSampleNoise, encode, exact, path, sample, solvers, target, trajectory
from ornstein.noise import BrownianNoise
from ornstein.path import Path, Time
from ornstein.solvers import AdaptiveODE, AdaptiveSDE, Solver

F64 = torch.float64
MEAN = torch.tensor([1.5, -0.5, 0.2], dtype=F64)
VARIANCE = torch.tensor([0.49, 2.0, 0.1], dtype=F64)


class Counted:
    """A denoiser that keeps the times it was asked at."""

    def __init__(self, denoiser: Any) -> None:
        self.denoiser, self.path, self.times = denoiser, denoiser.path, list[Tensor]()

    def __call__(self, x_t: Tensor, t: Time) -> Estimate:
        self.times.append(torch.as_tensor(t, dtype=F64))
        return self.denoiser(x_t, t)


def gaussian(p: Path) -> exact.Gaussian:
    return exact.Gaussian(MEAN, VARIANCE, p)


def noisy(p: Path, rows: int = 4) -> Tensor:
    return torch.randn(rows, 3, dtype=F64) * p.sigma(torch.ones((), dtype=F64))


@pytest.mark.parametrize("p", path.ALL, ids=str)
def test_the_tolerance_of_the_ode_is_met_from_noise_to_data_and_back(p: Path) -> None:
    pytest.importorskip("torchdiffeq")
    denoiser, start = gaussian(p), noisy(p)
    expected = denoiser.flow(start, 1.0, 0.0)
    calls = []
    for tolerance in (1e-3, 1e-5):
        solver, counted = AdaptiveODE(tolerance, tolerance), Counted(denoiser)
        *_, last = trajectory(counted, start, solver=solver)
        assert last.t == 0
        assert last.calls == len(counted.times)
        assert all(0 <= float(t) <= 1 for t in counted.times)
        assert torch.allclose(last.x, expected, rtol=30 * tolerance, atol=30 * tolerance)
        calls.append(last.calls)
    assert calls[0] < calls[1]
    code = encode(denoiser, expected, solver=AdaptiveODE(1e-4, 1e-4))
    scale = float(p.sigma(torch.ones((), dtype=F64)))
    assert torch.allclose(code, start, rtol=3e-3, atol=3e-3 * max(scale, 1))


def test_the_ode_stops_at_every_time_of_a_grid() -> None:
    pytest.importorskip("torchdiffeq")
    p, grid = path.Cosine(), torch.tensor([1.0, 0.6, 0.25, 0.0], dtype=F64)
    denoiser, start = Counted(gaussian(p)), noisy(p)
    run = trajectory(denoiser, start, solver=AdaptiveODE(1e-7, 1e-7), grid=grid)
    assert denoiser.times == []
    steps = [next(run)]
    assert len(denoiser.times) == 1
    steps += run
    assert [step.t for step in steps] == grid.tolist()
    assert [step.calls for step in steps] == sorted({step.calls for step in steps})
    assert steps[-1].calls == len(denoiser.times)
    for step in steps:
        assert torch.allclose(step.x, denoiser.denoiser.flow(start, 1.0, step.t), rtol=1e-5, atol=1e-5)
        if step.t > 0:
            assert torch.allclose(step.estimate.clean, denoiser.denoiser(step.x, step.t).clean, rtol=1e-5, atol=1e-5)


def test_a_sample_of_the_ode_meets_the_tolerance_beside_any_other() -> None:
    """The step follows the worst sample, so thousands of easy ones do not hide a hard one."""
    pytest.importorskip("torchdiffeq")
    denoiser = exact.GaussianMixture([0.5, 0.5], torch.tensor([[-1.0], [1.0]], dtype=F64), 1e-4, path.Linear())
    hard, tolerance = torch.tensor([[1e-3]], dtype=F64), 1e-4  # close to the ridge between the modes
    exactly = sample(denoiser, start=hard, solver=AdaptiveODE(1e-9, 1e-9))
    crowd = torch.cat([hard, torch.full((999, 1), 1.0, dtype=F64)])
    alone, among = (sample(denoiser, start=x, solver=AdaptiveODE(tolerance, tolerance))[0] for x in (hard, crowd))
    assert abs(float(alone - exactly)) < 30 * tolerance
    assert abs(float(among - exactly)) < 30 * tolerance


def test_the_ode_runs_networks_in_their_own_type() -> None:
    pytest.importorskip("torchdiffeq")
    denoiser = NetworkDenoiser(lambda x, t: 0.3 * x - 1, path.VariancePreserving(), target.V())
    for dtype in (torch.float32, F64):
        drawn = sample(denoiser, start=torch.ones(2, 3, 5, dtype=dtype), solver=AdaptiveODE())
        assert drawn.dtype == dtype
        assert bool(drawn.isfinite().all())


def test_a_state_that_is_not_finite_stops_the_ode_in_one_sentence() -> None:
    pytest.importorskip("torchdiffeq")
    denoiser = NetworkDenoiser(lambda x, t: x * torch.nan, path.Linear(), target.Velocity())
    with pytest.raises(ValueError, match="AdaptiveODE: no step meets the tolerance after"):
        sample(denoiser, (1, 3), solver=AdaptiveODE())


def test_without_torchdiffeq_a_sentence_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchdiffeq", None)
    with pytest.raises(ImportError, match=r"AdaptiveODE needs torchdiffeq.*pip install 'ornstein\[ode\]'"):
        sample(gaussian(path.Linear()), (1, 3), solver=AdaptiveODE())


@pytest.mark.parametrize("kind", [AdaptiveODE, AdaptiveSDE])
@pytest.mark.parametrize("tolerances", [(0.0, 1e-3), (1e-3, -1.0)])
def test_tolerances_are_positive(kind: type[Solver], tolerances: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match=f"{kind.__name__}: rtol = .* must be positive"):
        kind(*tolerances)


def fresh(x: Tensor, t: Time, s: Time) -> Tensor:
    return torch.randn_like(x)


@pytest.mark.parametrize("p", path.ALL, ids=str)
def test_the_sde_has_the_datas_moments_within_its_tolerance(p: Path) -> None:
    """One element each, where refusing steps for their noise would do the most harm."""
    denoiser = exact.Gaussian(torch.tensor([1.0], dtype=F64), 0.25, p)
    final = float(p.sigma(torch.zeros((), dtype=F64))) ** 2 + 0.25
    start = denoiser.draw(6000, 1.0)
    deviations, calls = [], []
    for tolerance in (0.05, 0.004):
        counted = Counted(denoiser)
        *_, last = trajectory(counted, start, solver=AdaptiveSDE(tolerance, tolerance / 2), noise=fresh)
        assert last.t == 0
        assert last.calls == len(counted.times)
        deviations.append(abs(float(last.x.var()) / final - 1))
        calls.append(last.calls)
    assert abs(float(last.x.mean()) - 1) < 0.03
    assert deviations[1] < deviations[0] < 0.1
    assert deviations[1] < 0.05
    assert calls[0] < calls[1] < 400


@pytest.mark.parametrize("deviation", [0.3, 0.1, 0.03])
def test_the_sde_does_not_step_over_data_of_a_small_deviation(deviation: float) -> None:
    """Far above that level the estimate is constant and the error 0, so the steps grow as fast as they may."""
    for p in (path.Linear(), path.EDM()):
        denoiser = exact.Gaussian(torch.full((16,), 0.3, dtype=F64), deviation**2, p)
        drawn = sample(denoiser, start=denoiser.draw(500, 1.0), solver=AdaptiveSDE(), noise=fresh)
        assert float(drawn.std()) == pytest.approx(math.hypot(deviation, float(p.sigma(torch.zeros(())))), rel=0.05)


def test_every_sample_of_the_sde_has_its_own_steps() -> None:
    """Rows asked at different times, and the same bits alone as among others, wherever the others are."""
    p = path.VariancePreserving()
    denoiser = Counted(exact.GaussianMixture([0.5, 0.5], torch.tensor([[-1.0, 0], [1, 0]], dtype=F64), 0.01, p))
    noise = PerSampleNoise(4)
    start = noise(torch.zeros(16, 2, dtype=F64), 1.0, 1.0)
    together = sample(denoiser, start=start, solver=AdaptiveSDE(), noise=noise)
    assert any(len(t.unique()) > 4 for t in denoiser.times if t.ndim)
    for i in (0, 7, 15):
        alone = sample(denoiser, start=start[i : i + 1], solver=AdaptiveSDE(), noise=PerSampleNoise(4, first=i))
        assert torch.allclose(alone[0], together[i], rtol=1e-10, atol=1e-10)


def test_the_sde_stops_at_every_time_of_a_grid() -> None:
    p, grid = path.Linear(), torch.tensor([1.0, 0.5, 0.2, 0.0], dtype=F64)
    denoiser = Counted(gaussian(p))
    steps = list(trajectory(denoiser, noisy(p), solver=AdaptiveSDE(), grid=grid))
    assert [step.t for step in steps][:3] == [1.0, 0.5, 0.2]
    assert steps[-1].t == 0
    assert steps[-2].calls == steps[-1].calls == len(denoiser.times)
    for step in steps[:-1]:
        assert torch.allclose(step.estimate.clean, denoiser.denoiser(step.x, step.t).clean)
    with pytest.raises(ValueError, match="AdaptiveSDE adds noise and needs a grid that falls"):
        sample(denoiser, start=noisy(p), solver=AdaptiveSDE(), grid=grid.flip(0))


def test_the_sde_follows_a_brownian_path_whatever_its_steps() -> None:
    p = path.VariancePreserving()
    denoiser = exact.GaussianMixture([0.5, 0.5], torch.tensor([[-1.0], [1.0]], dtype=F64), 0.1, p)
    start = torch.linspace(-2, 2, 16, dtype=F64)[:, None]

    def distance(noise: Any) -> float:
        runs = [sample(denoiser, start=start, solver=AdaptiveSDE(r, r / 2), noise=noise) for r in (0.004, 0.0015)]
        return float((runs[0] - runs[1]).square().mean().sqrt())

    assert distance(BrownianNoise()) < 0.2
    assert distance(PerSampleNoise()) > 0.5


def test_a_broken_network_does_not_hang_the_sde() -> None:
    denoiser = NetworkDenoiser(lambda x, t: x * torch.nan, path.Linear(), target.Velocity())
    *_, last = trajectory(denoiser, torch.ones(1, 3), solver=AdaptiveSDE())
    assert last.calls < 100
    assert math.isnan(float(last.x[0, 0]))


@pytest.mark.parametrize("p", path.ALL, ids=str)
@pytest.mark.parametrize("sampler", solvers.LOOPS, ids=lambda sampler: type(sampler).__name__)
def test_every_sampler_on_every_path(p: Path, sampler: Solver) -> None:
    """Finite, ended at t = 0, counted, and the distribution of a 1-D Gaussian, as far as the default settings promise."""
    if isinstance(sampler, AdaptiveODE):
        pytest.importorskip("torchdiffeq")
    denoiser = exact.Gaussian(torch.tensor([1.0], dtype=F64), 0.25, p)
    final = float(p.sigma(torch.zeros((), dtype=F64))) ** 2 + 0.25
    counted = Counted(denoiser)
    *_, last = trajectory(counted, denoiser.draw(4000, 1.0), solver=sampler, steps=40, noise=fresh)
    assert last.t == 0
    assert last.calls == len(counted.times)
    assert bool(last.x.isfinite().all())
    assert abs(float(last.x.mean()) - 1) < 0.05
    assert abs(float(last.x.var()) / final - 1) < 0.2


@pytest.mark.parametrize("shape", [(3,), (1, 3, 5)])
@pytest.mark.parametrize(
    "sampler",
    [*(s for s in solvers.LOOPS if s.stochastic), solvers.PredictorCorrector(size=solvers.SignalToNoise())],
    ids=str,
)
def test_a_sample_is_the_same_alone_and_among_64(sampler: Solver, shape: tuple[int, ...]) -> None:
    mean = torch.linspace(-1, 2, torch.Size(shape).numel()).reshape(shape)
    denoiser = exact.Gaussian(mean, 0.3 + mean.square() / 4, path.VariancePreserving())
    together = sample(denoiser, (64, *shape), solver=sampler, steps=3, noise=PerSampleNoise(7))
    assert together.dtype == torch.float32
    for i in (0, 5, 63):
        alone = sample(denoiser, (1, *shape), solver=sampler, steps=3, noise=PerSampleNoise(7, first=i))
        if isinstance(sampler, AdaptiveSDE):  # the path's functions round times of one row and of many in two ways
            assert torch.allclose(alone[0], together[i], rtol=1e-4, atol=1e-5)
        else:
            assert torch.equal(alone[0], together[i])
