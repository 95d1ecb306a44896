"""Ancestral sampling (Ho et al. 2020, "Denoising diffusion probabilistic models", algorithm 2)."""

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

    Its mean is DDPM's. Its variance is σ²_{t|s}^v·(σ²_{t|s}σ_s²/σ_t²)^{1−v} for `variance` v: 0 is the posterior's own
    ("β̃", right for data of one point), 1 is the forward step's σ²_{t|s} ("β", right for N(0, I); Ho et al. 2020, section 3.2),
    and between them log-linear as learned variances are (Nichol and Dhariwal 2021, equation 15). v = 1 has too much
    noise for data narrower than N(0, I), by an error of first order in the step. Where no signal is left at t the
    posterior ignores x_t, and a step to s = 0, or from a level without signal, has the posterior's variance.
    Raises ValueError for a variance outside [0, 1].
    """

    variance: float = 0.0
    order: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if not 0 <= self.variance <= 1:
            raise ValueError(f"Ancestral: variance = {self.variance} must lie in [0, 1]: 0 is the posterior's, 1 is β")

    def table(self, path: Path, grid: Tensor) -> Table:
        record = Recorder(path, grid)
        x, times = record.start, record.grid
        kernels = torch.stack(path.posterior(times[1:], times[:-1]), -1)
        for (t, s), (on_x_t, on_clean, std) in zip(record.steps, kernels.tolist(), strict=True):
            estimate = record.call(t, x)
            if std > 0 and t.alpha > 0:
                std *= (t.sigma / s.sigma) ** self.variance  # σ_{t|s}σ_s/σ_t becomes σ_{t|s}
            x = on_x_t * t.mix(estimate) + on_clean * estimate.clean + record.fresh(std)
        return record.end(x)


ALL = (Ancestral(),)
