"""Euler's method on the probability-flow ODE (flow matching's sampler: Lipman et al. 2023; Liu et al. 2023)."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ornstein.chart import Chart, PathTime
from ornstein.grid import uniform
from ornstein.path import Path
from ornstein.solvers.runge_kutta import EULER, integrate
from ornstein.solvers.solver import TableSolver
from ornstein.table import Table


@dataclass(frozen=True)
class Euler(TableSolver):
    """y_s = y_t + (s − t)·dy/ds in any chart; by default in the path's own time, x_s = x_t + (s − t)·u.

    Source: Lipman et al. 2023 and Liu et al. 2023 for flow matching.
    """

    chart: Chart = PathTime()
    order: ClassVar[int] = 1

    def grid(self, path: Path, steps: int) -> Tensor:
        return uniform(path, steps)

    def table(self, path: Path, grid: Tensor) -> Table:
        return integrate(path, grid, self.chart, EULER, at_zero_noise=EULER)


ALL = (Euler(),)
