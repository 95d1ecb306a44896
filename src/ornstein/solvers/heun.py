"""Heun's second-order method (Karras et al. 2022, algorithm 1: there in the chart `Scaled`)."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ornstein.chart import Chart, Flow
from ornstein.path import Path
from ornstein.solvers.solver import TableSolver
from ornstein.table import Form, Level, Recorder, Table


@dataclass(frozen=True)
class Heun(TableSolver):
    """An Euler step to y', then y_s = y_t + (s − t)·(slope at y_t + slope at y')/2, in any chart (by default a bounded one).

    Two network calls a step; one for the step that ends at zero noise, as in the paper.
    """

    chart: Chart = Flow()
    order: ClassVar[int] = 2

    def table(self, path: Path, grid: Tensor) -> Table:
        record = Recorder(path, grid)
        x = record.start
        for t, s in record.steps:
            x = heun_step(record, self.chart, t, s, x)
        return record.end(x)


def heun_step(record: Recorder, chart: Chart, t: Level, s: Level, x: Form) -> Form:
    """One step of Heun's method from x at t to s: two calls, or one where s has no noise."""
    estimate, h = record.call(t, x), chart.clock(s) - chart.clock(t)
    y, slope = t.mix(estimate) / chart.scale(t), chart.slope(record.path, t, estimate)
    x = chart.scale(s) * (y + h * slope)
    if s.sigma > 0:
        ahead = chart.slope(record.path, s, record.call(s, x))
        x = chart.scale(s) * (y + (h / 2) * (slope + ahead))
    return x
