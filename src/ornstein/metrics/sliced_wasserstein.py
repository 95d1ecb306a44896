"""Sliced Wasserstein distance."""

import torch
from torch import Tensor

from ornstein.metrics.score import Score, smooth, usable

TOGETHER = 32  # directions


def sliced_wasserstein(samples: Tensor, real: Tensor, slices: int = 256, seed: int = 0) -> Score:
    """The Wasserstein-1 distance between projections on random directions, averaged. x (N, D), y (M, D).

    Exact on each direction: ∫|F − G|. Bonneel et al. 2015, section 2.3. Biased upwards by about 1/√N: compare at equal counts.
    The influence of an item is the Kantorovich potential at its place, the integral of sign(F − G) up to it.
    Raises UsageError below 100 items, and for items that cannot be compared.
    """
    usable(100, "A sliced Wasserstein distance", samples=samples, real=real)
    n, m = len(samples), len(real)
    pooled = torch.cat([samples, real]).flatten(1)
    directions = torch.randn(pooled.shape[1], slices, generator=torch.Generator().manual_seed(seed)).to(pooled)
    directions /= directions.norm(dim=0)
    total, potential = 0.0, torch.zeros(n + m, dtype=torch.float64, device=pooled.device)
    for part in directions.split(TOGETHER, 1):
        values, order = (pooled @ part).sort(0)
        gaps = values.diff(dim=0).double()
        ahead = torch.where(order < n, m, -n).cumsum(0)[:-1]  # (F − G)·nm, whole numbers
        total += float((ahead.abs() * gaps).sum()) / (n * m)
        rise = torch.cat([torch.zeros_like(gaps[:1]), (ahead.sign() * gaps).cumsum(0)])
        potential.scatter_add_(0, order.flatten(), rise.flatten())
    potential /= slices
    return smooth("sliced Wasserstein", total / slices, potential[:n], potential[n:])
