"""Annealed Langevin dynamics (Song and Ermon 2019, "Generative modeling by estimating gradients of the data distribution")."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ornstein.denoiser import Denoiser
from ornstein.grid import log_snr
from ornstein.noise import NoiseSource
from ornstein.path import Path
from ornstein.solvers.langevin import Proportional, StepSize, chain
from ornstein.solvers.loop import falling
from ornstein.table import Step


@dataclass(frozen=True)
class AnnealedLangevin:
    """`corrections` Langevin steps at each level of the grid, from the noisiest down (algorithm 1).

    Levels even in log-SNR are the paper's geometric σ. Between levels x/α stays as it is, so that every path is the paper's
    α = 1; where no signal is left, x/σ does. At a last level without noise x becomes E[x | x_t] of the level before
    (Jolicoeur-Martineau et al. 2021, "Adversarial score matching", section 3). Network calls: corrections × levels with noise,
    and that one. The chain forgets what it was where corrections·k·σ² is above the data's variance, and is frozen below: that
    product sets the error (the paper has 100 steps of k = 0.1). Raises ValueError for corrections below 1, or a grid that
    rises. Source: Song and Ermon 2019.
    """

    corrections: int = 20
    size: StepSize = Proportional(0.5)
    order: ClassVar[int] = 0
    stochastic: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.corrections < 1:
            raise ValueError(f"AnnealedLangevin: corrections = {self.corrections} must be at least 1")

    def grid(self, path: Path, steps: int) -> Tensor:
        return log_snr(path, steps)

    def run(self, denoiser: Denoiser, x: Tensor, grid: Tensor, noise: NoiseSource) -> Iterator[Step]:
        path, times, calls = denoiser.path, falling(grid, "AnnealedLangevin"), 0
        clean_end = float(path.sigma(grid[-1])) == 0
        for t, scale in zip(times[:-1] if clean_end else times, _scales(path, grid), strict=False):
            end = yield from chain(denoiser, x * scale, t, self.corrections, self.size, noise, calls=calls)
            x, calls = end.x, end.calls
        estimate = end.estimate
        if clean_end:
            estimate, calls = denoiser(x, t), calls + 1
            yield Step(t, x, calls, estimate)
            x = path.levels(times[-1], x)[0] * estimate.clean
        yield Step(times[-1], x, calls, estimate)


def _scales(path: Path, grid: Tensor) -> list[float]:
    """α_s/α_t from each time t of a grid to the next, σ_s/σ_t where α_t = 0; 1 for the first."""
    alpha, sigma = path.alpha(grid), path.sigma(grid)
    ratios = torch.where(alpha[:-1] > 0, alpha[1:] / alpha[:-1], sigma[1:] / sigma[:-1])
    return [1.0, *ratios.tolist()]


LOOPS = (AnnealedLangevin(),)
