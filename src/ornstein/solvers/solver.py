"""The interface of a solver. Most solvers are tables of fixed steps (`TableSolver`); the others have a loop of their own."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor

from ornstein.caching import cached
from ornstein.denoiser import Denoiser, NetworkDenoiser, inverse
from ornstein.grid import polynomial
from ornstein.noise import NoiseSource
from ornstein.path import Linear, Path
from ornstein.table import Folded, Step, Table, execute, folded
from ornstein.target import Target

FALLING = torch.tensor([0.9, 0.5, 0.2], dtype=torch.float64)  # two steps between levels that have both signal and noise


class Solver(Protocol):
    """A choice of method, best a frozen dataclass.

    `order` is the declared order of its error in the step size: of the endpoints of an ODE solver, of mean and variance where
    fresh noise is added. 0 declares none: steps set by tolerances, Langevin steps of a fixed size, a fitted table.
    `stochastic` says whether it adds fresh noise, so that it cannot run from data to noise.
    """

    @property
    def order(self) -> int:
        """The declared order of the error in the step size; 0 declares none."""
        ...

    @property
    def stochastic(self) -> bool:
        """Whether it adds fresh noise."""
        ...

    def grid(self, path: Path, steps: int) -> Tensor:
        """The method's own times for that many steps, (steps + 1,) float64 from noise to data."""

    def run(self, denoiser: Denoiser, x: Tensor, grid: Tensor, noise: NoiseSource) -> Iterator[Step]:
        """From x (B, ...) at grid[0] to grid[-1]: a `Step` for each network call, then one that holds the result.

        Each step counts all calls so far. Adaptive methods yield one for each time of the grid instead.
        """


class TableSolver(ABC):
    """Abstract: a solver that is a table. A subclass declares `order` and writes `table`; the rest has a default."""

    @property
    @abstractmethod
    def order(self) -> int:
        """The declared order of the error in the step size; 0 declares none."""
        ...

    @property
    def stochastic(self) -> bool:
        """Whether it adds fresh noise: whether its table does, on three times of the linear path."""
        return self.table(Linear(), FALLING).stochastic

    def grid(self, path: Path, steps: int) -> Tensor:
        return polynomial(path, steps)

    @abstractmethod
    def table(self, path: Path, grid: Tensor) -> Table:
        """The steps over a grid (M + 1,) as numbers (see `ornstein.table.Recorder`)."""

    def run(self, denoiser: Denoiser, x: Tensor, grid: Tensor, noise: NoiseSource) -> Iterator[Step]:
        times = tuple(grid.tolist())
        table, steps = _table_of(self, denoiser.path, times), None
        if isinstance(denoiser, NetworkDenoiser) and type(denoiser).inverse is NetworkDenoiser.inverse:
            steps = _folded(self, denoiser.path, denoiser.target, times, x.dtype)
        return execute(table, denoiser, x, noise, steps)


def one_of(solver: object, name: str, allowed: tuple[int, ...]) -> None:
    """Raises ValueError unless the solver's setting of this name, its order for example, is one of those allowed."""
    value = getattr(solver, name)
    if value not in allowed:
        *others, last = map(str, allowed)
        raise ValueError(f"{type(solver).__name__}: {name} = {value} must be {', '.join(others)} or {last}")


def own_steps(solver: Solver, usual: int) -> int:
    """The number of steps that a solver is for, where it was made for one (`only_steps`), else the usual."""
    steps: int = getattr(solver, "only_steps", usual)
    return steps


@cached
def grid_of(solver: Solver, path: Path, steps: int) -> Tensor:
    """solver.grid(path, steps)."""
    return solver.grid(path, steps)


@cached
def _table_of(solver: TableSolver, path: Path, times: tuple[float, ...]) -> Table:
    return solver.table(path, torch.tensor(times, dtype=torch.float64))


def table_of(solver: TableSolver, path: Path, grid: Tensor) -> Table:
    """solver.table(path, grid), computed once where neither solver nor path can change."""
    return _table_of(solver, path, tuple(grid.tolist()))


@cached
def _folded(solver: TableSolver, path: Path, target: Target, times: tuple[float, ...], dtype: torch.dtype) -> Folded:
    """The steps of the table over these times on (x, prediction of the target), for runs of a type."""
    table = _table_of(solver, path, times)
    return folded(table, inverse(path, target, table.times[:-1]), dtype)
