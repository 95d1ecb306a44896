"""Order conditions, which an order fit does not see: a wrong coefficient of the same order fails here.

A method that interpolates the data or the noise prediction must integrate polynomials exactly in its variable, so the
denoisers of this file are functions of time alone and the exact increments are quadratures.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from torch import Tensor

from ornstein import Estimate, chart, path, solvers, trajectory
from ornstein.path import Path
from ornstein.solvers import Solver
from ornstein.solvers.exponential import DataPrediction, NoisePrediction, exponential_weights
from ornstein.solvers.runge_kutta import EULER, HEUN, HEUN3, KUTTA3, MIDPOINT, TABLEAUS, THREE_EIGHTHS

F64 = torch.float64
PATHS = [path.Linear(), path.VariancePreserving(), path.Cosine(), path.EDM()]
UNEVEN = torch.tensor([2.3, 2.0, 1.1, 0.7, -0.4, -0.9, -1.3, -2.6], dtype=F64)  # log(σ/α)


@dataclass
class Held:
    """A denoiser whose noise (or data, if `clean`) is a function of log(σ/α) alone; the other follows from x_t."""

    path: Path
    value: Callable[[float], float]
    clean: bool = False

    def __call__(self, x: Tensor, t: float) -> Estimate:
        t = torch.as_tensor(t, dtype=F64)
        alpha, sigma = float(self.path.alpha(t)), float(self.path.sigma(t))
        value = torch.full_like(x, self.value(math.log(sigma / alpha)))
        return (
            Estimate(value, (x - alpha * value) / sigma) if self.clean else Estimate((x - sigma * value) / alpha, value)
        )


def increments(solver: Solver, denoiser: Held, times: Tensor) -> list[float]:
    """x_s/α_s − x_t/α_t of each step of a run without noise, or x_s/σ_s − x_t/σ_t where the data is held."""
    start = torch.ones(1, 1, dtype=F64)
    scale = denoiser.path.sigma if denoiser.clean else denoiser.path.alpha
    grid = set(times.tolist())
    steps = [step for step in trajectory(denoiser, start, solver=solver, grid=times) if step.t in grid]
    # a stage may share its time with the step after it, which then wins
    values = {step.t: float(step.x / scale(torch.tensor(step.t, dtype=F64))) for step in steps}
    ordered = [values[t] for t in times.tolist()]
    return [b - a for a, b in pairwise(ordered)]


def integral(value: Callable[[float], float], clean: bool, u: float, v: float) -> float:
    """∫ noise dρ or ∫ data d(1/ρ) between two values of log ρ."""
    sign = -1 if clean else 1
    return sign * quad(lambda w: value(w) * math.exp(sign * w), u, v, epsabs=1e-13, epsrel=1e-12)[0]


def polynomial(degree: int, of: Callable[[float], float] = float) -> Callable[[float], float]:
    return lambda w: sum((k + 1) * of(w) ** k for k in range(degree + 1))


LOG_RHO = [
    (solvers.DEIS(2, solvers.LogRho()), False),
    (solvers.DEIS(3, solvers.LogRho()), False),
    (solvers.DEIS(4, solvers.LogRho()), False),
    (solvers.DPMSolver(3), False),
    (solvers.DPMSolverPP(3), True),
    (solvers.UniPC(3, corrector=False), True),
    (solvers.UniPC(3, corrector=False, prediction=NoisePrediction()), False),
]


@pytest.mark.parametrize("p", PATHS, ids=str)
@pytest.mark.parametrize(("solver", "clean"), LOG_RHO, ids=str)
def test_multistep_in_log_rho_integrates_polynomials_exactly(p: Path, solver: Solver, clean: bool) -> None:
    """On uneven steps, once there are `order` estimates; and one degree more is not exact."""
    times = p.time(-2 * UNEVEN)
    for degree, exact in ((solver.order - 1, True), (solver.order, False)):
        value = polynomial(degree)
        found = increments(solver, Held(p, value, clean), times)
        for i in range(solver.order - 1, len(found)):
            expected = integral(value, clean, float(UNEVEN[i]), float(UNEVEN[i + 1]))
            assert (found[i] == pytest.approx(expected, rel=1e-8)) == exact


@pytest.mark.parametrize("p", PATHS, ids=str)
@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_deis_in_rho_and_lms_integrate_polynomials_of_rho_exactly(p: Path, order: int) -> None:
    times = p.time(-2 * UNEVEN)
    value = polynomial(order - 1, math.exp)
    for solver in (solvers.DEIS(order, solvers.Rho()), solvers.LMS(order)):
        found = increments(solver, Held(p, value), times)
        for i in range(order - 1, len(found)):
            expected = integral(value, False, float(UNEVEN[i]), float(UNEVEN[i + 1]))
            assert found[i] == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("p", PATHS, ids=str)
@pytest.mark.parametrize("order", [2, 3, 4])
def test_deis_in_time_integrates_polynomials_of_t_exactly(p: Path, order: int) -> None:
    times = p.time(-2 * UNEVEN)
    value = polynomial(order - 1, lambda w: float(p.time(-2 * w)))
    found = increments(solvers.DEIS(order, solvers.Time()), Held(p, value), times)
    for i in range(order - 1, len(found)):
        expected = integral(value, False, float(UNEVEN[i]), float(UNEVEN[i + 1]))
        assert found[i] == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("p", PATHS, ids=str)
def test_dpm_solver_3_on_noise_is_deis_in_log_rho(p: Path) -> None:
    times = p.time(-2 * UNEVEN)
    table = solvers.DPMSolver(3).table(p, times)
    two = len(times) - 1 - 2  # order 2 of the start differs: it is the paper's expm1(h)/2
    distance = (table.Q - solvers.DEIS(3, solvers.LogRho()).table(p, times).Q)[-two:].abs().max()
    assert distance <= 1e-9 * table.Q.abs().max()


def test_lms_on_even_levels_has_the_textbook_coefficients() -> None:
    p = path.EDM()
    times = torch.linspace(0.9, 0.2, 8, dtype=F64)
    table = solvers.LMS(4).table(p, times)
    step = 80 * float(times[1] - times[0])
    expected = step * torch.tensor([-9, 37, -59, 55], dtype=F64) / 24
    expected[-1] += 80 * times[6]  # x_t = clean + σ_t·noise
    assert torch.allclose(table.Q[6, 3:7], expected, rtol=1e-10, atol=1e-9)


@pytest.mark.parametrize("z", [-30.0, -3.0, -1e-3, 1e-3, 2.0, 12.0])
@pytest.mark.parametrize("nodes", [[0.0], [0.0, -0.7], [0.0, -0.7, -2.0], [0.0, -0.7, -2.0, 1.0]])
def test_exponential_weights_are_the_integrals(nodes: list[float], z: float) -> None:
    weights = exponential_weights(nodes, z)
    for k in range(len(nodes)):
        expected = quad(lambda v, k=k: z * math.exp(z * (1 - v)) * v**k, 0, 1, epsabs=0, epsrel=1e-12, limit=200)[0]
        assert sum(w * n**k for w, n in zip(weights, nodes, strict=True)) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("p", PATHS, ids=str)
@pytest.mark.parametrize("estimates", [1, 2, 3])
def test_er_sde_integrates_polynomials_of_rho_exactly(p: Path, estimates: int) -> None:
    """∫ clean φ(ρ_s)φ'(ρ)/φ(ρ)² dρ in the variable log φ, by an independent quadrature, without the fresh noise."""
    solver = solvers.ERSDE(estimates)
    value = polynomial(estimates - 1, math.exp)
    denoiser, times = Held(p, value, clean=True), p.time(-2 * UNEVEN)
    start = torch.ones(1, 1, dtype=F64)
    run = [step.x for step in trajectory(denoiser, start, solver=solver, grid=times, noise=lambda x, t, s: 0 * x)]

    def log_phi(u: float) -> float:
        return u + math.log(math.exp(math.exp(0.3 * u)) + 10)

    def rate(u: float) -> float:  # d log φ/du
        e = math.exp(math.exp(0.3 * u))
        return 1 + 0.3 * math.exp(0.3 * u) * e / (e + 10)

    for i in range(estimates - 1, len(UNEVEN) - 1):
        u, v = float(UNEVEN[i]), float(UNEVEN[i + 1])
        area = quad(lambda w, v=v: value(w) * rate(w) * math.exp(log_phi(v) - log_phi(w)), v, u, epsrel=1e-12)[0]
        scales = [float(p.alpha(t)) for t in times[i : i + 2]]
        expected = math.exp(log_phi(v) - log_phi(u)) * float(run[i]) / scales[0] + area
        assert float(run[i + 1]) / scales[1] == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("estimates", [1, 2, 3])
