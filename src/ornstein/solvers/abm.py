"""Adams–Bashforth–Moulton on the bounded velocity (variable steps: Hairer, Nørsett and Wanner 1993, section III.5)."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ornstein.chart import Chart, Flow
from ornstein.grid import two_ended
from ornstein.path import Path
from ornstein.table import Form, Recorder, Table

LAST = 2, 2, 3  # slopes the predictor takes in the last steps, the last one first; N//10 where that is more


@dataclass(frozen=True)
class ABM:
    """dy/ds in a bounded chart, predicted by Adams–Bashforth and corrected by Adams–Moulton: one network call a step.

        predict  y'_{i+1} = y_i + ∫ (polynomial through f_i, ..., f_{i−p+2}) ds         f_i = dy/ds at y'_i
        correct  y_{i+1}  = y_i + ∫ (polynomial through f_{i+1}, ..., f_{i−p+2}) ds     once f_{i+1} is there (PEC)

    p is the order. In `Flow` and `Angle` neither zero SNR nor zero noise is singular; the first steps use as many slopes as
    there are, and a run of N steps has order 1 + N//2 at most. In runs of few steps the predictor's order falls to 2 at the
    end: nothing corrects the last step, and at small noise a network's error varies most from level to level, which high
    orders magnify.
    Raises ValueError for an order outside 2..5.
    """

    order: int = 5
    chart: Chart = Flow()

    def __post_init__(self) -> None:
        if self.order not in (2, 3, 4, 5):
            raise ValueError(f"ABM: order = {self.order} must be 2, 3, 4 or 5")

    def grid(self, path: Path, steps: int) -> Tensor:
        return two_ended(path, steps)

    def table(self, path: Path, grid: Tensor) -> Table:
        record, chart = Recorder(path, grid), self.chart
        steps = len(record.steps)
        order = min(self.order, max(2, 1 + steps // 2))
        lowered = [max(last, steps // 10) for last in LAST[:steps]]
        lengths = [min(order - 1, length) for length in ([order] * (steps - len(lowered)) + lowered[::-1])]
        x = record.start
        clocks: list[float] = []
        slopes: list[Form] = []
        predicted = Form({})
        for (t, s), length in zip(record.steps, lengths, strict=True):
            estimate = record.call(t, x)
            clocks = [chart.clock(t), *clocks[: order - 1]]
            slopes = [chart.slope(path, t, estimate), *slopes[: order - 1]]
            y = t.mix(estimate) / chart.scale(t)
            if len(clocks) > 1:
                y = y + integral(clocks, slopes, clocks[1], clocks[0]) - predicted
            predicted = integral(clocks[:length], slopes, clocks[0], chart.clock(s))
            x = chart.scale(s) * (y + predicted)
        return record.end(x)


def integral(nodes: Sequence[float], slopes: Sequence[Form], start: float, stop: float) -> Form:
    """∫ from start to stop of the polynomial that takes the given slopes at the nodes (as many as there are nodes)."""
    total = Form({})
    for weight, slope in zip(lagrange_integrals(nodes, start, stop), slopes, strict=False):
        total = total + weight * slope
    return total


def lagrange_integrals(nodes: Sequence[float], start: float, stop: float) -> list[float]:
    """∫ from start to stop of each Lagrange polynomial on the nodes: exact, by Gauss–Legendre quadrature."""
    points, weights = _legendre((len(nodes) + 1) // 2)
    u, n = (start + stop) / 2 + (stop - start) / 2 * points, np.asarray(nodes)
    gaps = n[:, None] - n[None, :] + np.eye(len(n))  # 1 on the diagonal, where the factor is left out
    factors = (u[:, None, None] - n[None, None, :]) / gaps
    factors[:, range(len(n)), range(len(n))] = 1.0
    integrals: list[float] = ((stop - start) / 2 * weights @ factors.prod(-1)).tolist()
    return integrals


@lru_cache
def _legendre(count: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    points, weights = np.polynomial.legendre.leggauss(count)
    return points, weights
