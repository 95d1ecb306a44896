"""Ancestral sampling (Ho, Jain and Abbeel 2020, "Denoising diffusion probabilistic models", algorithm 2)."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ornstein.path import Path
from ornstein.solvers.solver import TableSolver
from ornstein.table import Recorder, Table


@dataclass(frozen=True)
class Ancestral(TableSolver):
    """A draw from the forward posterior x_s | x_t, x with the estimate for x, for any s < t; on a β-table this is DDPM.

    Where no signal is left at t the posterior ignores x_t, and where s = 0 it adds no noise.
    """

    order: ClassVar[int] = 1

    def table(self, path: Path, grid: Tensor) -> Table:
        record = Recorder(path, grid)
        x, times = record.start, record.grid
        kernels = torch.stack(path.posterior(times[1:], times[:-1]), -1)
        for t, (on_x_t, on_clean, std) in zip(record.levels[:-1], kernels.tolist(), strict=True):
            estimate = record.call(t, x)
            x = on_x_t * t.mix(estimate) + on_clean * estimate.clean + record.fresh(std)
        return record.end(x)
