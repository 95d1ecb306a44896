"""Ancestral sampling with learned variances (Nichol and Dhariwal 2021, section 3.1)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ornstein.denoiser import Denoiser
from ornstein.grid import polynomial
from ornstein.noise import NoiseSource, of_row
from ornstein.path import Path
from ornstein.solvers.loop import falling
from ornstein.table import Step
from ornstein.variance import estimated


@dataclass(frozen=True)
class LearnedAncestral:
    """`Ancestral` with the learned variance of the model, for each number of x: Σ = β̃·(σ_t/σ_s)^{2v}; see `ornstein.variance`.

    A step to a level without noise adds none. Guidance moves the mean alone; v is that of the model with its condition, which
    costs a guided model a call more. Raises ValueError for a model that has learned no variances, or a grid that rises. Source:
    Nichol and Dhariwal 2021, section 3.1.
    """

    order: ClassVar[int] = 1
    stochastic: ClassVar[bool] = True

    def grid(self, path: Path, steps: int) -> Tensor:
        return polynomial(path, steps)

    def run(self, denoiser: Denoiser, x: Tensor, grid: Tensor, noise: NoiseSource) -> Iterator[Step]:
        path, times = denoiser.path, falling(grid, "LearnedAncestral")
        kernels = torch.stack(path.posterior(grid[1:], grid[:-1]), -1).tolist()
        sigmas = path.sigma(grid)
        gaps = (sigmas[:-1] / sigmas[1:]).log().tolist()
        for i, ((on_x_t, on_clean, std), gap) in enumerate(zip(kernels, gaps, strict=True)):
            t, s = times[i], times[i + 1]
            estimate, v = estimated(denoiser, x, t)
            yield Step(t, x, i + 1, estimate, None, i)
            x = on_x_t * x + on_clean * estimate.clean
            if std > 0:
                x = x + of_row(noise, i, x, t, s) * (std * torch.exp(v * gap))
        yield Step(times[-1], x, len(kernels), estimate, None, len(kernels) - 1)
