"""Charts: variables in which every Gaussian path is the same ODE dy/ds = (a fixed combination of clean and noise).

With y = x/scale, the curve of (α, σ) depends on σ/α alone, so a solver written in a chart behaves alike on every path.
Bounded charts have no infinite values at either end (zero SNR, zero noise).
"""

import math
from dataclasses import dataclass
from typing import Protocol

from ornstein.path import Path
from ornstein.table import Form, FormPair, Level, level


class Chart(Protocol):
    """A clock s and a scale with y = x/scale; `slope` is dy/ds; `level` inverts `clock`."""

    def clock(self, at: Level) -> float:
        """s at a level of the path."""
        ...

    def scale(self, at: Level) -> float:
        """What x is divided by to give y."""
        ...

    def slope(self, path: Path, at: Level, estimate: FormPair) -> Form:
        """dy/ds for an estimate, as a form on (clean, noise)."""
        ...

    def level(self, path: Path, clock: float) -> Level:
        """The level of the path at which the clock is s."""
        ...


@dataclass(frozen=True)
class PathTime:
    """s = t, y = x, dy/ds = α̇·clean + σ̇·noise: the path's own time; infinite where a derivative of the path is."""

    def clock(self, at: Level) -> float:
        return at.t

    def scale(self, at: Level) -> float:
        return 1.0

    def slope(self, path: Path, at: Level, estimate: FormPair) -> Form:
        d_alpha, d_sigma = at.slopes(path)
        return d_alpha * estimate.clean + d_sigma * estimate.noise

    def level(self, path: Path, clock: float) -> Level:
        return level(path, clock)


@dataclass(frozen=True)
class Scaled:
    """s = σ/α, y = x/α, dy/ds = noise (Song, Meng and Ermon 2021; Karras et al. 2022); infinite at zero SNR.

    Raises ValueError there.
    """

    def clock(self, at: Level) -> float:
        if at.alpha == 0:
            raise ValueError(
                f"chart.Scaled: σ/α is infinite at t = {at.t:g}, where no signal is left; "
                "use chart.Flow() or chart.Angle(), or a grid that begins below"
            )
        return at.sigma / at.alpha

    def scale(self, at: Level) -> float:
        return at.alpha

    def slope(self, path: Path, at: Level, estimate: FormPair) -> Form:
        return estimate.noise

    def level(self, path: Path, clock: float) -> Level:
        return _by_ratio(path, clock)


@dataclass(frozen=True)
class Flow:
    """s = σ/(α + σ), y = x/(α + σ), dy/ds = noise − clean: every path as the linear one; bounded."""

    def clock(self, at: Level) -> float:
        return at.sigma / (at.alpha + at.sigma)

    def scale(self, at: Level) -> float:
        return at.alpha + at.sigma

    def slope(self, path: Path, at: Level, estimate: FormPair) -> Form:
        return estimate.noise - estimate.clean

    def level(self, path: Path, clock: float) -> Level:
        return _by_ratio(path, clock / (1 - clock) if clock < 1 else math.inf)


@dataclass(frozen=True)
class Angle:
    """tan s = σ/α, y = x/√(α² + σ²), dy/ds = cos s·noise − sin s·clean: every path as the trigonometric one; bounded."""

    def clock(self, at: Level) -> float:
        return math.atan2(at.sigma, at.alpha)

    def scale(self, at: Level) -> float:
        return math.hypot(at.alpha, at.sigma)

    def slope(self, path: Path, at: Level, estimate: FormPair) -> Form:
        s = self.clock(at)
        return math.cos(s) * estimate.noise - math.sin(s) * estimate.clean

    def level(self, path: Path, clock: float) -> Level:
        return _by_ratio(path, math.tan(clock) if clock < math.pi / 2 else math.inf)


def _by_ratio(path: Path, ratio: float) -> Level:
    """The level where σ/α has a given value; 0 and infinity are the ends."""
    if ratio == 0:
        return level(path, 0.0)
    return level(path, float(path.time(-2 * math.log(ratio))))


ALL: tuple[Chart, ...] = (PathTime(), Scaled(), Flow(), Angle())
