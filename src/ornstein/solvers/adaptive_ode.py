"""The probability-flow ODE with adaptive steps: Dormand and Prince 1980, order 5(4), of torchdiffeq (Chen 2018)."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import torch
from torch import Tensor

from ornstein.chart import Chart, Flow
from ornstein.denoiser import Denoiser
from ornstein.estimate import Estimate
from ornstein.extras import library
from ornstein.noise import NoiseSource
from ornstein.path import Path
from ornstein.table import Form, FormPair, Level, Step, level, levels

NEAREST = (
    1e-4  # σ/α below which the denoiser is not called: its noise estimate has no limit for rounded or discrete data
)


@dataclass(frozen=True)
class AdaptiveODE:
    """dy/ds in a chart, with steps chosen so that the error of each is below atol + rtol·|y|, either way in time.

    In a bounded chart both ends are finite and are met exactly. The grid's times are met as well, and a `Step` is yielded at
    each; by default they are the ends, whatever `steps` is. All samples of a batch take the same steps, which are chosen for
    the sample with the largest error (torchdiffeq's own norm is a mean over the batch, which lets a hard sample hide). So the
    error of each step is within the tolerance for each sample in any batch, every sample costs as many calls as the hardest, and
    a result depends on its neighbours by as much as the flow makes of those errors; alone in a batch it depends on none.
    Network calls below σ/α = 1e-4 are made there, an error of order 1e-8. Raises ValueError for a tolerance that is not
    positive, a chart without that end, or a state that is not finite, and ImportError without torchdiffeq. Source: Dormand and
    Prince 1980, order 5(4), of torchdiffeq (Chen 2018).
    """

    rtol: float = 1e-5
    atol: float = 1e-5
    chart: Chart = Flow()
    order: ClassVar[int] = 0
    stochastic: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not (self.rtol > 0 and self.atol > 0):
            raise ValueError(f"AdaptiveODE: rtol = {self.rtol} and atol = {self.atol} must be positive")

    def grid(self, path: Path, steps: int) -> Tensor:
        return torch.tensor([1.0, 0.0], dtype=torch.float64)

    def run(self, denoiser: Denoiser, x: Tensor, grid: Tensor, noise: NoiseSource) -> Iterator[Step]:
        odeint = _torchdiffeq().odeint
        field, marks = _Field(denoiser, self.chart), levels(denoiser.path, grid)
        first_step: float | None = None
        for t, s in pairwise(marks):
            begin, end = (self.chart.clock(mark) for mark in (t, s))
            y = x / self.chart.scale(t)
            estimate = field.start(t, s, y)
            yield Step(t.t, x, field.calls, estimate)
            clocks = torch.tensor([begin, end], dtype=torch.float64, device=x.device)
            options: dict[str, Any] = {"norm": _largest, "step_t": clocks[1:], "first_step": first_step}
            if x.device.type == "mps":
                options["dtype"], clocks = torch.float32, clocks.float()
            try:
                y = odeint(field, y, clocks, rtol=self.rtol, atol=self.atol, method="dopri5", options=options)[1]
            except AssertionError as error:  # how torchdiffeq says that no step is small enough
                raise ValueError(
                    f"AdaptiveODE: no step meets the tolerance after {field.calls} network calls"
                ) from error
            x, first_step = y * self.chart.scale(s), field.last_step
        yield Step(marks[-1].t, x, field.calls, field.estimate)


class _Field:
    """dy/ds by the clock, with its network calls counted. The slope where an interval begins is known from its `Step`."""

    def __init__(self, denoiser: Denoiser, chart: Chart) -> None:
        self.calls, self.last_step = 0, 0.0
        self._denoiser, self._chart = denoiser, chart
        self._nearest = level(denoiser.path, float(denoiser.path.time(-2 * math.log(NEAREST))))
        self._ends: list[tuple[float, Level]] = []
        self._first: Tensor | None = None

    def start(self, begin: Level, end: Level, y: Tensor) -> Estimate:
        self._ends = sorted((self._chart.clock(at), at) for at in (begin, end))
        self._first = self._slope(begin, y)
        return self.estimate

    def __call__(self, clock: Tensor, y: Tensor) -> Tensor:
        if self._first is not None:
            slope, self._first = self._first, None
            return slope
        (low, lowest), (high, highest), at = *self._ends, float(clock.detach())
        if at <= low or at >= high:
            return self._slope(lowest if at <= low else highest, y)
        return self._slope(self._chart.level(self._denoiser.path, at), y)

    def callback_step(self, clock: Tensor, y: Tensor, step: Tensor) -> None:
        """torchdiffeq calls this with the size of each step it tries."""
        self.last_step = float(step.detach())

    def _slope(self, at: Level, y: Tensor) -> Tensor:
        at = at if at.sigma >= NEAREST * at.alpha else self._nearest
        self.estimate = self._denoiser(y * self._chart.scale(at), at.t)
        self.calls += 1
        weights = self._chart.slope(self._denoiser.path, at, _SYMBOLS).weights
        return weights.get(_CLEAN, 0.0) * self.estimate.clean + weights.get(_NOISE, 0.0) * self.estimate.noise


_CLEAN, _NOISE = (0, 0), (0, 1)
_SYMBOLS = FormPair(Form({_CLEAN: 1.0}), Form({_NOISE: 1.0}))


def _largest(y: Tensor) -> Tensor:
    """The largest of the samples' root mean squares. Step sizes follow from it, and they are constants for gradients."""
    return y.detach().flatten(1).square().mean(1).sqrt().max()


def _torchdiffeq() -> Any:
    return library("torchdiffeq", "AdaptiveODE")


LOOPS = (AdaptiveODE(),)
