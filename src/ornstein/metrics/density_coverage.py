"""Density and coverage: precision and recall without their weakness to outliers."""

import torch
from torch import Tensor

from ornstein.metrics.distances import blocks, nearest
from ornstein.metrics.score import Score, need, proportion, smooth


def density_coverage(samples: Tensor, real: Tensor, k: int = 5) -> tuple[Score, Score]:
    """Density: how many reaches of real items a sample lies in, over k; 1 on average for the real distribution, unbounded.
    Coverage: the part of real items with a sample within reach. Naeem et al. 2020, equations 2 and 3.

    The reach of a real item is the distance to its k-th nearest other. The intervals hold for the given reaches.
    Raises UsageError below 100 items.
    """
    need(100, "Density and coverage", samples=len(samples), real=len(real))
    reach = nearest(real, k=k).distance[:, -1].square()
    counts, covered = [], torch.zeros(len(real), dtype=torch.bool)
    for _, matrix in blocks(samples, real):
        within = matrix <= reach
        counts.append(within.sum(1))
        covered |= within.any(0)
    density = torch.cat(counts).double() / k
    return smooth("density", float(density.mean()), density), proportion("coverage", covered)
