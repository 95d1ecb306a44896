"""Drawing samples: `sample`, the same run step by step (`trajectory`), and the way back (`encode`)."""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from ornstein.denoiser import Denoiser
from ornstein.grid import explicit
from ornstein.noise import NoiseSource, PerSampleNoise
from ornstein.path import Path
from ornstein.solvers import ABM, Sampler, Solver
from ornstein.table import Step, Table, execute

DEFAULT: Solver = ABM()


def sample(
    denoiser: Denoiser,
    shape: Sequence[int] | None = None,
    *,
    start: Tensor | None = None,
    solver: Solver | Sampler | None = None,
    steps: int = 20,
    grid: Tensor | None = None,
    noise: NoiseSource | None = None,
) -> Tensor:
    """Samples of shape (B, ...) from the denoiser's model, on the device and in the type of `start`.

    Give the `shape`, and the start is σ(t_0)·ξ at the grid's first time t_0; or the `start` itself, x at t_0. `grid` is a
    decreasing tensor of times (see `ornstein.grid`); None takes the solver's own for that many `steps`. `noise` is a source
    noise(x, t, s); None draws row i from seed 0 and i alone, so a sample does not depend on its batch.
    Raises ValueError for a bad grid, or unless exactly one of shape and start is given.
    """
    solver, noise = solver or DEFAULT, noise or PerSampleNoise()
    times = _times(denoiser.path, solver, steps, grid)
    if (shape is None) == (start is None):
        raise ValueError("sample needs either shape=(B, ...) or start=x, a tensor at the grid's first time")
    if start is None:
        assert shape is not None
        start = begin(denoiser.path, torch.zeros(*shape), float(times[0]), noise)
    with torch.no_grad():
        for step in _run(denoiser, start, solver, times, noise):
            last = step
    return last.x


def trajectory(
    denoiser: Denoiser,
    start: Tensor,
    *,
    solver: Solver | Sampler | None = None,
    steps: int = 20,
    grid: Tensor | None = None,
    noise: NoiseSource | None = None,
) -> Iterator[Step]:
    """The run of `sample` as a generator: one `Step` (.t .x .estimate .calls) per network call, then one with the result.

    Adaptive methods yield one for each time of their grid instead, with all calls counted. Progress bars, pictures and early
    stops belong to the caller. Raises ValueError for a bad grid.
    """
    solver, noise = solver or DEFAULT, noise or PerSampleNoise()
    return _steps(denoiser, start, solver, _times(denoiser.path, solver, steps, grid), noise)


def encode(
    denoiser: Denoiser,
    x: Tensor,
    *,
    solver: Solver | Sampler | None = None,
    steps: int = 20,
    grid: Tensor | None = None,
) -> Tensor:
    """Data to noise: the same probability-flow ODE on the same grid run backward, so `sample(start=encode(x))` returns x.

    x is at t = 0 (the grid's last time) and the result at its first. Raises ValueError for a solver that adds noise.
    """
    solver = solver or DEFAULT
    rising = _times(denoiser.path, solver, steps, grid).sort().values
    if (solver if isinstance(solver, Sampler) else solver.table(denoiser.path, rising.flip(0))).stochastic:
        raise ValueError(
            f"{solver} adds fresh noise and cannot be run backward; encode with an ODE solver such as DDIM()"
        )
    with torch.no_grad():
        for step in _run(denoiser, x, solver, rising, PerSampleNoise()):
            last = step
    return last.x


def begin(path: Path, like: Tensor, t: float, noise: NoiseSource) -> Tensor:
    """The start of a run: σ(t)·ξ, noise of the level where the grid begins."""
    return path.levels(t, like)[1] * noise(like, t, t)


def _times(path: Path, solver: Solver | Sampler, steps: int, grid: Tensor | None) -> Tensor:
    if grid is not None:
        return explicit(grid)
    return _grid_of(solver, path, steps) if _frozen(solver) and _frozen(path) else solver.grid(path, steps)


def _run(denoiser: Denoiser, x: Tensor, solver: Solver | Sampler, times: Tensor, noise: NoiseSource) -> Iterator[Step]:
    if isinstance(solver, Sampler):
        return solver.run(denoiser, x, times, noise)
    return execute(_table(solver, denoiser.path, times), denoiser, x, noise)


def _table(solver: Solver, path: Path, times: Tensor) -> Table:
    if _frozen(solver) and _frozen(path):
        return _table_of(solver, path, tuple(times.tolist()))
    return solver.table(path, times)


# Grids and tables are functions of frozen values alone and cost milliseconds, so runs that repeat them find them here.
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


@torch.no_grad()
def _steps(
    denoiser: Denoiser, x: Tensor, solver: Solver | Sampler, times: Tensor, noise: NoiseSource
) -> Iterator[Step]:
    yield from _run(denoiser, x, solver, times, noise)
