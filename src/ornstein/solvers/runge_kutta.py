"""Explicit Runge–Kutta methods, from their Butcher tableaus (Hairer, Nørsett and Wanner 1993, chapter II)."""

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from ornstein.chart import Chart, Flow
from ornstein.path import Path
from ornstein.solvers.solver import TableSolver
from ornstein.table import Form, Level, Recorder, Table


@dataclass(frozen=True)
class Tableau:
    """k_i = f(s + c_i h, y + h Σ_j a_ij k_j),  y ← y + h Σ_i b_i k_i;  a is strictly lower triangular, row i has i entries.

    Raises ValueError where shapes disagree, the first stage is not at c = 0, a row of a does not sum to c, or b not to 1.
    Source: Hairer, Nørsett and Wanner 1993, chapter II.
    """

    a: tuple[tuple[float, ...], ...]
    b: tuple[float, ...]
    c: tuple[float, ...]

    def __post_init__(self) -> None:
        stages = len(self.b)
        if len(self.c) != stages or [len(row) for row in self.a] != list(range(stages)):
            raise ValueError(f"Tableau: b has {stages} stages, so c needs {stages} entries and row i of a needs i")
        for i, (row, c) in enumerate(zip(self.a, self.c, strict=True)):
            if abs(sum(row) - c) > 1e-12:
                raise ValueError(f"Tableau: row {i} of a sums to {sum(row):g}, which must be c[{i}] = {c:g}")
        if self.order == 0:
            raise ValueError(f"Tableau: b sums to {sum(self.b):g}, which must be 1 for the method to converge")

    def defects(self) -> dict[int, list[float]]:
        """Residuals of the order conditions up to order 4 (Hairer et al., table II.2.2): 0 where one holds."""
        a, b, c = np.zeros((len(self.b),) * 2), np.array(self.b), np.array(self.c)
        for i, row in enumerate(self.a):
            a[i, :i] = row
        return {
            1: [b.sum() - 1],
            2: [b @ c - 1 / 2],
            3: [b @ c**2 - 1 / 3, b @ a @ c - 1 / 6],
            4: [b @ c**3 - 1 / 4, (b * c) @ a @ c - 1 / 8, b @ a @ c**2 - 1 / 12, b @ a @ a @ c - 1 / 24],
        }

    @property
    def order(self) -> int:
        """The largest p <= 4 whose conditions, and all below, hold."""
        order = 0
        for p, defects in self.defects().items():
            if max(map(abs, defects)) > 1e-12:
                break
            order = p
        return order


EULER = Tableau(((),), (1.0,), (0.0,))
MIDPOINT = Tableau(((), (1 / 2,)), (0.0, 1.0), (0.0, 1 / 2))
HEUN = Tableau(((), (1.0,)), (1 / 2, 1 / 2), (0.0, 1.0))
RALSTON = Tableau(((), (2 / 3,)), (1 / 4, 3 / 4), (0.0, 2 / 3))
KUTTA3 = Tableau(((), (1 / 2,), (-1.0, 2.0)), (1 / 6, 2 / 3, 1 / 6), (0.0, 1 / 2, 1.0))
HEUN3 = Tableau(((), (1 / 3,), (0.0, 2 / 3)), (1 / 4, 0.0, 3 / 4), (0.0, 1 / 3, 2 / 3))
RK4 = Tableau(((), (1 / 2,), (0.0, 1 / 2), (0.0, 0.0, 1.0)), (1 / 6, 1 / 3, 1 / 3, 1 / 6), (0.0, 1 / 2, 1 / 2, 1.0))
THREE_EIGHTHS = Tableau(
    ((), (1 / 3,), (-1 / 3, 1.0), (1.0, -1.0, 1.0)), (1 / 8, 3 / 8, 3 / 8, 1 / 8), (0.0, 1 / 3, 2 / 3, 1.0)
)
TABLEAUS = (EULER, MIDPOINT, HEUN, RALSTON, KUTTA3, HEUN3, RK4, THREE_EIGHTHS)

FLOW = Flow()

# By order: no stage at c = 1, so there is no network call at the end of the step.
OPEN = {1: EULER, 2: MIDPOINT, 3: HEUN3, 4: HEUN3}


def advance(record: Recorder, tableau: Tableau, chart: Chart, t: Level, s: Level, x: Form) -> Form:
    """One step from x at t to s in a chart: as many network calls as the tableau has stages."""
    start, h = chart.clock(t), chart.clock(s) - chart.clock(t)
    estimate = record.call(t, x)
    y, slopes = t.mix(estimate) / chart.scale(t), [chart.slope(record.path, t, estimate)]
    for row, c in zip(tableau.a[1:], tableau.c[1:], strict=True):
        at = s if c == 1 else chart.level(record.path, start + c * h)
        stage = chart.scale(at) * (y + h * _sum(row, slopes))
        slopes.append(chart.slope(record.path, at, record.call(at, stage)))
    return chart.scale(s) * (y + h * _sum(tableau.b, slopes))


def _sum(weights: tuple[float, ...], slopes: list[Form]) -> Form:
    total = Form({})
    for weight, slope in zip(weights, slopes, strict=True):
        total = total + weight * slope if weight else total
    return total


def integrate(path: Path, grid: Tensor, chart: Chart, tableau: Tableau, at_zero_noise: Tableau) -> Table:
    """The table of a tableau's steps over a grid in a chart, with another tableau for the step that ends at zero noise."""
    record = Recorder(path, grid)
    x = record.start
    for t, s in record.steps:
        x = advance(record, tableau if s.sigma > 0 else at_zero_noise, chart, t, s, x)
    return record.end(x)


@dataclass(frozen=True)
class RungeKutta(TableSolver):
    """An explicit Runge–Kutta method, y ← y + h Σ_i b_i k_i of its `Tableau`, on dy/ds in any chart.

    The default chart is bounded, so both ends are finite.

    A network call per stage. At zero noise there is nothing to estimate, so where a stage would fall there the last step is
    made by a method without such a stage: midpoint for order 2, Heun's third-order method for 3 and 4, which keeps the order.
    Source: Hairer, Nørsett and Wanner 1993, chapter II.
    """

    tableau: Tableau
    chart: Chart = Flow()

    @property
    def order(self) -> int:
        return self.tableau.order

    def table(self, path: Path, grid: Tensor) -> Table:
        at_zero_noise = OPEN[self.order] if 1 in self.tableau.c else self.tableau
        return integrate(path, grid, self.chart, self.tableau, at_zero_noise)


def midpoint(chart: Chart = FLOW) -> RungeKutta:
    """The explicit midpoint method: order 2, two calls a step."""
    return RungeKutta(MIDPOINT, chart)


def rk4(chart: Chart = FLOW) -> RungeKutta:
    """The classical method of Kutta (1901): order 4, four calls a step."""
    return RungeKutta(RK4, chart)


ALL = (RungeKutta(RALSTON), rk4())
