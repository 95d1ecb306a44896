"""DPM-Solver and DPM-Solver++ (Lu et al. 2022, "DPM-Solver", and "DPM-Solver++: fast solver for guided sampling").

DPM-Solver uses noise prediction, DPM-Solver++ data prediction (see `ornstein.solvers.exponential`). Multistep forms use the
estimates of earlier steps, single-step forms estimates within the step, SDE forms add fresh noise. All step in λ = log(α/σ).
"""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor

from ornstein.chart import Flow
from ornstein.path import Path
from ornstein.solvers.exponential import DataPrediction, NoisePrediction, Prediction, gap, history
from ornstein.solvers.runge_kutta import OPEN, advance
from ornstein.solvers.solver import TableSolver, one_of
from ornstein.table import Form, Level, Recorder, Table, levels


@dataclass(frozen=True)
class _Order(TableSolver):
    """Abstract: an order from 1 to 3, and data or noise prediction."""

    order: int = 2
    prediction: ClassVar[Prediction] = DataPrediction()

    def __post_init__(self) -> None:
        one_of(self, "order", (1, 2, 3))


def _multistep(prediction: Prediction, order: int, kappa: float, path: Path, grid: Tensor) -> Table:
    record = Recorder(path, grid)
    x = record.start
    nodes: list[Level] = []
    held: list[Form] = []
    for t, s in record.steps:
        estimate, h = record.call(t, x), gap(t, s)
        nodes, held = [t, *nodes[:2]], [prediction.of(estimate), *held[:2]]
        x, std = prediction.base(estimate, t, s, kappa)
        clocks, values = history(nodes, held, order)
        if math.isfinite(h) and len(values) > 1:
            x = x - prediction.gain(s, kappa) * _taylor(clocks, values, h, prediction.exponent(h, kappa))
        x = x + record.fresh(std)
    return record.end(x)


def _taylor(clocks: list[float], values: list[Form], h: float, z: float) -> Form:
    """The terms of the first and second difference; with one difference the paper takes expm1(z)/2, which has the same order."""
    first = [(a - b) * (h / (p - q)) for (p, q), (a, b) in zip(pairwise(clocks), pairwise(values), strict=True)]
    if len(first) == 1:
        return math.expm1(z) / 2 * first[0]
    share = (clocks[0] - clocks[1]) / (clocks[0] - clocks[2])
    slope = first[0] + share * (first[0] - first[1])
    curvature = (2 * h / (clocks[0] - clocks[2])) * (first[0] - first[1])  # h²·d²m/dλ²
    return _phi2(z) * slope + _phi3(z) * curvature


def _phi2(z: float) -> float:
    return math.expm1(z) / z - 1


def _phi3(z: float) -> float:
    return _phi2(z) / z - 1 / 2


@dataclass(frozen=True)
class DPMSolverPP(_Order):
    """Multistep DPM-Solver++ (algorithm 2; with order 2 "DPM++ 2M"): one network call a step.

    x_s = (σ_s/σ_t) x_t + σ_s ∫ e^λ clean dλ from λ_t to λ_s, clean a polynomial through the newest estimates.

    Order 2 is DDIM plus k·(clean_i − clean_{i−1}), k = (α_s − α_t σ_s/σ_t)·h_i/(2h_{i−1}). Order 3 integrates the quadratic
    through three estimates exactly; with half the weight on the second difference the fitted order is 2.1 in place of 3.1.
    Steps with an infinite h (from zero SNR, to zero noise) are of first order, and the first steps have fewer estimates:
    order 3 shows on grids whose first steps are small. Raises ValueError for an order outside 1..3. Source: Lu et al. 2022,
    "DPM-Solver++".
    """

    def table(self, path: Path, grid: Tensor) -> Table:
        return _multistep(self.prediction, self.order, 0.0, path, grid)


@dataclass(frozen=True)
class DPMSolver(DPMSolverPP):
    """Multistep DPM-Solver: as `DPMSolverPP` with noise prediction in place of data prediction; one network call a step.

    Source: Lu et al. 2022, "DPM-Solver".
    """

    prediction: ClassVar[Prediction] = NoisePrediction()


