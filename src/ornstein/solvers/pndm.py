"""Pseudo numerical methods: PNDM and PLMS (Liu et al. 2022, "Pseudo numerical methods for diffusion models on manifolds")."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ornstein.chart import PathTime
from ornstein.grid import uniform
from ornstein.path import Path
from ornstein.solvers.solver import TableSolver
from ornstein.table import Form, FormPair, Level, Recorder, Table

# Adams–Bashforth for even steps, by the number of estimates there are (equation 12).
ADAMS = {
    1: (1.0,),
    2: (3 / 2, -1 / 2),
    3: (23 / 12, -16 / 12, 5 / 12),
    4: (55 / 24, -59 / 24, 37 / 24, -9 / 24),
}


def transfer(estimate: FormPair, t: Level, s: Level, noise: Form) -> Form:
    """φ: DDIM's step from x_t to s with another noise in place of the estimate's (equation 11); DDIM's own at zero SNR."""
    if t.alpha == 0:
        return s.mix(estimate)
    return s.mix(estimate) + (s.sigma - s.alpha * t.sigma / t.alpha) * (noise - estimate.noise)


def adams(noises: list[Form]) -> Form:
    """The noise of a linear multistep, newest estimate first."""
    total = Form({})
    for weight, noise in zip(ADAMS[len(noises)], noises, strict=True):
        total = total + weight * noise
    return total


class _Pseudo(TableSolver):
    order: ClassVar[int] = 2

    def grid(self, path: Path, steps: int) -> Tensor:
        return uniform(path, steps)


@dataclass(frozen=True)
class PLMS(_Pseudo):
    """x_s = φ(x_t, ε', t, s) with ε' = 55/24·ε_i − 59/24·ε_{i−1} + 37/24·ε_{i−2} − 9/24·ε_{i−3}: pseudo linear multistep.

    φ is DDIM's step with the noise ε' (equation 11). One network call a step.

    The coefficients are those of even steps in t, and of order 2 whatever they add up to, because φ follows DDIM's curve
    only to that order. The first step is Heun's with φ, a second call at its end (as in latent diffusion's sampler), unless
    it begins at zero SNR or ends at zero noise; the next use as many estimates as there are. Source: Liu et al. 2022.
    """

    def table(self, path: Path, grid: Tensor) -> Table:
        record = Recorder(path, grid)
        x = record.start
        noises: list[Form] = []
        for t, s in record.steps:
            estimate = record.call(t, x)
            noises = [estimate.noise, *noises[:3]]
            if len(noises) == 1 and t.alpha > 0 and s.sigma > 0:
                ahead = record.call(s, s.mix(estimate))
                x = transfer(estimate, t, s, (estimate.noise + ahead.noise) / 2)
            else:
                x = transfer(estimate, t, s, adams(noises))
        return record.end(x)


@dataclass(frozen=True)
class PNDM(_Pseudo):
    """F-PNDM: three steps of the pseudo Runge–Kutta method (equation 13, four network calls each), then steps as `PLMS`.

    The stages lie at t, twice halfway in t, and at s, each reached by φ. A step from zero SNR or to zero noise is DDIM's.
    Raises ValueError for a negative warm_up. Source: Liu et al. 2022.
    """

    warm_up: int = 3

    def __post_init__(self) -> None:
        if self.warm_up < 0:
            raise ValueError(f"PNDM: warm_up = {self.warm_up} steps must not be negative")

    def table(self, path: Path, grid: Tensor) -> Table:
        record = Recorder(path, grid)
        x = record.start
        noises: list[Form] = []
        for i, (t, s) in enumerate(record.steps):
            estimate = record.call(t, x)
            noises = [estimate.noise, *noises[:3]]
            warm = i < self.warm_up and t.alpha > 0 and s.sigma > 0
            x = transfer(estimate, t, s, self._stages(record, estimate, t, s) if warm else adams(noises))
        return record.end(x)

    def _stages(self, record: Recorder, first: FormPair, t: Level, s: Level) -> Form:
        middle = PathTime().level(record.path, (t.t + s.t) / 2)
        second = record.call(middle, middle.mix(first)).noise
        third = record.call(middle, transfer(first, t, middle, second)).noise
        fourth = record.call(s, transfer(first, t, s, third)).noise
        return (first.noise + 2 * second + 2 * third + fourth) / 6


ALL = (PLMS(), PNDM())