def test_the_noise_of_er_sde_is_the_variance_that_was_lost(estimates: int) -> None:
    p, times = path.Cosine(), torch.tensor([0.9, 0.6, 0.3, 0.0], dtype=F64)
    table = solvers.ERSDE(estimates, lambda rho: 2 * np.log(rho)).table(p, times)
    ancestral = solvers.Ancestral().table(p, times)
    assert torch.allclose(table.R, ancestral.R, rtol=1e-9, atol=1e-12)
    assert estimates > 1 or table.distance(ancestral) < 1e-12


def test_tableaus_have_their_orders() -> None:
    assert {t.order for t in (HEUN, MIDPOINT, solvers.RALSTON)} == {2}
    assert KUTTA3.order == HEUN3.order == 3
    assert solvers.RK4.order == THREE_EIGHTHS.order == 4
    assert EULER.order == 1


@pytest.mark.parametrize("tableau", [t for t in TABLEAUS if t.order > 1])
def test_order_conditions_see_one_changed_weight(tableau: solvers.Tableau) -> None:
    first, *middle, last = tableau.b
    changed = replace(tableau, b=(first + 1e-3, *middle, last - 1e-3))
    assert changed.order == 1


@pytest.mark.parametrize(
    ("a", "b", "c", "sentence"),
    [
        (((),), (1.0,), (0.0, 1.0), "b has 1 stages, so c needs 1 entries"),
        (((), (0.4,)), (0.0, 1.0), (0.0, 0.5), r"row 1 of a sums to 0.4, which must be c\[1\] = 0.5"),
        (((), (0.5,)), (0.0, 0.9), (0.0, 0.5), "b sums to 0.9, which must be 1"),
    ],
)
def test_tableaus_that_are_none_are_refused(a: tuple, b: tuple, c: tuple, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        solvers.Tableau(a, b, c)


@pytest.mark.parametrize("tableau", TABLEAUS)
@pytest.mark.parametrize("c", [chart.Scaled(), chart.PathTime()], ids=str)
def test_runge_kutta_is_the_quadrature_of_its_tableau(c: chart.Chart, tableau: solvers.Tableau) -> None:
    """Where the slope depends on s alone, y gains h Σ b_i f(s + c_i h): exact below the order."""
    p, times = path.EDM(), torch.tensor([0.9, 0.55, 0.5, 0.2], dtype=F64)
    for degree in range(tableau.order):
        found = increments(solvers.RungeKutta(tableau, c), Held(p, polynomial(degree, math.exp)), times)
        for gain, t, s in zip(found, times[:-1], times[1:], strict=True):
            assert gain == pytest.approx(
                integral(polynomial(degree, math.exp), False, math.log(80 * t), math.log(80 * s)), rel=1e-9
            )


@pytest.mark.parametrize("p", PATHS, ids=str)
def test_runge_kutta_of_heuns_tableau_is_heun(p: Path) -> None:
    times = torch.tensor([0.95, 0.6, 0.3, 0.1], dtype=F64)
    assert solvers.RungeKutta(HEUN).table(p, times).distance(solvers.Heun().table(p, times)) < 1e-11
    assert solvers.RungeKutta(EULER).table(p, times).distance(solvers.DDIM().table(p, times)) < 1e-11


@pytest.mark.parametrize("prediction", [DataPrediction(), NoisePrediction()], ids=str)
def test_unipc_without_corrector_of_order_two_is_dpm_solver(prediction: DataPrediction | NoisePrediction) -> None:
    p, times = path.Cosine(), torch.tensor([1.0, 0.8, 0.5, 0.2, 0.0], dtype=F64)
    peer = solvers.DPMSolverPP() if prediction == DataPrediction() else solvers.DPMSolver()
    assert (
        solvers.UniPC(2, corrector=False, prediction=prediction).table(p, times).distance(peer.table(p, times)) < 1e-12
    )


@pytest.mark.parametrize(
    "solver", [solvers.DPMSolverPP(3), solvers.UniPC(3), solvers.LMS(4), solvers.SDEDPMSolverPP()], ids=str
)
def test_a_step_uses_no_more_history_than_its_order(solver: Solver) -> None:
    """So no step grows with the number of steps."""
    table = solver.table(path.Linear(), torch.linspace(1, 0, 41, dtype=F64))
    used = ((table.P != 0) | (table.Q != 0)).sum(1)
    assert int(used.max()) <= 5
