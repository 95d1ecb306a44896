"""Predictor–corrector sampling (Song et al. 2021, "Score-based generative modeling through SDEs", algorithms 1 to 5)."""

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ornstein.denoiser import Denoiser
from ornstein.noise import NoiseSource
from ornstein.path import Path
from ornstein.solvers.ancestral import Ancestral
from ornstein.solvers.langevin import Proportional, StepSize, chain
from ornstein.solvers.loop import falling
from ornstein.solvers.solver import TableSolver
from ornstein.table import Step, Table, execute


@dataclass(frozen=True)
class PredictorCorrector:
    """A step of the predictor to each level, then `corrections` Langevin steps there; none where no noise is left.

    h is the `size` times 1 − β (algorithm 5), which on any grid of any path is (α_t/α_s)² for a level t and the next level
    s: the variance that the forward step from s to t keeps. On a β-table's own steps this is the paper's 1 − β_i; where α = 1
    it is 1 (algorithm 4), and on a fine grid it tends to 1. Any solver predicts, by its table of a single step: a method that
    remembers earlier steps starts anew in each, since the corrector has left its curve.
    The paper's size is `SignalToNoise(0.16)`, for many dimensions; the default is its value where the estimate is all noise, and
    is right in any number of them. Raises ValueError for corrections below 0, or a grid that rises. Source: Song et al. 2021,
    algorithms 1 to 5.
    """

    predictor: TableSolver = Ancestral()
    corrections: int = 1
    size: StepSize = Proportional(0.05)
    order: ClassVar[int] = 0
    stochastic: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.corrections < 0:
            raise ValueError(f"PredictorCorrector: corrections = {self.corrections} must not be negative")

    def grid(self, path: Path, steps: int) -> Tensor:
        return self.predictor.grid(path, steps)

    def run(self, denoiser: Denoiser, x: Tensor, grid: Tensor, noise: NoiseSource) -> Iterator[Step]:
        path, times, calls = denoiser.path, falling(grid, "PredictorCorrector"), 0
        tables = [self.predictor.table(path, grid[i : i + 2]) for i in range(len(times) - 1)]
        levels = zip(tables, times[1:], path.sigma(grid[1:]).tolist(), _retained(path, grid[1:]), strict=True)
        for table, t, sigma, factor in levels:
            end = yield from _predict(table, denoiser, x, noise, calls)
            if sigma > 0 and self.corrections:
                end = yield from chain(denoiser, end.x, t, self.corrections, self.size, noise, factor, end.calls)
            x, calls = end.x, end.calls
        yield end


def _predict(
    table: Table, denoiser: Denoiser, x: Tensor, noise: NoiseSource, calls: int
) -> Generator[Step, None, Step]:
    """A run of the table after so many calls: yields its network calls, returns one with the result."""
    for i, step in enumerate(execute(table, denoiser, x, noise)):
        if i < table.calls:
            yield step.after(calls)
    return step.after(calls)


def _retained(path: Path, grid: Tensor) -> list[float]:
    """(α_t/α_s)² for each time t of a grid and the s below it: 1 − β of the grid as a chain of steps; 1 for the last."""
    alpha = path.alpha(grid)
    return [*((alpha[:-1] / alpha[1:]) ** 2).tolist(), 1.0]


LOOPS = (PredictorCorrector(),)
