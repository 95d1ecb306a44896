"""What a solver is: a table of fixed steps, or a method with a loop of its own."""

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

from torch import Tensor

from ornstein.denoiser import Denoiser
from ornstein.noise import NoiseSource
from ornstein.path import Path
from ornstein.table import Step, Table


class Solver(Protocol):
    """A frozen choice of method. `order` is the declared order of its error in the step; `grid` its own times."""

    @property
    def order(self) -> int: ...

    def grid(self, path: Path, steps: int) -> Tensor: ...

    def table(self, path: Path, grid: Tensor) -> Table: ...


@runtime_checkable
class Sampler(Protocol):
    """A method that is not a table, because its steps depend on what it meets: a frozen choice with its own loop.

    `run` goes from x (B, ...) at grid[0] to grid[-1]: each `Step` it yields is a network call and counts all calls so far
    (adaptive methods yield only those at the grid's times), and the last one holds the result. `stochastic` tells whether it
    adds noise, so that it cannot run from data to noise.
    """

    @property
    def stochastic(self) -> bool: ...

    def grid(self, path: Path, steps: int) -> Tensor: ...

    def run(self, denoiser: Denoiser, x: Tensor, grid: Tensor, noise: NoiseSource) -> Iterator[Step]: ...
