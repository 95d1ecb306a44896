"""Consistency sampling (Song et al. 2023, "Consistency models", algorithm 1): to the data in one call, then noise again."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ornstein.path import Path
from ornstein.solvers.solver import TableSolver
from ornstein.table import Recorder, Table


@dataclass(frozen=True)
class Restart(TableSolver):
    """x_s = α_s·x̂ + σ_s·ξ with x̂ = clean of the pair aimed at the end of the grid: every call jumps to the data.

    Needs a denoiser that takes an aim. Errors of early calls are forgotten, at the price of fresh noise. Its error does not
    depend on the number of steps, so no order is declared. Source: Song et al. 2023, "Consistency models", algorithm 1.
    """

    order: ClassVar[int] = 0

    def table(self, path: Path, grid: Tensor) -> Table:
        record = Recorder(path, grid)
        x, end = record.start, record.levels[-1]
        for t, s in record.steps:
            estimate = record.call(t, x, aim=end)
            x = s.mix(estimate) if s is end else s.alpha * estimate.clean + record.fresh(s.sigma)
        return record.end(x)


AIMED = (Restart(),)
