"""The likelihood ODE with fixed steps: the way by Dormand and Prince's method, the divergence by Gregory's quadrature.

The divergence does not act back on the way, so it is needed at the steps' ends alone and not at every stage of a Runge–Kutta
method: a sixth of the traces, which are the costly part. Fresh probes at each of them are unbiased as well and average out
along the way, where one probe for all of it would repeat its error.
"""

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

from ornstein.likelihood.flow import ProbabilityFlow
from ornstein.likelihood.trace import Trace
from ornstein.noise import NoiseSource
from ornstein.solvers.runge_kutta import Tableau

# Order 5 (Dormand and Prince 1980, table 2), without the stage that only serves error control
DORMAND_PRINCE = Tableau(
    (
        (),
        (1 / 5,),
        (3 / 40, 9 / 40),
        (44 / 45, -56 / 15, 32 / 9),
        (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
        (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    ),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
    (0.0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0),
)
CORRECTED = 6  # nodes at each end whose weights are not 1
EULER_MACLAURIN = {1: 1 / 12, 3: -1 / 720, 5: 1 / 30240}  # B_{m+1}/(m+1)!


@dataclass(frozen=True)
class FixedSteps:
    """`steps` even steps h of the clock: 6 network calls and a trace each. Errors O(h⁵) in y and O(h⁶) in the divergence.

    Raises ValueError for fewer than 6 steps. Source: Dormand and Prince 1980 for the way; Gregory's quadrature (Hildebrand
    1974) for the divergence.
    """

    steps: int = 96

    def __post_init__(self) -> None:
        if self.steps < CORRECTED:
            raise ValueError(f"FixedSteps: steps = {self.steps}; the quadrature needs at least {CORRECTED}")

    def run(
        self, flow: ProbabilityFlow, y: Tensor, trace: Trace, noise: NoiseSource, same: bool = False
    ) -> tuple[Tensor, Tensor]:
        """y where the way ends, and the integrated divergence (S, B). `same` keeps one probe for the whole way."""
        h = (flow.end - flow.begin) / self.steps
        nodes = torch.linspace(flow.begin, flow.end, self.steps + 1, dtype=torch.float64)
        stages = nodes[:-1, None] + h * torch.tensor(DORMAND_PRINCE.c, dtype=torch.float64)
        stages[:, -1] = nodes[1:]
        marks = flow.marks(stages.flatten())
        total, key = y.new_zeros(trace.samples, len(y)), flow.t if same else None
        *inner, last = gregory(self.steps)
        for i, weight in enumerate(inner):
            first, *others = marks[len(DORMAND_PRINCE.c) * i :][: len(DORMAND_PRINCE.c)]
            slope, divergence = flow.slopes(first, y, trace, noise, key)
            total, slopes = total + divergence * (weight * h), [slope]
            with torch.no_grad():
                for row, mark in zip(DORMAND_PRINCE.a[1:], others, strict=True):
                    slopes.append(flow.slope(mark, _moved(y, h, row, slopes)))
                y = _moved(y, h, DORMAND_PRINCE.b, slopes)
        total = total + flow.slopes(flow.last, y, trace, noise, key)[1] * (last * h)
        return y, total


def _moved(y: Tensor, h: float, weights: tuple[float, ...], slopes: list[Tensor]) -> Tensor:
    for weight, slope in zip(weights, slopes, strict=True):
        y = y + slope * (weight * h) if weight else y
    return y


@cache
def gregory(steps: int) -> tuple[float, ...]:
    """Weights of steps + 1 even nodes, of unit distance: the trapezium rule with corrected ends, exact up to degree 5.

    The corrections are the end terms of Euler and Maclaurin's formula with their derivatives by differences of the first six
    nodes (Hildebrand 1974, section 5.8).
    """
    powers = np.vander(np.arange(CORRECTED, dtype=float), increasing=True).T
    ends = [-0.5, *(EULER_MACLAURIN.get(m, 0.0) * math.factorial(m) for m in range(1, CORRECTED))]
    correction = np.linalg.solve(powers, ends)
    weights = np.ones(steps + 1)
    weights[:CORRECTED] += correction
    weights[-CORRECTED:] += correction[::-1]
    return tuple(weights.tolist())
