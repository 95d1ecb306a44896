"""UniPC (Zhao et al. 2023, "UniPC: a unified predictor-corrector framework for fast sampling of diffusion models")."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from ornstein.path import Path
from ornstein.solvers.exponential import DataPrediction, Prediction, correction, exponential_weights, gap, history
from ornstein.solvers.solver import TableSolver, one_of
from ornstein.table import Form, Level, Recorder, Table


@dataclass(frozen=True)
class B1:
    """B₁(h) = h. Source: Zhao et al. 2023."""

    def __call__(self, z: float) -> float:
        return z


@dataclass(frozen=True)
class B2:
    """B₂(h) = e^h − 1. Source: Zhao et al. 2023."""

    def __call__(self, z: float) -> float:
        return math.expm1(z)


@dataclass(frozen=True)
class UniPC(TableSolver):
    """UniP-p predicts x_s from p estimates; UniC-p corrects it once the estimate at s is there, without another call.

    The coefficients solve R_p a_p B(h) = φ_p(h) (theorem 3.1): with three conditions or more B drops out and they are the exact
    integrals of the interpolating polynomial. The two cases with a single unknown, UniP-2 and UniC-1, take a = 1/2 instead
    (section 3.4), the only place where `b` matters: `B1()` or `B2()`.

    `predictor` is the paper's p; with the `corrector` the order is p + 1. One network call a step. Steps with an infinite h
    (from zero SNR, to zero noise) are DDIM's. Order 4 shows on grids whose first steps are small.
    Raises ValueError for a predictor outside 1..3. Source: Zhao et al. 2023.
    """

    predictor: int = 2
    b: Callable[[float], float] = B2()
    corrector: bool = True
    prediction: Prediction = DataPrediction()

    def __post_init__(self) -> None:
        one_of(self, "predictor", (1, 2, 3))

    @property
    def order(self) -> int:
        return self.predictor + self.corrector

    def table(self, path: Path, grid: Tensor) -> Table:
        record, prediction = Recorder(path, grid), self.prediction
        x, before = record.start, record.levels[0]
        nodes: list[Level] = []
        held: list[Form] = []
        predicted = Form({})
        for t, s in record.steps:
            estimate = record.call(t, x)
            shift = Form({})  # corrected minus predicted, at t
            if self.corrector and nodes and math.isfinite(gap(before, t)):
                shift = self._terms(nodes, held, before, t, (t, prediction.of(estimate))) - predicted
            nodes, held = [t, *nodes[: self.predictor - 1]], [prediction.of(estimate), *held[: self.predictor - 1]]
            predicted = self._terms(nodes, held, t, s) if math.isfinite(gap(t, s)) else Form({})
            x = s.mix(estimate) + predicted
            if shift.weights:
                x = x + prediction.carry(t, s) * shift
            before = t
        return record.end(x)

    def _terms(self, nodes: list[Level], held: list[Form], t: Level, s: Level, *new: tuple[Level, Form]) -> Form:
        """Correction of DDIM's step from t to s, with a new estimate for the corrector."""
        h = gap(t, s)
        clocks, values = history(nodes, held, self.predictor)
        for at, value in new:
            clocks, values = [*clocks, at.half_log_snr], [*values, value]
        v, z = [(clock - clocks[0]) / h for clock in clocks], self.prediction.exponent(h, 0.0)
        weights = [0.0, self.b(z) / (2 * v[1])] if len(v) == 2 else exponential_weights(v, z)
        return -self.prediction.gain(s, 0.0) * correction(weights, values)


ALL = (UniPC(2), UniPC(3))
