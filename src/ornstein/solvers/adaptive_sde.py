"""The reverse SDE with step sizes chosen for each sample (Jolicoeur-Martineau et al. 2021, "Gotta go fast", algorithm 1)."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ornstein.denoiser import Denoiser
from ornstein.device import precise
from ornstein.noise import NoiseSource
from ornstein.path import Path, align
from ornstein.solvers.loop import falling
from ornstein.table import Step

LAST = 12.0  # log-SNR of the last level where steps are chosen: σ/α = 0.0025, below the steps of 8-bit data
CELL, FIRST = 2e-4, 0.05  # the smallest and the first step in the angle arctan(σ/α)
REACH = 0.15  # of the angle that is left is the longest step: a longer one passes by structure that is narrow there
SAFETY, GAIN, SHRINK, GROW = 0.9, 1 / 3, 0.5, 1.3  # the next step is this one times 0.9·E^(−1/3), within bounds


@dataclass(frozen=True)
class AdaptiveSDE:
    """Ancestral steps from t to s with the estimate at t (x'), then with the mean of those at t and s (x''), on the same noise.

    x'' is kept, and E² is the mean over a sample's elements of ((x'' − x')/max(atol, rtol·max(|x|, |x'|)))². Its next step
    in the angle arctan(σ/α) is this one times 0.9·E^(−1/3), between 1/2 and 1.3, so that E stays near 1: half of what an
    error of order 3/2 would allow, since with few elements E is mostly chance. No step is longer than 15 % of the angle: far
    above the deviation of narrow data the estimate is constant and E = 0, and a step that only grows would pass over them.
    Unlike the paper no step is taken back. A try refused for its error is refused for its noise, and what remains has too
    little of it (with this pair, a seventh of the variance of a 1-D Gaussian was left); a size known before the noise has no
    such error. The posterior takes the place of the paper's Euler–Maruyama step: exact in the linear part, finite at both
    ends. Each sample has its own times, asks for its noise with them, and waits for the others at the times of the grid,
    which are met exactly and yield a `Step`; by default they are the ends, whatever `steps` is. At σ/α = 0.0025 one step goes
    to clean data. Two network calls a step, of the whole batch.
    Raises ValueError for a tolerance that is not positive, or a grid that rises. Source: Jolicoeur-Martineau et al. 2021,
    "Gotta go fast", algorithm 1.
    """

    rtol: float = 0.01
    atol: float = 0.005
    order: ClassVar[int] = 0
    stochastic: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not (self.rtol > 0 and self.atol > 0):
            raise ValueError(f"AdaptiveSDE: rtol = {self.rtol} and atol = {self.atol} must be positive")

    def grid(self, path: Path, steps: int) -> Tensor:
        return torch.tensor([1.0, 0.0], dtype=torch.float64)

    def run(self, denoiser: Denoiser, x: Tensor, grid: Tensor, noise: NoiseSource) -> Iterator[Step]:
        path, marks = denoiser.path, falling(grid, "AdaptiveSDE")
        clean_end = float(path.sigma(grid[-1])) == 0
        stops = marks[1:-1] if clean_end else marks[1:]
        if clean_end and marks[-2] > (last := float(path.time(LAST))):
            stops = [*stops, last]
        step, mark, calls = torch.full((len(x),), FIRST, dtype=torch.float64), marks[0], 0
        for stop in stops:
            times = _between(path, mark, stop)
            angles = torch.atan2(path.sigma(times), path.alpha(times))
            at, end, begun = torch.zeros(len(x), dtype=torch.long), len(times) - 1, False
            while bool((moving := at < end).any()):
                cells = (step.minimum(REACH * angles[at]) / CELL).round().clamp(min=1).long()
                to = (at + cells).clamp(max=end)
                t, s = times[at], times[to]
                estimate = denoiser(x, _on(t, x))
                if not begun:
                    yield Step(mark, x, calls + 1, estimate)
                    begun = True
                on_x, on_clean, std = (align(_on(value, x), x) for value in path.posterior(s, t))
                rest = on_x * x + std * noise(x, t, s)
                low = rest + on_clean * estimate.clean
                ahead, calls = denoiser(low, _on(s, x)), calls + 2
                high = rest + on_clean * ((estimate.clean + ahead.clean) / 2)
                factor = SAFETY * self._error(x, low, high) ** -GAIN
                factor = factor.nan_to_num(nan=GROW, posinf=GROW).clamp(SHRINK, GROW)  # nothing mends what is no number
                step = torch.where(moving, step * factor, step).clamp(CELL, math.pi / 2)
                x, at = torch.where(align(_on(moving, x), x) > 0, high, x), to
            mark = stop
        if clean_end:
            estimate, calls = denoiser(x, mark), calls + 1
            yield Step(mark, x, calls, estimate)
            x = path.levels(marks[-1], x)[0] * estimate.clean
        yield Step(marks[-1], x, calls, estimate)

    def _error(self, x: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """E of each sample, (B,) float64 on the CPU."""
        allowed = (self.rtol * torch.maximum(x.abs(), low.abs())).clamp(min=self.atol)
        return ((high - low) / allowed).detach().flatten(1).square().mean(1).sqrt().to("cpu", torch.float64)


def _between(path: Path, mark: float, stop: float) -> Tensor:
    """Times from `mark` down to `stop`, in float64, about CELL apart in the angle arctan(σ/α).

    All steps are whole numbers of these, so that the rounding of an error does not move a time, whose bits seed the noise.
    """
    ends = torch.tensor([mark, stop], dtype=torch.float64)
    first, last = torch.atan2(path.sigma(ends), path.alpha(ends)).tolist()
    angles = torch.linspace(first, last, max(2, math.ceil((first - last) / CELL) + 1), dtype=torch.float64)
    return torch.cat([ends[:1], path.time(-2 * angles[1:-1].tan().log()), ends[1:]])


def _on(values: Tensor, x: Tensor) -> Tensor:
    """Values (B,) where x is; Apple's devices have no float64."""
    return values.to(x.device, precise(x.device))


LOOPS = (AdaptiveSDE(),)
