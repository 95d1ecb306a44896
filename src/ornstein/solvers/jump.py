"""Steps of a flow map, each as long as the grid makes it (Boffi et al. 2025, "Flow map matching"; Frans et al. 2025)."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ornstein.path import Path
from ornstein.solvers.solver import TableSolver
from ornstein.table import Recorder, Table


@dataclass(frozen=True)
class Jump(TableSolver):
    """x_s = X(x_t, t, s) = α_s·clean + σ_s·noise of the pair aimed at s: DDIM's row, exact for an exact flow map.

    Needs a denoiser that takes an aim. Its error does not depend on the number of steps, so no order is declared. Source: Boffi
    et al. 2025, "Flow map matching"; Frans et al. 2025.
    """

    order: ClassVar[int] = 0

    def table(self, path: Path, grid: Tensor) -> Table:
        record = Recorder(path, grid)
        x = record.start
        for t, s in record.steps:
            x = s.mix(record.call(t, x, aim=s))
        return record.end(x)


AIMED = (Jump(),)
