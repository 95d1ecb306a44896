"""Euler–Maruyama on the reverse SDE with free noise (Song et al. 2021, equation 6; Albergo et al. 2023 for free η)."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ornstein.chart import PathTime
from ornstein.grid import uniform
from ornstein.path import Path
from ornstein.table import Recorder, Table


@dataclass(frozen=True)
class EulerMaruyama:
    """x_s = x_t + (s − t)·(u − ½η²·score) + η·√(t − s)·ξ for any η(t) ≥ 0; all have the same marginals.

    `eta` is a number that multiplies the path's own diffusion g (1: Anderson's reverse SDE, 0: the ODE), or a function of t
    (a float64 tensor) that gives η itself. Where η is infinite (g at zero SNR) the noise of x_t is replaced whole, as the
    exact kernel does; the step that ends at t = 0 returns the estimate of the data plus nothing fresh.
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
        for t, s in record.steps:
            estimate = record.call(t, x)
            eta, h = self._eta(path, t.t), t.t - s.t
            if math.isinf(eta):
                x = s.alpha * estimate.clean + record.fresh(s.sigma)
                continue
            drift = PathTime().slope(path, t, estimate) + (eta**2 / (2 * t.sigma)) * estimate.noise
            x = t.mix(estimate) - h * drift + record.fresh(eta * math.sqrt(h) if s.t > 0 else 0.0)
        return record.end(x)

    def _eta(self, path: Path, t: float) -> float:
        time = torch.tensor(t, dtype=torch.float64)
        if callable(self.eta):
            return float(self.eta(time))
        if self.eta == 0:
            return 0.0
        return math.inf if path.alpha(time) == 0 else self.eta * float(path.diffusion(time))
