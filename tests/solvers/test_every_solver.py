"""What every solver owes on every path: a finite triangular table that ends at t = 0, its calls, and its declared order."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import pytest
import torch
from torch import Tensor

from ornstein import chart, exact, grid, path, sample, solvers
from ornstein.path import Path
from ornstein.solvers import Solver

F64 = torch.float64
CHARTED = [kind(c) for kind in (solvers.Euler, solvers.Heun) for c in chart.ALL]


@dataclass(frozen=True)
class Sine:
    def __call__(self, t: Tensor) -> Tensor:
        return t.sin()


EVERY = list(dict.fromkeys([*solvers.ALL, *CHARTED, solvers.EulerMaruyama(0.0), solvers.EulerMaruyama(Sine())]))
STEPS = (1, 2, 3, 5)


def adds_noise(solver: Solver) -> bool:
    return solver.table(path.Linear(), torch.tensor([0.9, 0.5, 0.2], dtype=F64)).stochastic


@cache
def made(make: Callable[[Path, int], Tensor], p: Path, steps: int) -> Tensor:
    return make(p, steps)


def fits(solver: Solver, p: Path, times: Tensor) -> bool:
    """The chart σ/α is the only one that does not begin at zero SNR."""
    return getattr(solver, "chart", None) != chart.Scaled() or bool(p.alpha(times[0]) > 0)


@pytest.mark.parametrize("solver", EVERY, ids=str)
@pytest.mark.parametrize("p", path.ALL, ids=str)
def test_tables_are_finite_triangular_and_end_at_the_data(p: Path, solver: Solver) -> None:
    for make in [solver.grid, *grid.ALL]:
        for steps in STEPS if make == solver.grid and solver in solvers.ALL else STEPS[-1:]:
            times = made(make, p, steps)
            if not fits(solver, p, times):
                with pytest.raises(ValueError, match=r"chart.Scaled: σ/α is infinite at t = 1"):
                    solver.table(p, times)
                continue
            table = solver.table(p, times)
            assert all(bool(entry.isfinite().all()) for entry in (table.times, table.P, table.Q, table.R))
            assert not table.P.triu(1).any()
            assert not table.Q.triu(1).any()
            assert times[1] < table.times[0] <= times[0]
            assert table.times[-1] == 0
            assert set(times[1:].tolist()) <= set(table.times.tolist())
            assert bool((table.times.diff() <= 0).all()) or isinstance(solver, solvers.EDMHeun)  # churn goes back up
            assert (table.R[-1] == 0) or p.sigma(times[-1:]) > 0  # the last step adds no noise to clean data


def calls(solver: Solver, steps: int, ends_noisy: bool) -> int:
    """One a step, but for methods with stages; a stage at the end of the last step is left out where no noise is left."""
    match solver:
        case solvers.Heun() | solvers.EDMHeun():
            return 2 * steps - (not ends_noisy)
        case solvers.RungeKutta(tableau):
            stages = len(tableau.b)
            return stages * steps - (stages == 4 and not ends_noisy)
        case solvers.DPMSolverPPSingle(order):
            return order * steps
        case solvers.PLMS():
            return steps + (steps > 1 or ends_noisy)
        case solvers.PNDM(warm_up):
            return steps + 3 * min(warm_up, steps - (not ends_noisy))
    return steps


@pytest.mark.parametrize("solver", EVERY, ids=str)
@pytest.mark.parametrize("p", path.ALL, ids=str)
def test_number_of_network_calls(p: Path, solver: Solver) -> None:
    ends_noisy = float(p.sigma(torch.zeros((), dtype=F64))) > 0
    for steps in STEPS:
        table = solver.table(p, made(grid.leading, p, steps))
        assert table.calls == calls(solver, steps, ends_noisy)


@pytest.mark.parametrize("solver", solvers.ALL, ids=str)
@pytest.mark.parametrize("p", path.ALL, ids=str)
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_few_steps_give_finite_samples_of_the_datas_size(p: Path, solver: Solver, steps: int) -> None:
    denoiser = exact.GaussianMixture([0.5, 0.5], [[-1.0, 0.5], [1.0, 0.0]], 0.01, p)
    drawn = sample(denoiser, (8, 2), solver=solver, grid=made(solver.grid, p, steps))
    assert bool(drawn.isfinite().all())
    if not overshoots(solver, p):
        assert float(drawn.abs().max()) < 4 * (1 + float(p.sigma(torch.zeros((), dtype=F64))))


def overshoots(solver: Solver, p: Path) -> bool:
    """Even steps in t are too long for PNDM when they are few; Euler, or stages in λ, where σ is geometric in t."""
    geometric = (solvers.Euler, solvers.DPMSolverSingle) if isinstance(p, path.VarianceExploding) else ()
    return isinstance(solver, (solvers.PLMS, solvers.PNDM, *geometric))


def even(p: Path, steps: int) -> Tensor:
    """Times even in the log-SNR between two levels that every path reaches: smooth in every chart."""
    return p.time(torch.linspace(-3, 3, steps + 1, dtype=F64))


def eased(p: Path, steps: int) -> Tensor:
    """λ between two such levels, with steps of size O(N⁻²) at both."""
    u = torch.arange(steps + 1, dtype=F64) / steps
    return p.time(0.5 - 4.5 * torch.cos(torch.pi * u))


HIGH_MULTISTEP = (solvers.DEIS, solvers.LMS, solvers.DPMSolverPP, solvers.UniPC)
UNBOUNDED = (*HIGH_MULTISTEP, solvers.DPMSolverPPSingle, solvers.PLMS, solvers.PNDM)


def fitted_order(steps: list[int], errors: list[float]) -> float:
    x, y = torch.tensor(steps, dtype=F64).log(), torch.tensor(errors, dtype=F64).log()
    x, y = x - x.mean(), y - y.mean()
    return -float((x * y).sum() / (x * x).sum())


def errors(p: Path, solver: Solver, make: Callable[[Path, int], Tensor], steps: list[int]) -> list[float]:
    denoiser = exact.Gaussian(torch.tensor([0.3, -1.0, 2.0], dtype=F64), torch.tensor([0.25, 0.04, 1.5], dtype=F64), p)
    found = []
    for n in steps:
        times = made(make, p, n)
        start = torch.tensor([[1.0, 0.5, -0.7], [-0.3, -1.2, 0.4]], dtype=F64) * p.sigma(times[0])
        result = sample(denoiser, start=start, solver=solver, grid=times)
        found.append(float((result - denoiser.flow(start, times[0], times[-1])).norm()))
    return found


ONE_CHART = [solver for solver in solvers.ALL if not isinstance(solver, solvers.RungeKutta)]
ON_ALL = [solver for solver in ONE_CHART if solver.order < 3]  # of the others, many steps on three paths
DETERMINISTIC = [solver for solver in EVERY if not adds_noise(solver)]


@pytest.mark.parametrize(
    ("p", "solver"),
    [(p, s) for s in DETERMINISTIC for p in (path.ALL if s in ON_ALL else [path.Cosine(), path.EDM(), path.Linear()])],
    ids=str,
)
def test_fitted_order_is_the_declared_one(p: Path, solver: Solver) -> None:
    """Multistep methods of order 3 and more start with steps of lower order, which must be small: there the grid is graded."""
    graded = isinstance(solver, HIGH_MULTISTEP) and solver.order > 2
    make, steps = (eased, [80, 113, 160]) if graded else (even, [28, 40, 56])
    assert abs(fitted_order(steps, errors(p, solver, make, steps)) - solver.order) < (0.2 if graded else 0.15)


@pytest.mark.parametrize("solver", [s for s in ONE_CHART if not adds_noise(s)], ids=str)
@pytest.mark.parametrize("p", path.ALL, ids=str)
def test_the_ends_do_not_cost_an_order(p: Path, solver: Solver) -> None:
    """From pure noise to data, where steps from zero SNR and to zero noise have forms of their own.

    In λ or σ/α the levels next to zero SNR never get near each other, which leaves order 2; so does a start of low order.
    """
    steps = [24, 48]
    order = min(solver.order, 2) if isinstance(solver, UNBOUNDED) else solver.order
    loss = 0.65 if isinstance(solver, UNBOUNDED) else 0.25
    assert fitted_order(steps, errors(p, solver, grid.polynomial, steps)) > order - loss


def test_declared_orders() -> None:
    declared = {str(solver): solver.order for solver in solvers.ALL}
    assert declared["Heun(chart=Flow())"] == declared["DPMSolverPP(order=2)"] == 2
    assert declared["UniPC(predictor=2, b=B2(), corrector=True, prediction=DataPrediction())"] == 3
    for solver in (solvers.DDIM(1.0), solvers.Ancestral(), solvers.EulerMaruyama()):
        assert solver.order == 1


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lambda: solvers.DDIM(1.5), r"DDIM: eta = 1.5 must lie in \[0, 1\]"),
        (lambda: solvers.DDIM(-0.1), r"DDIM: eta = -0.1 must lie in \[0, 1\]"),
        (lambda: solvers.EulerMaruyama(-1.0), "EulerMaruyama: eta = -1.0 must not be negative"),
        (lambda: solvers.DPMSolverPP(4), "DPMSolverPP: order = 4 must be 1, 2 or 3"),
        (lambda: solvers.DPMSolverSingle(0), "DPMSolverSingle: order = 0 must be 1, 2 or 3"),
        (lambda: solvers.SDEDPMSolverPP(4), "SDEDPMSolverPP: estimates = 4 must be 1, 2 or 3"),
        (lambda: solvers.SDEDPMSolver(2, -1.0), "SDEDPMSolver: eta = -1.0 must not be negative"),
        (lambda: solvers.DEIS(5), "DEIS: order = 5 must be 1, 2, 3 or 4"),
        (lambda: solvers.LMS(0), "LMS: order = 0 must be 1, 2, 3 or 4"),
        (lambda: solvers.UniPC(4), "UniPC: predictor = 4 must be 1, 2 or 3"),
        (lambda: solvers.ERSDE(4), "ERSDE: estimates = 4 must be 1, 2 or 3"),
        (lambda: solvers.PNDM(-1), "PNDM: warm_up = -1 steps must not be negative"),
        (lambda: solvers.EDMHeun(-1.0), "EDMHeun: churn = -1.0 and inflation = 1.0 must not be negative"),
        (lambda: solvers.EDMHeun(1.0, 2.0, 1.0), "EDMHeun: needs 0 <= smallest <= largest, not 2.0 and 1.0"),
    ],
)
def test_settings_that_mean_nothing_are_refused(build: Callable[[], Solver], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        build()


def test_euler_maruyama_refuses_to_add_noise_on_the_way_to_noise() -> None:
    rising = torch.tensor([0.1, 0.5, 0.9], dtype=F64)
    with pytest.raises(ValueError, match="noise needs a grid that falls"):
        solvers.EulerMaruyama().table(path.Linear(), rising)
    assert solvers.EulerMaruyama(0.0).table(path.Linear(), rising) == solvers.Euler().table(path.Linear(), rising)
