"""DDIM (Song, Meng and Ermon 2021, "Denoising diffusion implicit models")."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ornstein.path import Path
from ornstein.solvers.solver import TableSolver
from ornstein.table import Recorder, Table


@dataclass(frozen=True)
class DDIM(TableSolver):
    """x_s = α_s·clean + √(σ_s² − τ²)·noise + τ·ξ with τ = η·(standard deviation of the forward posterior), equation 12.

    η = 0 is deterministic: Euler's method in the variables (x/α, σ/α). η = 1 is ancestral sampling. `eta` multiplies a
    standard deviation. Raises ValueError for η outside [0, 1]. Source: Song, Meng and Ermon 2021.

    >>> import torch
    >>> from ornstein import path, solvers
    >>> solvers.DDIM().table(path.Linear(), torch.tensor([1.0, 0.5, 0.0])).P.diagonal()
    tensor([0.5000, 1.0000], dtype=torch.float64)
    """

    eta: float = 0.0
    order: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if not 0 <= self.eta <= 1:
            raise ValueError(f"DDIM: eta = {self.eta} must lie in [0, 1]")

    def table(self, path: Path, grid: Tensor) -> Table:
        record = Recorder(path, grid)
        x, times = record.start, record.grid
        stds = self.eta * path.posterior(times[1:], times[:-1]).sigma if self.eta else torch.zeros(len(times) - 1)
        for (t, s), fresh in zip(record.steps, stds.tolist(), strict=True):
            clean, noise = record.call(t, x)
            x = s.alpha * clean + math.sqrt(max(s.sigma**2 - fresh**2, 0.0)) * noise + record.fresh(fresh)
        return record.end(x)


ALL = (DDIM(), DDIM(1.0))
