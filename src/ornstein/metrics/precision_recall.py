"""Improved precision and recall: how much of the samples is real-looking, and how much of the real data is reached."""

import torch
from torch import Tensor

from ornstein.metrics.distances import blocks, nearest
from ornstein.metrics.metric import TwoSample
from ornstein.metrics.score import Score, proportion, spread, usable


def precision_recall(samples: Tensor, real: Tensor, k: int = 3) -> tuple[Score, Score]:
    """Precision and recall of samples (N, D) by balls around items (M, D) (Kynkäänniemi et al. 2019, equations 1 and 2).

    The radius of an item's ball is the distance to its k-th nearest other of its own set. Precision: the part of samples in the
    ball of a real item. Recall: the part of real items in the ball of a sample. Both depend on both counts: compare at
    equal ones. The intervals are for new draws of both sets, radii included.
    Raises UsageError below 100 items, and for items that cannot be compared.
    """
    usable(100, "Precision and recall", samples=samples, real=real)
    variances, means = spread(
        lambda x, y: torch.stack([hits.double().mean() for hits in _hits(x, y, k)]), samples, real
    )
    precise, recalled = _hits(samples, real, k)
    return (
        proportion("precision", precise, (variances[0], means[0])),
        proportion("recall", recalled, (variances[1], means[1])),
    )


def _hits(samples: Tensor, real: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Samples within the radius of a real item, and real items within the radius of a sample, as booleans."""
    reach_x, reach_y = (nearest(side, k=k).distance[:, -1].square() for side in (samples, real))
    precise, recalled = [], torch.zeros(len(real), dtype=torch.bool, device=real.device)
    for rows, matrix in blocks(samples, real):
        precise.append((matrix <= reach_y).any(1))
        recalled |= (matrix <= reach_x[rows, None]).any(0)
    return torch.cat(precise), recalled


METRICS = (TwoSample("precision-recall", place=30, function=precision_recall),)
