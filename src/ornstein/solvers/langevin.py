"""Langevin steps with the score of one noise level, dx = ∇log p_t dτ + √2 dw, and how large they are.

One unadjusted step is x + h·∇log p_t + √(2h)·z (Roberts and Tweedie 1996, equation 2). With ∇log p_t = −noise/σ and h = k·σ²,

    x ← x − k·σ·noise + σ·√(2k)·z,

which divides by nothing. It leaves p_t as it is up to an error of the step's size; it does not climb to where p_t is larger.
k = 1 is the largest step that cannot overshoot, whatever the data: −∇²log p_t ≤ I/σ² on every path.
"""

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from ornstein.denoiser import Denoiser
from ornstein.noise import NoiseSource, repeat
from ornstein.path import Path
from ornstein.table import Step


class StepSize(Protocol):
    """k = h/σ² of a Langevin step, from the estimated noise and the fresh noise z, both (B, ...), for each row: (B, 1, ...)."""

    def __call__(self, noise: Tensor, z: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Proportional:
    """k = factor for every row: h = factor·σ² (Song and Ermon 2019, section 4.2; there α = 2h, and 0.1 in its experiments).

    On N(m, V) the chain's own variance is V/(1 − kσ²/2V). Raises ValueError for a factor outside (0, 1].
    """

    factor: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.factor <= 1:
            raise ValueError(f"Proportional: factor = {self.factor} must lie in (0, 1]; a larger step may overshoot")

    def __call__(self, noise: Tensor, z: Tensor) -> Tensor:
        return torch.full_like(z[(slice(None), *[slice(0, 1)] * (z.ndim - 1))], self.factor)


@dataclass(frozen=True)
class SignalToNoise:
    """h = 2(r‖z‖/‖∇log p_t‖)², so k = 2(r‖z‖/‖noise‖)², with the norms of each row by itself (Song et al. 2021, appendix G).

    The paper takes norms averaged over the batch, which would make a sample depend on its neighbours. Two norms of D numbers
    agree to 1/√D, so their ratio is what the paper means in many dimensions; in few it has heavy tails, and a step tied to x
    and z moves p_t by a part of order 1/D, where `Proportional` has no such error. k is never above `largest`.
    Raises ValueError for a ratio or a bound that is not positive.
    """

    ratio: float = 0.16
    largest: float = 1.0

    def __post_init__(self) -> None:
        if not (self.ratio > 0 and self.largest > 0):
            raise ValueError(f"SignalToNoise: ratio = {self.ratio} and largest = {self.largest} must be positive")

    def __call__(self, noise: Tensor, z: Tensor) -> Tensor:
        return (2 * (self.ratio * _norm(z) / _norm(noise)) ** 2).nan_to_num(nan=self.largest).clamp(max=self.largest)


def _norm(x: Tensor) -> Tensor:
    """The norm of each row, (B, 1, ...)."""
    return torch.linalg.vector_norm(x.flatten(1), dim=1).reshape(-1, *[1] * (x.ndim - 1))


def chain(
    denoiser: Denoiser,
    x: Tensor,
    t: float,
    steps: int,
    size: StepSize,
    noise: NoiseSource,
    factor: float = 1.0,
    calls: int = 0,
) -> Generator[Step, None, Step]:
    """Langevin steps from x at level t, after so many calls: yields the network call of each, returns one with the result.

    The i-th draws its z from `repeat(noise, i)` at (t, t); `factor` multiplies h.
    """
    sigma = denoiser.path.levels(t, x)[1]
    for i in range(1, steps + 1):
        estimate = denoiser(x, t)
        yield Step(t, x, calls + i, estimate)
        z = repeat(noise, i)(x, t, t)
        k = factor * size(estimate.noise, z)
        x = x - k * sigma * estimate.noise + (2 * k).sqrt() * sigma * z
    return Step(t, x, calls + steps, estimate)


@dataclass(frozen=True)
class Langevin:
    """x ← x + h·∇log p_t + √(2h)·z, unadjusted Langevin dynamics at the fixed level t: one step for each of `steps`.

    It draws from p_t, the data with noise of this level, and does not go to the data. Its grid is the level, again and again.
    Raises ValueError for a t without noise, or a grid of other times. Source: Roberts and Tweedie 1996, equation 2.
    """

    t: float = 0.1
    size: StepSize = Proportional()
    order: ClassVar[int] = 0
    stochastic: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 <= self.t <= 1:
            raise ValueError(f"Langevin: t = {self.t} must lie in [0, 1]")

    def grid(self, path: Path, steps: int) -> Tensor:
        return torch.full((steps + 1,), self.t, dtype=torch.float64)

    def run(self, denoiser: Denoiser, x: Tensor, grid: Tensor, noise: NoiseSource) -> Iterator[Step]:
        if bool((grid != self.t).any()):
            raise ValueError(
                f"Langevin stays at t = {self.t:g}: give steps instead of a grid, or use AnnealedLangevin()"
            )
        if not float(denoiser.path.sigma(grid[0])) > 0:
            raise ValueError(
                f"Langevin: {denoiser.path} has no noise at t = {self.t:g}, and so no score; use a larger t"
            )
        yield (yield from chain(denoiser, x, self.t, len(grid) - 1, self.size, noise))
