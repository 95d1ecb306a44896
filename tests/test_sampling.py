"""Runs: the same bits in any batch, lazy trajectories, calls that are counted, and the way back."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

import ornstein
from ornstein import (
    NetworkDenoiser,
    PerSampleNoise,
    chart,
    encode,
    exact,
    grid,
    path,
    sample,
    solvers,
    target,
    trajectory,
)
from ornstein.estimate import Estimate
from ornstein.path import Path, Time
from ornstein.preconditioning import Identity, UnitVariance
from ornstein.sampling import DEFAULT
from ornstein.solvers import Solver
from ornstein.table import Table, execute

F64 = torch.float64


def gaussian(p: Path, shape: tuple[int, ...] = (3,), dtype: torch.dtype = F64) -> exact.Gaussian:
    mean = torch.linspace(-1, 2, torch.Size(shape).numel(), dtype=dtype).reshape(shape)
    return exact.Gaussian(mean, 0.3 + mean.square() / 4, p)


class Counted:
    """A denoiser that keeps the times it was asked at."""

    def __init__(self, denoiser: Any) -> None:
        self.denoiser, self.path = denoiser, denoiser.path
        self.times: list[float] = []

    def __call__(self, x_t: Tensor, t: Time) -> Estimate:
        self.times.append(float(t))
        return self.denoiser(x_t, t)


@pytest.mark.parametrize("p", path.ALL, ids=str)
@pytest.mark.parametrize("solver", [*solvers.ALL, solvers.EulerMaruyama(0.3)], ids=str)
def test_a_sample_is_the_same_bits_alone_and_among_64(p: Path, solver: Solver) -> None:
    shape = (1, 3, 5)  # odd, so that vectorised kernels end in a tail
    denoiser = gaussian(p, shape, torch.float32)
    times = solver.grid(p, 3)
    together = sample(denoiser, (64, *shape), solver=solver, grid=times, noise=PerSampleNoise(7))
    assert together.dtype == torch.float32
    for i in (0, 63):
        alone = sample(denoiser, (1, *shape), solver=solver, grid=times, noise=PerSampleNoise(7, first=i))
        assert torch.equal(alone[0], together[i])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("shape", [(1,), (33,), (3, 7, 9)])
@pytest.mark.parametrize("solver", [solvers.DDIM(), solvers.Ancestral(), solvers.DPMSolverPP()], ids=str)
def test_bits_do_not_depend_on_the_batch_for_any_shape_and_dtype(
    solver: Solver, shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    """With an elementwise network as well, where the prediction is folded into the table."""
    denoiser = NetworkDenoiser(lambda x, t: x * 0.5 - 1, path.VariancePreserving(), target.V())
    noise = PerSampleNoise(2)(torch.zeros(17, *shape, dtype=dtype), 1.0, 1.0)
    together = sample(denoiser, start=noise, solver=solver, steps=5)
    for i in (0, 16):
        alone = sample(denoiser, start=noise[i : i + 1], solver=solver, steps=5, noise=PerSampleNoise(0, first=i))
        assert torch.equal(alone[0], together[i])


def test_the_seed_decides_and_nothing_else() -> None:
    denoiser, solver = gaussian(path.Linear()), solvers.Ancestral()
    first = sample(denoiser, (4, 3), solver=solver)
    torch.manual_seed(99)
    assert torch.equal(first, sample(denoiser, (4, 3), solver=solver, noise=PerSampleNoise(0)))
    assert not torch.equal(first, sample(denoiser, (4, 3), solver=solver, noise=PerSampleNoise(1)))


@pytest.mark.parametrize("p", path.ALL, ids=str)
@pytest.mark.parametrize("make", grid.ALL)
def test_the_start_is_noise_of_the_grids_first_level(p: Path, make: Callable[..., Tensor]) -> None:
    """Noise of another level would be the known defect of grids that do not begin at t = 1."""
    times = make(p, 4)
    inputs: list[Tensor] = []

    def record(x: Tensor, t: Time) -> Estimate:
        inputs.append(x)
        return Estimate(x, x)

    record.path = p  # type: ignore[attr-defined]
    sample(record, (2, 3), solver=solvers.DDIM(), grid=times)  # type: ignore[arg-type]
    expected = PerSampleNoise()(torch.zeros(2, 3), float(times[0]), float(times[0])) * p.sigma(times[0])
    assert torch.equal(inputs[0], expected.float())


@pytest.mark.parametrize("solver", solvers.ALL, ids=str)
def test_samples_of_a_gaussian_have_its_mean_and_variance(solver: Solver) -> None:
    denoiser = exact.Gaussian(torch.tensor([2.0, -1.0]), torch.tensor([0.25, 4.0]), path.VariancePreserving())
    drawn = sample(denoiser, (2000, 2), solver=solver, steps=80)  # first-order solvers are 5 % short at 80 steps
    assert torch.allclose(drawn.mean(0), denoiser.mean, atol=0.15)
    assert torch.allclose(drawn.var(0), denoiser.cov, rtol=0.15)


def test_defaults() -> None:
    denoiser = gaussian(path.Cosine())
    expected = sample(
        denoiser, (2, 3), solver=DEFAULT, grid=DEFAULT.grid(denoiser.path, 20), noise=PerSampleNoise(0, 0)
    )
    assert torch.equal(sample(denoiser, (2, 3)), expected)


def test_no_gradients_are_kept_and_the_callers_mode_is_untouched() -> None:
    weight = torch.ones(3, requires_grad=True)
    denoiser = NetworkDenoiser(lambda x, t: x * weight, path.Linear(), target.Velocity())
    assert not sample(denoiser, (2, 3), steps=2).requires_grad
    for step in trajectory(denoiser, torch.ones(2, 3), steps=2):
        assert torch.is_grad_enabled()
        assert not step.x.requires_grad


@pytest.mark.parametrize("solver", solvers.ALL, ids=str)
@pytest.mark.parametrize("p", [path.Linear(), path.EDM(), path.Betas.linear(100)], ids=str)
def test_a_trajectory_is_the_run_of_sample(p: Path, solver: Solver) -> None:
    start = torch.randn(2, 3, dtype=F64) * p.sigma(torch.ones((), dtype=F64))
    denoiser = Counted(gaussian(p))
    result = sample(denoiser, start=start, solver=solver, steps=5)
    table = solver.table(p, solver.grid(p, 5))
    assert denoiser.times == table.times[:-1].tolist()

    steps = list(trajectory(denoiser, start, solver=solver, steps=5))
    assert len(steps) == table.calls + 1
    assert [step.calls for step in steps] == [*range(1, table.calls + 1), table.calls]
    assert [step.t for step in steps] == table.times.tolist()
    assert torch.equal(steps[0].x, start * table.gain)
    assert torch.equal(steps[-1].x, result)
    for step in steps[:-1]:
        assert torch.equal(step.estimate.clean, denoiser.denoiser(step.x, step.t).clean)


def test_a_trajectory_calls_the_network_only_when_it_is_advanced() -> None:
    denoiser = Counted(gaussian(path.Linear()))
    run = trajectory(denoiser, torch.ones(2, 3, dtype=F64), solver=solvers.DDIM(), steps=10)
    assert denoiser.times == []
    for calls in (1, 2, 3):
        assert next(run).calls == calls
        assert len(denoiser.times) == calls
    run.close()  # type: ignore[attr-defined]
    assert len(denoiser.times) == 3


def test_a_grid_by_hand_is_used_as_it_is() -> None:
    denoiser = Counted(gaussian(path.Linear()))
    sample(denoiser, (1, 3), solver=solvers.DDIM(), grid=torch.tensor([0.9, 0.2, 0.1, 0.0], dtype=F64))
    assert denoiser.times == [0.9, 0.2, 0.1]


@pytest.mark.parametrize("draw", [sample, trajectory, encode])
def test_a_bad_grid_is_refused_before_anything_runs(draw: Callable[..., Any]) -> None:
    denoiser = Counted(gaussian(path.Linear()))
    arguments = {"start": torch.ones(1, 3)} if draw is not encode else {"x": torch.ones(1, 3)}
    with pytest.raises(ValueError, match=r"grid\[0\] = 999 lies outside"):
        draw(denoiser, **arguments, grid=torch.tensor([999.0, 500.0, 0.0]))
    assert denoiser.times == []


@pytest.mark.parametrize("arguments", [{}, {"shape": (1, 3), "start": torch.ones(1, 3)}])
def test_shape_or_start(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="sample needs either shape"):
        sample(gaussian(path.Linear()), **arguments)


SHORT = torch.tensor([0.9, 0.5, 0.2], dtype=F64)
DETERMINISTIC = [solver for solver in solvers.ALL if not solver.table(path.Linear(), SHORT).stochastic]
STOCHASTIC = [solver for solver in solvers.ALL if solver not in DETERMINISTIC]


def fitted_order(steps: list[int], errors: list[float]) -> float:
    x, y = torch.tensor(steps, dtype=F64).log(), torch.tensor(errors, dtype=F64).log()
    x, y = x - x.mean(), y - y.mean()
    return -float((x * y).sum() / (x * x).sum())


@pytest.mark.parametrize("solver", DETERMINISTIC, ids=str)
@pytest.mark.parametrize("p", [path.Linear(), path.VariancePreserving(), path.EDM()], ids=str)
def test_encoding_follows_the_same_ode_at_the_solvers_order(p: Path, solver: Solver) -> None:
    """Against the closed-form flow, and there and back, between two levels of noise.

    Multistep methods of order 3 and more need small first steps, which are of lower order.
    """
    high = isinstance(solver, (solvers.DEIS, solvers.LMS, solvers.DPMSolverPP, solvers.UniPC)) and solver.order > 2
    denoiser, steps = gaussian(p), [113, 160, 226] if high else [24, 34, 48]
    there, back = [], []
    for n in steps:
        u = torch.linspace(-1, 1, n + 1, dtype=F64)
        times = p.time(4 * torch.sin(torch.pi / 2 * u) if high else 4 * u)
        x = denoiser.mean * p.alpha(times[-1]) + torch.tensor([[0.4, -0.7, 0.9]], dtype=F64)
        code = encode(denoiser, x, solver=solver, grid=times)
        there.append(float((code - denoiser.flow(x, times[-1], times[0])).norm()))
        back.append(float((sample(denoiser, start=code, solver=solver, grid=times) - x).norm()))
    assert abs(fitted_order(steps, there) - solver.order) < 0.2
    assert fitted_order(steps, back) > solver.order - 0.2  # even methods gain an order by symmetry


@pytest.mark.parametrize("solver", [solvers.DDIM(), solvers.Heun(), solvers.DPMSolverPP()], ids=str)
@pytest.mark.parametrize("p", path.ALL, ids=str)
def test_data_comes_back_from_its_code(p: Path, solver: Solver) -> None:
    denoiser, x = gaussian(p), torch.tensor([[0.5, 1.0, 1.5]], dtype=F64)
    tolerance = 0.2 if solver.order == 1 else 0.04
    times = solver.grid(p, 40)
    code = encode(denoiser, x, solver=solver, grid=times)
    assert torch.allclose(sample(denoiser, start=code, solver=solver, grid=times), x, atol=tolerance)
    scale = float(p.sigma(torch.ones((), dtype=F64)))
    assert torch.allclose(code, denoiser.flow(x, 0.0, 1.0), atol=tolerance * max(scale, 1))


def test_encoding_runs_from_data_to_noise_whichever_way_the_grid_is_given() -> None:
    denoiser, x, times = gaussian(path.Linear()), torch.ones(1, 3, dtype=F64), torch.linspace(1, 0, 6, dtype=F64)
    falling, rising = (encode(denoiser, x, solver=solvers.DDIM(), grid=g) for g in (times, times.flip(0)))
    assert torch.equal(falling, rising)


@pytest.mark.parametrize("p", path.ALL, ids=str)
@pytest.mark.parametrize("solver", [*STOCHASTIC, solvers.DDIM(0.2)], ids=str)
def test_stochastic_solvers_do_not_encode(p: Path, solver: Solver) -> None:
    with pytest.raises(ValueError) as caught:
        encode(gaussian(p), torch.ones(1, 3, dtype=F64), solver=solver)
    assert str(solver) in str(caught.value)
    assert "adds fresh noise and cannot be run backward" in str(caught.value)


def test_encoding_where_the_path_has_no_derivative_names_the_way_out() -> None:
    denoiser, x = gaussian(path.VariancePreserving()), torch.ones(1, 3, dtype=F64)
    with pytest.raises(ValueError, match=r"VariancePreserving.*infinite at t = 0; .*Euler\(chart.Flow\(\)\)"):
        encode(denoiser, x, solver=solvers.Euler())
    assert bool(encode(denoiser, x, solver=solvers.Euler(chart.Flow())).isfinite().all())


def test_public_names() -> None:
    assert ornstein.sample is sample
    assert ornstein.trajectory is trajectory
    assert ornstein.encode is encode


@dataclass(frozen=True)
class Watched(solvers.DDIM):
    """DDIM that says when its table is written."""

    def table(self, path: Path, grid: Tensor) -> Table:
        WRITTEN.append(self)
        return super().table(path, grid)


class Changing:
    """A solver that can change: nothing of it is kept."""

    order = 1
    eta = 0.0

    def grid(self, path: Path, steps: int) -> Tensor:
        return grid.uniform(path, steps)

    def table(self, path: Path, grid: Tensor) -> Table:
        return solvers.DDIM(self.eta).table(path, grid)


WRITTEN: list[object] = []


def test_the_table_of_a_frozen_solver_is_written_once() -> None:
    denoiser = exact.Gaussian(torch.zeros(2), torch.ones(2), path.Linear())
    results = [sample(denoiser, (4, 2), solver=Watched(), steps=7) for _ in range(3)]
    assert len(WRITTEN) == 1
    assert torch.equal(results[0], results[2])
    sample(denoiser, (4, 2), solver=Watched(), steps=8)
    sample(exact.Gaussian(torch.zeros(2), torch.ones(2), path.Cosine()), (4, 2), solver=Watched(), steps=7)
    assert len(WRITTEN) == 3


def test_a_solver_that_changes_is_asked_again() -> None:
    denoiser, solver = exact.Gaussian(torch.zeros(2), torch.ones(2), path.Linear()), Changing()
    before = sample(denoiser, (4, 2), solver=solver, steps=7)
    solver.eta = 1.0
    assert not torch.equal(sample(denoiser, (4, 2), solver=solver, steps=7), before)


def test_runs_that_repeat_a_table_are_those_of_a_first_run() -> None:
    """What is kept of a run is told apart by path, target, preconditioning, solver and grid."""
    x, weight = torch.randn(3, 4), torch.randn(4, 4)
    kinds = [
        NetworkDenoiser(lambda x, t: (x @ weight).sin() + t[:, None], p, quantity, preconditioning)
        for p in (path.Linear(), path.Betas.linear(), path.Betas.scaled_linear())
        for quantity in (target.V(), target.Velocity(), target.EDM(0.5), target.EDM(0.7))
        for preconditioning in (Identity(), UnitVariance(0.5), UnitVariance(2.0))
    ]
    for solver in (solvers.DDIM(), solvers.ABM()):
        for denoiser in kinds:
            times = solver.grid(denoiser.path, 5)
            *_, right = execute(solver.table(denoiser.path, times), denoiser, x, PerSampleNoise())
            for _ in range(2):
                assert torch.equal(sample(denoiser, start=x, solver=solver, steps=5), right.x)


class Halved(NetworkDenoiser):
    """A denoiser with another matrix than that of its target."""

    def inverse(self, t: Tensor) -> Tensor:
        return super().inverse(t) / 2


def test_the_matrix_of_a_denoiser_is_its_own() -> None:
    x = torch.randn(3, 4)
    plain, own = (kind(lambda x, t: x.sin(), path.Linear(), target.V()) for kind in (NetworkDenoiser, Halved))
    times = solvers.DDIM().grid(path.Linear(), 5)
    *_, right = execute(solvers.DDIM().table(path.Linear(), times), own, x, PerSampleNoise())
    first, second = (sample(each, start=x, solver=solvers.DDIM(), steps=5) for each in (plain, own))
    assert torch.equal(second, right.x)
    assert not torch.allclose(first, second)


def test_what_a_run_without_gradients_keeps_serves_one_with_gradients() -> None:
    network = torch.nn.Linear(4, 4)
    denoiser = NetworkDenoiser(lambda x, t: network(x) * t[:, None], path.Betas.linear(), target.V(), UnitVariance(0.5))
    x = torch.randn(3, 4)
    with torch.inference_mode():
        sample(denoiser, start=x, steps=6)
    sample(denoiser, start=x, steps=6, differentiable=True).sum().backward()
    assert network.weight.grad is not None


@dataclass(frozen=True)
class Shrunk(path.Linear):
    """A path whose end at t = 0 is not in the units of the data."""

    def alpha(self, t: Tensor) -> Tensor:
        return 0.9 * (1 - t)


def test_a_path_in_other_units_than_the_data_is_refused() -> None:
    denoiser = exact.Gaussian(torch.zeros(2), torch.ones(2), Shrunk())
    for draw in (lambda: sample(denoiser, (2, 2)), lambda: encode(denoiser, torch.ones(2, 2))):
        with pytest.raises(ValueError, match=r"α\(0\) = 0.9 must be 1, .*divide its alpha and sigma by that number"):
            draw()
