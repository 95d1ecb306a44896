"""Sliced Wasserstein distance."""

from collections.abc import Iterator

import torch
from torch import Tensor

from ornstein.metrics.metric import NUMERIC, TwoSample
from ornstein.metrics.score import Null, Score, distance, usable

TOGETHER = 32  # directions
EXCHANGED, ITEMS = 40, 1000  # random exchanges of both sides, of so many items of each, tell what is left at the null


def sliced_wasserstein(samples: Tensor, real: Tensor, slices: int = 256, seed: int = 0) -> Score:
    """The Wasserstein-1 distance between projections on random directions, averaged. x (N, D), y (M, D).

    Exact on each direction: ∫|F − G|. Bonneel et al. 2015, section 2.3. Biased upwards by about 1/√N: compare at equal counts.
    The influence of an item is the Kantorovich potential at its place, the integral of sign(F − G) up to it. At the null, where
    these signs are chance, mean and variance are those of the distance between random parts of both sides together, which fall
    as √(1/n + 1/m) and its square; elsewhere 1 − (null mean/value)² of the difference is added.
    Raises UsageError below 100 items, and for items that cannot be compared.
    """
    usable(100, "A sliced Wasserstein distance", samples=samples, real=real)
    n, m = len(samples), len(real)
    generator = torch.Generator().manual_seed(seed)
    directions = torch.randn(samples[0].numel(), slices, generator=generator).to(samples)
    directions /= directions.norm(dim=0)
    value, first = _distance(samples.flatten(1), real.flatten(1), directions)
    fewer = [side.flatten(1)[torch.arange(k := min(ITEMS, len(side))) * len(side) // k] for side in (samples, real)]
    by_chance = torch.tensor(_exchanged(fewer[0], fewer[1], directions, generator), dtype=torch.float64)
    ratio = (1 / n + 1 / m) / (1 / len(fewer[0]) + 1 / len(fewer[1]))
    null, noise = float(by_chance.mean()) * ratio**0.5, min(float(by_chance.var()) * ratio, first)
    apart = max(1 - (null / value) ** 2, 0.0) if value > 0 else 0.0
    error = 2 * null * (noise / EXCHANGED) ** 0.5
    # its square behaves as a squared distance does
    at_null, here = 4 * null**2 * noise, 4 * value**2 * (noise + (first - noise) * apart)
    square = distance("", value**2, Null(null**2, at_null, null**2, error), max(here - at_null, 0.0))
    return Score("sliced Wasserstein", value, min(value, max(square.low, 0.0) ** 0.5), max(value, square.high**0.5))


def _distance(x: Tensor, y: Tensor, directions: Tensor) -> tuple[float, float]:
    """The distance and its first-order variance."""
    n, m = len(x), len(y)
    total, potential = 0.0, torch.zeros(n + m, dtype=torch.float64, device=x.device)
    for order, gaps in _sorted(x, y, directions):
        ahead = torch.where(order < n, m, -n).cumsum(0)[:-1]  # (F − G)·nm, whole numbers
        total += float((ahead.abs() * gaps).sum()) / (n * m)
        rise = torch.cat([torch.zeros_like(gaps[:1]), (ahead.sign() * gaps).cumsum(0)])
        potential.scatter_add_(0, order.flatten(), rise.flatten())
    slices = directions.shape[1]
    potential /= slices
    return total / slices, float(potential[:n].var() / n + potential[n:].var() / m)


def _exchanged(x: Tensor, y: Tensor, directions: Tensor, generator: torch.Generator) -> list[float]:
    """Distances where chance decides which items are samples."""
    n, m = len(x), len(y)
    choices = [torch.randperm(n + m, generator=generator).to(x.device) < n for _ in range(EXCHANGED)]
    totals = [0.0] * EXCHANGED
    for order, gaps in _sorted(x, y, directions):
        for i, chosen in enumerate(choices):
            ahead = torch.where(chosen[order], m, -n).cumsum(0)[:-1]
            totals[i] += float((ahead.abs() * gaps).sum()) / (n * m)
    return [total / directions.shape[1] for total in totals]


def _sorted(x: Tensor, y: Tensor, directions: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """The order of all items along some directions, and the gaps between them."""
    pooled = torch.cat([x, y])
    for part in directions.split(TOGETHER, 1):
        values, order = (pooled @ part).sort(0)
        yield order, values.diff(dim=0).double()


METRICS = (TwoSample("sliced-wasserstein", place=50, kinds=NUMERIC, function=sliced_wasserstein),)
