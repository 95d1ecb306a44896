"""Grids: decreasing times from the noise towards the data, (steps + 1,) in float64, made by a function or by hand.

The last time is exactly 0 for every number of steps, so no noise is left in a sample. Networks on a β-table of T levels are
trained at t ≥ 1/T: the times before the last stay there (`path.Betas.lowest`).
Every grid raises ValueError for fewer than one step.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ornstein.path import Betas, Path


def explicit(times: Tensor | Sequence[float]) -> Tensor:
    """Times (steps + 1,) given by hand, checked: at least two, finite, in [0, 1], strictly decreasing (increasing to encode).

    Raises ValueError that names the first offending time.
    """
    grid = torch.as_tensor(times, dtype=torch.float64).detach().cpu()
    if grid.ndim != 1 or len(grid) < 2:
        raise ValueError(f"a grid is a 1-D tensor of at least two times, not of shape {tuple(grid.shape)}")
    outside = ~((grid >= 0) & (grid <= 1))
    if outside.any():
        i = int(outside.nonzero()[0, 0])
        raise ValueError(f"grid[{i}] = {grid[i].item():g} lies outside [0, 1] (t = 0 is data, t = 1 noise)")
    gaps = grid.diff()
    if not ((gaps < 0).all() or (gaps > 0).all()):
        i = int((gaps * gaps[0] <= 0).nonzero()[0, 0])
        raise ValueError(
            f"grid[{i}] = {grid[i].item():g} is followed by {grid[i + 1].item():g}: a grid falls strictly from noise "
            "to data (or rises strictly, to encode)"
        )
    return grid


def _units(steps: int) -> Tensor:
    if steps < 1:
        raise ValueError(f"steps = {steps}: a grid has at least one step")
    return torch.arange(steps, -1, -1, dtype=torch.float64) / steps


def _times(path: Path, ratio: Tensor) -> Tensor:
    """The times where σ/α has the given values."""
    return path.time(-2 * ratio.log())


def uniform(path: Path, steps: int) -> Tensor:
    """Evenly spaced in the path's own time: t = 1, 1 − 1/N, ..., 0.

    >>> from ornstein import grid, path
    >>> grid.uniform(path.Linear(), 4)
    tensor([1.0000, 0.7500, 0.5000, 0.2500, 0.0000], dtype=torch.float64)
    """
    return _units(steps)


def lowest(path: Path) -> float:
    """The smallest time at which grids make a call: `lowest` of a β-table, else 0."""
    return path.lowest if isinstance(path, Betas) else 0.0


def polynomial(path: Path, steps: int, power: float = 1.5) -> Tensor:
    """s = s_0 + (s_1 − s_0)·u^power in the linear chart s = σ/(α + σ), u even: the same noise levels on every path."""
    return _between(path, _units(steps) ** power)


def two_ended(path: Path, steps: int, data: float = 1.3, noise: float = 1.1) -> Tensor:
    """s = s_0 + (s_1 − s_0)·u^data/(u^data + (1 − u)^noise) in the linear chart s = σ/(α + σ), u even.

    Where s goes from 0 to 1, σ/α = u^data/(1 − u)^noise: with equal exponents, log(σ/α) takes even quantiles of a
    logistic distribution. Exponents above 1 make the steps small at that end; `data` acts at clean data, `noise` at pure noise.
    """
    units = _units(steps)
    rise, fall = units**data, (1 - units) ** noise
    return _between(path, rise / (rise + fall))


def _between(path: Path, parts: Tensor) -> Tensor:
    """The times at parts (1 to 0) of the way from the path's data end to its noise end, in s = σ/(α + σ).

    Where the smallest before the last would lie below `lowest`, all are drawn towards the noise until it is there.
    """
    ends = torch.tensor([0.0, 1.0], dtype=torch.float64)
    s0, s1 = path.sigma(ends) / (path.alpha(ends) + path.sigma(ends))
    s = s0 + (s1 - s0) * parts[1:-1]
    times = _times(path, s / (1 - s))
    floor = lowest(path)
    if len(times) and times[-1] < floor:
        least = torch.tensor(floor, dtype=torch.float64)
        bottom = path.sigma(least) / (path.alpha(least) + path.sigma(least))
        s = s1 - (s1 - s) * ((s1 - bottom) / (s1 - s[-1]))
        times = torch.cat([_times(path, s[:-1] / (1 - s[:-1])), least[None]])
    return torch.cat([ends[1:], times, ends[:1]])


def log_snr(path: Path, steps: int, smallest: float = -10.0, largest: float | None = None) -> Tensor:
    """Evenly spaced in λ = log(α²/σ²) from `smallest` to `largest`, then 0. Bounds outside the path move to its ends.

    `largest` None: 10, or that of `lowest(path)` where it is less.
    """
    low, high, units = _span(path, steps, smallest, _largest(path, 10.0) if largest is None else largest)
    return _closed(path, high + (low - high) * units, steps)


def karras(path: Path, steps: int, rho: float = 7.0, sigma_min: float | None = None, sigma_max: float = 80.0) -> Tensor:
    """(σ/α)^{1/ρ} evenly spaced from sigma_max to sigma_min, then 0 (Karras et al. 2022, equation 5).

    Bounds outside the path move to its ends. `sigma_min` None: 0.002, or σ/α of `lowest(path)` where it is more.
    """
    least = _largest(path, -2 * math.log(0.002)) if sigma_min is None else -2 * math.log(sigma_min)
    low, high, units = _span(path, steps, -2 * math.log(sigma_max), least)
    first, last = math.exp(-low / (2 * rho)), math.exp(-high / (2 * rho))
    return _closed(path, -2 * rho * (last + (first - last) * units).log(), steps)


def _largest(path: Path, usual: float) -> float:
    """The usual largest λ, or that of the path's lowest trained time where it is less."""
    return min(usual, float(path.log_snr(lowest(path)))) if lowest(path) else usual


