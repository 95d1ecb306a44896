"""Euler–Maruyama on the reverse SDE with free noise (Song et al. 2021, equation 6; Albergo et al. 2023 for free η)."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ornstein.grid import uniform
from ornstein.path import Path
from ornstein.solvers.solver import TableSolver
from ornstein.table import Recorder, Table


@dataclass(frozen=True)
class EulerMaruyama(TableSolver):
    """x_s = x_t + (s − t)·(u − ½η²·score) + η·√(t − s)·ξ for any η(t) ≥ 0; all have the same marginals.

    `eta` is a number that multiplies the path's own diffusion g (1: Anderson's reverse SDE, 0: the ODE), or a function of t
    (a float64 tensor) that gives η itself. A step with η > 0 that overshoots, so that x_s would hold the noise of x_t with
    the wrong sign (always at zero SNR, where g is infinite, and mostly in the last step to clean data), replaces that noise
    whole: x_s = α_s·clean + σ_s·ξ. Otherwise the step that ends at t = 0 adds nothing fresh. Raises ValueError for a
    negative eta, and for noise on a grid that rises. Source: Song et al. 2021, equation 6; Albergo et al. 2023 for free η.
    """

    eta: float | Callable[[Tensor], Tensor] = 1.0
    order: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if isinstance(self.eta, (int, float)) and self.eta < 0:
            raise ValueError(f"EulerMaruyama: eta = {self.eta} must not be negative")

    def grid(self, path: Path, steps: int) -> Tensor:
        return uniform(path, steps)

    def table(self, path: Path, grid: Tensor) -> Table:
        record = Recorder(path, grid)
        x = record.start
        for (t, s), eta in zip(record.steps, self._etas(path, record.grid[:-1]), strict=True):
            estimate, h = record.call(t, x), t.t - s.t
            if eta and h < 0:
                raise ValueError("EulerMaruyama: noise needs a grid that falls; use eta = 0 to run from data to noise")
            d_alpha, d_sigma = t.slopes(path)
            retained = t.sigma - h * (d_sigma + (eta**2 / (2 * t.sigma) if eta else 0.0))
            if eta and retained < 0:
                x = s.alpha * estimate.clean + record.fresh(s.sigma)
            else:
                x = (t.alpha - h * d_alpha) * estimate.clean + retained * estimate.noise
                x = x + record.fresh(eta * math.sqrt(h) if eta and s.t > 0 else 0.0)
        return record.end(x)

    def _etas(self, path: Path, times: Tensor) -> list[float]:
        if callable(self.eta):
            return torch.as_tensor(self.eta(times)).expand(len(times)).tolist()
        etas = torch.full_like(times, math.inf if self.eta else 0.0)
        finite = path.alpha(times) > 0
        if self.eta:
            etas[finite] = self.eta * path.diffusion(times[finite])
        return etas.tolist()


ALL = (EulerMaruyama(),)
