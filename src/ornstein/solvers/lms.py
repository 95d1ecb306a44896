"""Linear multistep in σ (Katherine Crowson's k-diffusion, `sample_lms`; the noise levels of Karras et al. 2022)."""

from dataclasses import dataclass

from torch import Tensor

from ornstein.path import Path
from ornstein.solvers.deis import DEIS, Rho
from ornstein.solvers.solver import TableSolver, one_of
from ornstein.table import Table


@dataclass(frozen=True)
class LMS(TableSolver):
    """Variable-step Adams–Bashforth on d(x/α)/d(σ/α) = noise, orders 1 to 4, one network call a step.

    The same method as ρAB-DEIS, under the name by which it is known. Finite at both ends: the estimate at zero SNR is left
    out of the polynomial. Raises ValueError for an order outside 1..4. Source: Katherine Crowson's k-diffusion, `sample_lms`,
    on the noise levels of Karras et al. 2022.
    """

    order: int = 4

    def __post_init__(self) -> None:
        one_of(self, "order", (1, 2, 3, 4))

    def table(self, path: Path, grid: Tensor) -> Table:
        return DEIS(self.order, Rho()).table(path, grid)


ALL = (LMS(4),)
