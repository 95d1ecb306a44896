"""Density and coverage: precision and recall without their weakness to outliers."""

import torch
from torch import Tensor

from ornstein.metrics.distances import blocks, nearest
from ornstein.metrics.metric import TwoSample
from ornstein.metrics.score import Score, proportion, spread, usable, varied


def density_coverage(samples: Tensor, real: Tensor, k: int = 5) -> tuple[Score, Score]:
    """Density and coverage of samples (N, D) by balls around real items (M, D) (Naeem et al. 2020, equations 2 and 3).

    The radius of a real item's ball is the distance to its k-th nearest other real item. Density: the mean number of balls that a
    sample lies in, over k; 1 for the real distribution, unbounded. Coverage: the part of real items with a sample in their ball.
    The intervals are for new draws of both sets, radii included.
    Raises UsageError below 100 items, and for items that cannot be compared.
    """
    usable(100, "Density and coverage", samples=samples, real=real)
    variances, means = spread(
        lambda x, y: torch.stack([each.double().mean() for each in _reached(x, y, k)]), samples, real
    )
    density, covered = _reached(samples, real, k)
    return (
        varied("density", float(density.mean()), float(variances[0])),
        proportion("coverage", covered, (variances[1], means[1])),
    )


def _reached(samples: Tensor, real: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """How many reaches each sample lies in, over k, and which real items have a sample within reach."""
    reach = nearest(real, k=k).distance[:, -1].square()
    counts, covered = [], torch.zeros(len(real), dtype=torch.bool, device=real.device)
    for _, matrix in blocks(samples, real):
        within = matrix <= reach
        counts.append(within.sum(1))
        covered |= within.any(0)
    return torch.cat(counts).double() / k, covered


METRICS = (TwoSample("density-coverage", place=40, function=density_coverage),)
