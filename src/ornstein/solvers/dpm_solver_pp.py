"""DPM-Solver++ multistep (Lu et al. 2022, "DPM-Solver++: fast solver for guided sampling", algorithm 2)."""

import math
from dataclasses import dataclass

from torch import Tensor

from ornstein.grid import polynomial
from ornstein.path import Path
from ornstein.table import Recorder, Table


@dataclass(frozen=True)
class DPMSolverPP:
    """DDIM plus k·(clean_i − clean_{i−1}), k = (α_s − α_t σ_s/σ_t)·h_i/(2h_{i−1}), h the steps in log(α/σ).

    Order 1 is DDIM. Steps with an infinite h (from zero SNR, to zero noise) are of first order.
    Raises ValueError for an order other than 1 or 2.
    """

    order: int = 2

    def __post_init__(self) -> None:
        if self.order not in (1, 2):
            raise ValueError(f"DPMSolverPP: order = {self.order} must be 1 or 2")

    def grid(self, path: Path, steps: int) -> Tensor:
        return polynomial(path, steps)

    def table(self, path: Path, grid: Tensor) -> Table:
        record = Recorder(path, grid)
        x, before, h_before = record.start, None, math.inf
        for t, s in record.steps:
            estimate = record.call(t, x)
            x, h = s.mix(estimate), s.half_log_snr - t.half_log_snr
            if self.order == 2 and before is not None and math.isfinite(h):
                k = (s.alpha - t.alpha * s.sigma / t.sigma) * h / (2 * h_before)
                x = x + k * (estimate.clean - before)
            before, h_before = estimate.clean, h
        return record.end(x)
