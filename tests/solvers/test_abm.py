"""Adams–Bashforth–Moulton: its weights integrate polynomials exactly, its orders are those declared, its calls are one a step."""

import math

import pytest
import torch

from ornstein import Estimate, chart, exact, path, sample, solvers, trajectory
from ornstein.solvers.quadrature import lagrange_integrals

F64 = torch.float64


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_weights_integrate_polynomials_exactly(count: int) -> None:
    nodes = [0.9, 0.7, 0.66, 0.3, 0.05][:count]
    weights = lagrange_integrals(nodes, 0.9, 1.3)
    for power in range(count):
        exact_value = (1.3 ** (power + 1) - 0.9 ** (power + 1)) / (power + 1)
        assert sum(w * n**power for w, n in zip(weights, nodes, strict=True)) == pytest.approx(exact_value, rel=1e-11)


def test_on_even_steps_they_are_the_textbook_coefficients() -> None:
    """Hairer, Nørsett and Wanner 1993, tables III.1.1 and III.1.2."""
    assert lagrange_integrals([0, -1, -2], 0, 1) == pytest.approx([23 / 12, -16 / 12, 5 / 12])
    assert lagrange_integrals([0, -1, -2, -3], 0, 1) == pytest.approx([55 / 24, -59 / 24, 37 / 24, -9 / 24])
    assert lagrange_integrals([1, 0, -1, -2], 0, 1) == pytest.approx([9 / 24, 19 / 24, -5 / 24, 1 / 24])


def graded(p: path.Path, steps: int) -> torch.Tensor:
    """Steps that begin at O(h²), so that the starting steps of low order do not rule the error."""
    u = torch.arange(steps + 1, dtype=F64) / steps
    return p.time(-4 + 8 * u**2 * (3 - 2 * u))


@pytest.mark.parametrize("c", [chart.Flow(), chart.Angle()], ids=str)
@pytest.mark.parametrize("order", [2, 3, 4, 5])
@pytest.mark.parametrize("p", [path.Linear(), path.VariancePreserving(), path.EDM()], ids=str)
def test_order(p: path.Path, order: int, c: chart.Chart) -> None:
    denoiser = exact.Gaussian(torch.tensor([0.3, -1.0], dtype=F64), torch.tensor([0.25, 1.5], dtype=F64), p)
    errors = []
    steps = (80, 113, 160)
    for n in steps:
        times = graded(p, n)
        start = torch.tensor([[1.0, 0.5], [-0.3, -1.2]], dtype=F64) * p.sigma(times[0])
        result = sample(denoiser, start=start, solver=solvers.ABM(order, c), grid=times)
        errors.append(float((result - denoiser.flow(start, times[0], times[-1])).norm()))
    slope = math.log(errors[0] / errors[-1]) / math.log(steps[-1] / steps[0])
    assert abs(slope - order) < 0.2


@pytest.mark.parametrize(("steps", "last"), [(11, (3, 2, 2)), (30, (3, 3, 3)), (50, (5, 5, 5))])
@pytest.mark.parametrize("order", [3, 4, 5])
def test_slopes_that_are_polynomials_are_integrated_exactly(order: int, steps: int, last: tuple[int, ...]) -> None:
    """Order conditions: once p slopes are known, the corrector is exact for slopes of degree p − 1 on any steps.

    The predictor of the `last` steps takes fewer slopes in runs of few steps.
    """
    degree = order - 1
    times = 1 - (torch.arange(steps + 1, dtype=F64) / steps) ** 1.3

    class Slopes:
        path = path.Linear()

        def __call__(self, x: torch.Tensor, t: torch.Tensor) -> Estimate:
            slope = torch.full_like(x, float(t) ** degree)  # noise − clean = dx/ds, whatever x is
            return Estimate(x - float(t) * slope, x + (1 - float(t)) * slope)

    run = list(trajectory(Slopes(), torch.zeros(1, 1, dtype=F64), solver=solvers.ABM(order), grid=times))
    errors = [float(step.x) + (1 - step.t ** (degree + 1)) / (degree + 1) for step in run]
    # x' differs from the exact curve by the predictor's error, which the corrector takes back: the drift of the corrected
    # curve stops once all p slopes are polynomials of the same degree, so later predictions miss by their own step alone.
    lengths = [min(order - 1, length) for length in (*([order] * (steps - 3)), *last)]
    prediction = [predictor_error(times.tolist(), i, lengths[i - 1], degree) for i in range(order, len(errors))]
    drift = [miss - own for miss, own in zip(errors[order:], prediction, strict=True)]
    assert max(drift) - min(drift) < 1e-13


def predictor_error(times: list[float], i: int, length: int, degree: int) -> float:
    """What Adams–Bashforth with so many slopes misses in the step to times[i]."""
    nodes = [times[i - 1 - k] for k in range(length)]
    weights = lagrange_integrals(nodes, times[i - 1], times[i])
    integral = (times[i] ** (degree + 1) - times[i - 1] ** (degree + 1)) / (degree + 1)
    return sum(w * n**degree for w, n in zip(weights, nodes, strict=True)) - integral


def test_what_it_keeps_is_bounded() -> None:
    """A row uses the last p estimates, however long the run."""
    table = solvers.ABM(4).table(path.Linear(), torch.linspace(1, 0, 41, dtype=F64))
    used = (table.P != 0) | (table.Q != 0)
    assert int(used.sum(1).max()) <= 4


@pytest.mark.parametrize(("steps", "order"), [(1, 2), (2, 2), (3, 2), (4, 3), (6, 4), (8, 5)])
def test_a_run_of_n_steps_has_at_most_order_one_and_half_of_them(steps: int, order: int) -> None:
    times = torch.linspace(1, 0, steps + 1, dtype=F64)
    same = [
        solvers.ABM(5).table(path.Linear(), times) == solvers.ABM(p).table(path.Linear(), times) for p in range(2, 5)
    ]
    assert same == [p >= order for p in range(2, 5)]


def test_other_orders_are_refused() -> None:
    with pytest.raises(ValueError, match="ABM: order = 6 must be 2, 3, 4 or 5"):
        solvers.ABM(6)
