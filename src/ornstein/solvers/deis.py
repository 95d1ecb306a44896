"""Exponential Adams–Bashforth in three variables: DEIS (Zhang and Chen 2023, "Fast sampling with exponential integrators")."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ornstein.path import Path
from ornstein.solvers.exponential import correction, exponential_weights, weights_from_moments
from ornstein.solvers.quadrature import lagrange_integrals, legendre
from ornstein.solvers.solver import TableSolver, one_of
from ornstein.table import Form, Level, Recorder, Table


class Variable(Protocol):
    """Variable of the polynomial. `clock` may be infinite at an end; there a call is left out of the polynomial."""

    def clock(self, at: Level) -> float:
        """The variable at a level; rises with the noise."""
        ...

    def integrals(self, path: Path, nodes: Sequence[Level], t: Level, s: Level) -> list[float]:
        """∫ from t to s of each Lagrange polynomial on the nodes with respect to ρ = σ/α."""


@dataclass(frozen=True)
class Rho:
    """s = ρ = σ/α: ρAB-DEIS. Source: Zhang and Chen 2023."""

    def clock(self, at: Level) -> float:
        return at.sigma / at.alpha if at.alpha > 0 else math.inf

    def integrals(self, path: Path, nodes: Sequence[Level], t: Level, s: Level) -> list[float]:
        return lagrange_integrals([self.clock(node) for node in nodes], self.clock(t), self.clock(s))


@dataclass(frozen=True)
class LogRho:
    """s = log ρ: the variable of DPM-Solver (there λ = −log ρ). Source: Zhang and Chen 2023."""

    def clock(self, at: Level) -> float:
        return -at.half_log_snr

    def integrals(self, path: Path, nodes: Sequence[Level], t: Level, s: Level) -> list[float]:
        h = self.clock(t) - self.clock(s)
        weights = exponential_weights([(self.clock(t) - self.clock(node)) / h for node in nodes], h)
        return [-s.sigma / s.alpha * weight for weight in weights]


@dataclass(frozen=True)
class Time:
    """s = t, the path's own time: tAB-DEIS. Source: Zhang and Chen 2023."""

    def clock(self, at: Level) -> float:
        return at.t

    def integrals(self, path: Path, nodes: Sequence[Level], t: Level, s: Level) -> list[float]:
        # ∫ v^k dρ = −∫ k v^{k−1} (ρ − ρ_s) dv with v = 0 at t and 1 at s; the times are squares of w, because near the data
        # of a variance preserving path σ ~ √t is smooth in w only.
        w, weights = legendre(24)
        v = 1 - w**2 if s.t < t.t else w**2
        times = torch.from_numpy(t.t + (s.t - t.t) * v)
        above = 2 * w * weights * ((path.sigma(times) / path.alpha(times)).numpy() - s.sigma / s.alpha)
        moments = [-k * float(v ** (k - 1) @ above) for k in range(1, len(nodes))]
        at = [(node.t - t.t) / (s.t - t.t) for node in nodes]
        return weights_from_moments(at, [s.sigma / s.alpha - t.sigma / t.alpha, *moments])


@dataclass(frozen=True)
class DEIS(TableSolver):
    """x_s = α_s (x_t/α_t + ∫ noise dρ), ρ = σ/α, with the noise a polynomial of degree order − 1 (equation 15 and 16).

    The polynomial runs through the newest estimates, in any of three variables; its integrals are exact. One network call a
    step. The first steps have fewer estimates, and steps from zero SNR, or in log ρ to zero noise, are DDIM's: order 3 and 4
    are reached on grids whose first steps are small; elsewhere the start leaves an error of order 2 with a small constant.
    Raises ValueError for an order outside 1..4. Source: Zhang and Chen 2023.
    """

    order: int = 3
    variable: Variable = Time()

    def __post_init__(self) -> None:
        one_of(self, "order", (1, 2, 3, 4))

    def table(self, path: Path, grid: Tensor) -> Table:
        record, variable = Recorder(path, grid), self.variable
        x = record.start
        nodes: list[Level] = []
        noises: list[Form] = []
        for t, s in record.steps:
            estimate = record.call(t, x)
            x = s.mix(estimate)
            if math.isfinite(variable.clock(t)):
                nodes, noises = [t, *nodes[: self.order - 1]], [estimate.noise, *noises[: self.order - 1]]
            if len(nodes) > 1 and t.alpha > 0 and s.alpha > 0 and math.isfinite(variable.clock(s)):
                x = x + s.alpha * correction(variable.integrals(path, nodes, t, s), noises)
        return record.end(x)


ALL = (DEIS(3), DEIS(2, LogRho()))
