"""Heun's second-order method (Karras et al. 2022, algorithm 1: there in the chart `Scaled`)."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ornstein.chart import Chart, Flow
from ornstein.path import Path
from ornstein.solvers.runge_kutta import EULER, HEUN, integrate
from ornstein.solvers.solver import TableSolver
from ornstein.table import Table


@dataclass(frozen=True)
class Heun(TableSolver):
    """An Euler step to y', then y_s = y_t + (s − t)·(slope at y_t + slope at y')/2, in any chart (by default a bounded one).

    Two network calls a step; one for the step that ends at zero noise, as in the paper. Source: Karras et al. 2022, algorithm
    1, there in the chart `Scaled`.
    """

    chart: Chart = Flow()
    order: ClassVar[int] = 2

    def table(self, path: Path, grid: Tensor) -> Table:
        return integrate(path, grid, self.chart, HEUN, at_zero_noise=EULER)


ALL = (Heun(),)
