"""Euler steps in the chart of bounded variables, a trial."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ornstein.chart import Chart, Flow
from ornstein.path import Path
from ornstein.solvers.runge_kutta import EULER, integrate
from ornstein.solvers.solver import TableSolver
from ornstein.table import Table


@dataclass(frozen=True)
class TrialEuler(TableSolver):
    """Euler steps in any chart."""

    chart: Chart = Flow()
    order: ClassVar[int] = 1

    def table(self, path: Path, grid: Tensor) -> Table:
        return integrate(path, grid, self.chart, EULER, at_zero_noise=EULER)


ALL = (TrialEuler(),)
