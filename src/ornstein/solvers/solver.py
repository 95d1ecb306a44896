"""What a solver is."""

from typing import Protocol

from torch import Tensor

from ornstein.path import Path
from ornstein.table import Table


class Solver(Protocol):
    """A frozen choice of method. `order` is the declared order of its error in the step; `grid` its own times."""

    @property
    def order(self) -> int: ...

    def grid(self, path: Path, steps: int) -> Tensor: ...

    def table(self, path: Path, grid: Tensor) -> Table: ...
