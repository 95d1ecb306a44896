"""Exponential Adams–Bashforth in three variables: DEIS (Zhang and Chen 2023, "Fast sampling with exponential integrators")."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ornstein.grid import polynomial
from ornstein.path import Path
from ornstein.solvers.abm import lagrange_integrals
from ornstein.solvers.exponential import correction, exponential_weights, legendre
from ornstein.table import Form, Level, Recorder, Table, levels


class Variable(Protocol):
    """What the noise is a polynomial in. `clock` may be infinite at an end; there a call is left out of the polynomial."""

    def clock(self, at: Level) -> float: ...

    def integrals(self, path: Path, nodes: Sequence[Level], t: Level, s: Level) -> list[float]:
        """∫ from t to s of each Lagrange polynomial on the nodes with respect to ρ = σ/α."""


@dataclass(frozen=True)
class Rho:
    """ρ = σ/α: ρAB-DEIS."""

    def clock(self, at: Level) -> float:
        return at.sigma / at.alpha if at.alpha > 0 else math.inf

    def integrals(self, path: Path, nodes: Sequence[Level], t: Level, s: Level) -> list[float]:
        return lagrange_integrals([self.clock(node) for node in nodes], self.clock(t), self.clock(s))


@dataclass(frozen=True)
class LogRho:
    """log ρ: the variable of DPM-Solver (there λ = −log ρ)."""

    def clock(self, at: Level) -> float:
        return -at.half_log_snr

    def integrals(self, path: Path, nodes: Sequence[Level], t: Level, s: Level) -> list[float]:
        h = self.clock(t) - self.clock(s)
        weights = exponential_weights([(self.clock(t) - self.clock(node)) / h for node in nodes], h)
        return [-s.sigma / s.alpha * weight for weight in weights]


@dataclass(frozen=True)
class Time:
    """t, the path's own time: tAB-DEIS."""

    def clock(self, at: Level) -> float:
        return at.t

    def integrals(self, path: Path, nodes: Sequence[Level], t: Level, s: Level) -> list[float]:
        # By parts, with τ = low + (high − low)·w²: σ ~ √t near the data of a variance preserving path is smooth in w.
        low, high = min(t.t, s.t), max(t.t, s.t)
        w, weights = legendre(24)
        times = low + (high - low) * w**2
        inner = levels(path, torch.from_numpy(times))
        above = np.array([at.sigma / at.alpha for at in inner]) - s.sigma / s.alpha
        measure = np.sign(s.t - t.t) * 2 * (high - low) * w * weights
        whole = t.sigma / t.alpha - s.sigma / s.alpha
        result = []
        for node in nodes:
            roots = [other.t - t.t for other in nodes if other is not node]
            scale = math.prod(node.t - t.t - root for root in roots)
            basis = np.polynomial.Polynomial.fromroots(roots) / scale if roots else np.polynomial.Polynomial([1.0])
            result.append(float(-basis(0.0) * whole - (basis.deriv()(times - t.t) * above) @ measure))
        return result


@dataclass(frozen=True)
class DEIS:
    """x_s = α_s (x_t/α_t + ∫ noise dρ), ρ = σ/α, with the noise a polynomial of degree order − 1 (equation 15 and 16).

    The polynomial runs through the newest estimates, in any of three variables; its integrals are exact. One network call a
    step. The first steps have fewer estimates, and steps from zero SNR, or in log ρ to zero noise, are DDIM's: order 3 and 4
    are reached on grids whose first steps are small; elsewhere the start leaves an error of order 2 with a small constant.
    Raises ValueError for an order outside 1..4.
    """

    order: int = 3
    variable: Variable = Time()

    def __post_init__(self) -> None:
        if self.order not in (1, 2, 3, 4):
            raise ValueError(f"{type(self).__name__}: order = {self.order} must be 1, 2, 3 or 4")

    def grid(self, path: Path, steps: int) -> Tensor:
        return polynomial(path, steps)

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