@dataclass(frozen=True)
class DPMSolverPPSingle(_Order):
    """Single-step DPM-Solver++ (algorithm 1; with order 2 "DPM++ 2S"): `order` network calls a step, no memory.

    x_s = (σ_s/σ_t) x_t + σ_s ∫ e^λ clean dλ from λ_t to λ_s, clean a polynomial through the estimates within the step.

    Order 2 makes another call at λ_t + h/2, order 3 at λ_t + h/3 and λ_t + 2h/3. Steps with an infinite h (from zero SNR, to zero
    noise) have no such levels; they are made by a Runge–Kutta method of the same order and calls in the bounded linear
    chart, so the ends cost no order. Raises ValueError for an order outside 1..3. Source: Lu et al. 2022, "DPM-Solver++".
    """

    def table(self, path: Path, grid: Tensor) -> Table:
        record = Recorder(path, grid)
        x, inner = record.start, self._inner(record)
        for (t, s), between in zip(record.steps, inner, strict=True):
            if between:
                x = self._step(record, t, s, between, x)
            else:
                x = advance(record, OPEN[self.order], Flow(), t, s, x)
        return record.end(x)

    def _inner(self, record: Recorder) -> list[list[Level]]:
        """The levels inside each step; none where its h is infinite, or with order 1."""
        shares = [i / self.order for i in range(1, self.order)]
        steps = [(t.half_log_snr, gap(t, s)) for t, s in record.steps]
        clocks = [at + share * h for at, h in steps if math.isfinite(h) for share in shares]
        inner = iter(levels(record.path, record.path.time(2 * torch.tensor(clocks, dtype=torch.float64))))
        return [[next(inner) for _ in shares] if math.isfinite(h) else [] for _, h in steps]

    def _step(self, record: Recorder, t: Level, s: Level, between: list[Level], x: Form) -> Form:
        prediction, h = self.prediction, gap(t, s)
        estimate = record.call(t, x)
        held, change = prediction.of(estimate), Form({})
        for i, at in enumerate(between, 1):
            share, z = i / self.order, prediction.exponent(gap(t, at), 0.0)
            x = at.mix(estimate)
            if i > 1:
                x = x - prediction.gain(at, 0.0) * _phi2(z) * share * change
            change = (prediction.of(record.call(at, x)) - held) / share
        z = prediction.exponent(h, 0.0)
        weight = math.expm1(z) / 2 if self.order == 2 else _phi2(z)
        return s.mix(estimate) - prediction.gain(s, 0.0) * weight * change


@dataclass(frozen=True)
class DPMSolverSingle(DPMSolverPPSingle):
    """Single-step DPM-Solver (DPM-Solver-2 and -3: algorithms 1 and 2): as `DPMSolverPPSingle` with noise prediction.

    Source: Lu et al. 2022, "DPM-Solver".
    """

    prediction: ClassVar[Prediction] = NoisePrediction()


@dataclass(frozen=True)
class SDEDPMSolverPP(TableSolver):
    """SDE-DPM-Solver++ (section 5; with 2 estimates "DPM++ 2M SDE"): the multistep form on the reverse SDE with noise η·g.

    x_s = (σ_s/σ_t) e^{−κh} x_t + α_s ∫_0^h (1+κ) e^{−(1+κ)(h−u)} clean du + σ_s √(1 − e^{−2κh}) ξ,  κ = η²,  h = λ_s − λ_t

    `estimates` is how many the polynomial uses: 1 is ancestral sampling, 2 the published 2M. `eta` multiplies a standard
    deviation: 1 is Anderson's SDE, 0 `DPMSolverPP`. A step from zero SNR draws α_s·clean + σ_s·ξ; one to zero noise adds
    none. Raises ValueError for estimates outside 1..3, a negative eta, and for noise on a grid that rises. Source: Lu et al.
    2022, "DPM-Solver++", section 5.
    """

    estimates: int = 2
    eta: float = 1.0
    prediction: ClassVar[Prediction] = DataPrediction()

    def __post_init__(self) -> None:
        one_of(self, "estimates", (1, 2, 3))
        if self.eta < 0:
            raise ValueError(f"{type(self).__name__}: eta = {self.eta} must not be negative")

    @property
    def order(self) -> int:
        return min(self.estimates, 2)

    def table(self, path: Path, grid: Tensor) -> Table:
        return _multistep(self.prediction, self.estimates, self.eta**2, path, grid)


@dataclass(frozen=True)
class SDEDPMSolver(SDEDPMSolverPP):
    """SDE-DPM-Solver: as `SDEDPMSolverPP`, errors included, with noise prediction in place of data prediction.

    Source: Lu et al. 2022, "DPM-Solver++", section 5.
    """

    prediction: ClassVar[Prediction] = NoisePrediction()


ALL = (DPMSolver(2), DPMSolverPP(), DPMSolverPP(3), DPMSolverPPSingle(2), DPMSolverSingle(3), SDEDPMSolverPP())
