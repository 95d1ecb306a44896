"""EDM's stochastic sampler (Karras et al. 2022, "Elucidating the design space of diffusion-based generative models")."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ornstein.chart import Chart, Flow
from ornstein.path import Path
from ornstein.solvers.runge_kutta import EULER, HEUN, advance
from ornstein.solvers.solver import TableSolver
from ornstein.table import Level, Recorder, Table, levels


@dataclass(frozen=True)
class EDMHeun(TableSolver):
    """Noise is added up to ρ̂ = (1 + γ)ρ, then Heun's method steps from ρ̂ to the next level (algorithm 2); ρ = σ/α.

    γ = min(churn/N, √2 − 1) where smallest <= ρ <= largest, else 0; the added noise is `inflation` times √(ρ̂² − ρ²) (the
    paper's S_churn, S_tmin, S_tmax, S_noise). With churn = 0 it is `Heun`. Two network calls a step, one for the step that
    ends at zero noise. The chart of the Heun step is bounded by default; chart.Scaled() is the paper's, which does not begin
    at zero SNR. The first level is not raised, since the start is already pure noise, and no level is raised above the path's
    end. Raises ValueError for settings that are negative, smallest > largest, and for churn on a grid that rises. Source:
    Karras et al. 2022.
    """

    churn: float = 0.0
    smallest: float = 0.0
    largest: float = math.inf
    inflation: float = 1.0
    chart: Chart = Flow()
    order: ClassVar[int] = 2

    @property
    def stochastic(self) -> bool:
        return self.churn > 0 and self.inflation > 0

    def __post_init__(self) -> None:
        if self.churn < 0 or self.inflation < 0:
            raise ValueError(
                f"EDMHeun: churn = {self.churn} and inflation = {self.inflation} must not be negative; churn = 0 adds no noise"
            )
        if not 0 <= self.smallest <= self.largest:
            raise ValueError(f"EDMHeun: needs 0 <= smallest <= largest, not {self.smallest} and {self.largest}")

    def table(self, path: Path, grid: Tensor) -> Table:
        record = Recorder(path, grid)
        x = record.start
        for (t, s), raised in zip(record.steps, self._raised(record), strict=True):
            if raised.t > t.t:
                extra = (raised.sigma / raised.alpha) ** 2 - (t.sigma / t.alpha) ** 2
                x = raised.alpha / t.alpha * x + record.fresh(
                    self.inflation * raised.alpha * math.sqrt(max(extra, 0.0))
                )
                t = raised
            x = advance(record, HEUN if s.sigma > 0 else EULER, self.chart, t, s, x)
        return record.end(x)

    def _raised(self, record: Recorder) -> list[Level]:
        """The level that each step begins at."""
        first, *later = record.levels[:-1]
        gamma = min(self.churn / len(record.steps), math.sqrt(2) - 1)
        if gamma == 0 or not later:
            return [first, *later]
        if record.grid[0] < record.grid[-1]:
            raise ValueError("EDMHeun: churn needs a grid that falls; use churn = 0 to run from data to noise")
        ratios = [at.sigma / at.alpha for at in later]
        clocks = torch.tensor(ratios, dtype=torch.float64).log() + math.log1p(gamma)
        above = levels(record.path, record.path.time(-2 * clocks))
        inside = [self.smallest <= ratio <= self.largest for ratio in ratios]
        return [first, *[new if ok else at for at, new, ok in zip(later, above, inside, strict=True)]]


ALL = (EDMHeun(10.0),)
