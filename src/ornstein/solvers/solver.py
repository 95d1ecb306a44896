"""The interface of a solver. Most solvers are tables of fixed steps (`TableSolver`); the others have a loop of their own."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, Protocol

import torch
from torch import Tensor

from ornstein.denoiser import Denoiser
from ornstein.grid import polynomial
from ornstein.noise import NoiseSource
from ornstein.path import Linear, Path
from ornstein.table import Step, Table, execute

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
        """The steps over a grid as numbers (see `ornstein.table.Recorder`)."""

    def run(self, denoiser: Denoiser, x: Tensor, grid: Tensor, noise: NoiseSource) -> Iterator[Step]:
        return execute(table_of(self, denoiser.path, grid), denoiser, x, noise)


def one_of(solver: object, name: str, allowed: tuple[int, ...]) -> None:
    """Raises ValueError unless the solver's setting of this name, its order for example, is one of those allowed."""
    value = getattr(solver, name)
    if value not in allowed:
        *others, last = map(str, allowed)
        raise ValueError(f"{type(solver).__name__}: {name} = {value} must be {', '.join(others)} or {last}")


# Grids and tables are functions of frozen values alone and cost milliseconds, so runs that repeat them find them here.


def grid_of(solver: Solver, path: Path, steps: int) -> Tensor:
    """solver.grid(path, steps), computed once where neither can change."""
    return _grid_of(solver, path, steps) if _frozen(solver) and _frozen(path) else solver.grid(path, steps)


def table_of(solver: TableSolver, path: Path, grid: Tensor) -> Table:
    """solver.table(path, grid), computed once where neither solver nor path can change."""
    if _frozen(solver) and _frozen(path):
        return _table_of(solver, path, tuple(grid.tolist()))
    return solver.table(path, grid)


_grid_of: Callable[..., Tensor] = lru_cache(lambda solver, path, steps: solver.grid(path, steps))
_table_of: Callable[..., Table] = lru_cache(
    lambda solver, path, times: solver.table(path, torch.tensor(times, dtype=torch.float64))
)


def _frozen(value: Any) -> bool:
    """Whether a value cannot change, and can be the key of a cache."""
    try:
        hash(value)
    except TypeError:
        return False
    parameters: Any = getattr(type(value), "__dataclass_params__", None)
    return parameters is not None and bool(parameters.frozen)