def _span(path: Path, steps: int, smallest: float, largest: float) -> tuple[float, float, Tensor]:
    """The bounds in λ, within the path's own, and even units from 1 to 0 for the times before the final 0."""
    units = _units(steps)
    ends = torch.tensor([0.0, 1.0], dtype=torch.float64)
    at_data, at_noise = (2 * (path.alpha(ends).log() - path.sigma(ends).log())).tolist()
    if largest < at_data:  # the final step to t = 0 is one of the steps
        units = torch.linspace(1, 0, steps, dtype=torch.float64)
    return max(at_noise, smallest), min(at_data, largest), units


def _closed(path: Path, levels: Tensor, steps: int) -> Tensor:
    """Times of the given λ, ended by exactly 0."""
    return torch.cat([path.time(levels[:steps]), torch.zeros(1, dtype=torch.float64)])


def _discrete_steps(path: Path) -> int:
    return path.steps if isinstance(path, Betas) else 1000


def trailing(path: Path, steps: int) -> Tensor:
    """Whole steps i of T counted down from T, t = i/T (Lin et al. 2024, table 2); T = 1000 where the path has no table.

    Raises ValueError for more steps than T.
    """
    total = _few_enough(path, steps)
    return (_units(steps) * total).round() / total


def leading(path: Path, steps: int) -> Tensor:
    """Whole steps 1, 1 + T//N, ... counted up from the data (Ho et al. 2020; Song et al. 2021, DDIM), then 0.

    The first time is below 1, and the start is drawn for it. Raises ValueError for more steps than T.
    """
    total = _few_enough(path, steps)
    inner = 1 + torch.arange(steps - 1, -1, -1, dtype=torch.float64) * (total // steps)
    return torch.cat([inner / total, torch.zeros(1, dtype=torch.float64)])


def _few_enough(path: Path, steps: int) -> int:
    _units(steps)
    total = _discrete_steps(path)
    if steps > total:
        raise ValueError(f"steps = {steps}: a table of {total} β has at most {total} steps")
    return total


ALL = (uniform, polynomial, two_ended, log_snr, karras, trailing, leading)
