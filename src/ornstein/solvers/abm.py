"""Adams–Bashforth–Moulton on the bounded velocity (variable steps: Hairer, Nørsett and Wanner 1993, section III.5)."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from ornstein.chart import Angle, Chart, Flow
from ornstein.grid import two_ended
from ornstein.path import Path
from ornstein.solvers.quadrature import lagrange_integrals
from ornstein.solvers.solver import TableSolver, one_of
from ornstein.table import Form, FormPair, Level, Recorder, Table

NOISY = 0.8  # σ/(α + σ) below which the first call is never made: there clean depends on the point of the call
LAST = 2, 2, 3  # slopes the predictor takes in the last steps, the last one first; N//10 where that is more


@dataclass(frozen=True)
class ABM(TableSolver):
    """dy/ds in a bounded chart, predicted by Adams–Bashforth and corrected by Adams–Moulton: one network call a step.

        predict  y'_{i+1} = y_i + ∫ (polynomial through f_i, ..., f_{i−p+2}) ds         f_i = dy/ds at y'_i
        correct  y_{i+1}  = y_i + ∫ (polynomial through f_{i+1}, ..., f_{i−p+2}) ds     once f_{i+1} is there (PEC)

    p is the order. In `Flow` and `Angle` neither zero SNR nor zero noise is singular; the first steps use as many slopes as
    there are, and a run of N steps has order 1 + N//2 at most. In runs of few steps the predictor's order falls to 2 at the
    end: nothing corrects the last step, and at small noise a network's error varies most from level to level, which high
    orders magnify.

    At t = 1 a network knows nothing but the mean of the data. So the first call is made further on, at the part `ahead` of the
    first step, where it says more and clean still hardly depends on the point of the call: the slope there is that of the
    straight line from the start towards clean. With `ahead` = 0, and on grids of one step or that begin elsewhere, the first
    call is made at the start itself.
    Raises ValueError for an order outside 2..5, or `ahead` outside [0, 1). Source: Hairer, Nørsett and Wanner 1993, section
    III.5 (variable steps).
    """

    order: int = 5
    chart: Chart = Flow()
    ahead: float = 0.5

    def __post_init__(self) -> None:
        one_of(self, "order", (2, 3, 4, 5))
        if not 0 <= self.ahead < 1:
            raise ValueError(f"ABM: ahead = {self.ahead} must be in [0, 1), a part of the first step")

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
        begun, predicted = 0.0, Form({})
        for (t, s), length in zip(record.steps, lengths, strict=True):
            at = self._first(path, t, s) if x is record.start and steps > 1 else t
            estimate = record.call(t, x) if at is t else early_estimate(record, t, at)
            clocks = [chart.clock(at), *clocks[: order - 1]]
            slopes = [chart.slope(path, at, estimate), *slopes[: order - 1]]
            y = t.mix(estimate) / chart.scale(t)
            if len(clocks) > 1:
                y = y + integral(clocks, slopes, begun, clocks[0]) - predicted
            begun = chart.clock(t)
            predicted = integral(clocks[:length], slopes, begun, chart.clock(s))
            x = chart.scale(s) * (y + predicted)
        return record.end(x)

    def _first(self, path: Path, t: Level, s: Level) -> Level:
        """Where the first call is made, in a first step from t to s.

        The part is `ahead` where no signal is left at t, and goes to 0 as the step becomes small compared with what is
        left, so that the order stays.
        """
        if self.ahead == 0 or t.t != 1 or s.t > t.t:
            return t
        flow, chart = Flow(), self.chart
        part = self.ahead * max(0.0, 1 - (1 - flow.clock(t)) / (flow.clock(t) - flow.clock(s)))
        at = chart.level(path, (1 - part) * chart.clock(t) + part * chart.clock(s))
        at = max(at, flow.level(path, NOISY), key=lambda level: level.t)
        return at if at.t < t.t else t


def early_estimate(record: Recorder, t: Level, at: Level) -> FormPair:
    """A run's first estimate, from a call at the level `at` before the start at t has come there (`remainder`)."""
    gain, on_clean, on_noise = remainder(t, at)
    clean, noise = record.call_ahead(at, gain)
    return FormPair(clean, on_clean * clean + on_noise * noise)


def remainder(t: Level, at: Level) -> tuple[float, float, float]:
    """The gain of a first call at the level `at` for a start at t, and its noise, as a pair on (clean, noise) of the answer.

    Clean stands, and the noise is what is left of the start: α_t·clean + σ_t·noise = start, where the answer's own mix at `at`
    is gain·start. The gain is the ratio of the sizes √(α² + σ²).
    """
    size = Angle().scale
    gain = size(at) / size(t)
    return gain, (at.alpha / gain - t.alpha) / t.sigma, at.sigma / (gain * t.sigma)


def integral(nodes: Sequence[float], slopes: Sequence[Form], start: float, stop: float) -> Form:
    """∫ from start to stop of the polynomial that takes the given slopes at the nodes (as many as there are nodes)."""
    total = Form({})
    for weight, slope in zip(lagrange_integrals(nodes, start, stop), slopes, strict=False):
        total = total + weight * slope
    return total


ALL = (ABM(2), ABM(3))
