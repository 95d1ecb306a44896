"""Improved precision and recall: how much of the samples is real-looking, and how much of the real data is reached."""

import torch
from torch import Tensor

from ornstein.metrics.distances import blocks, nearest
from ornstein.metrics.score import Score, need, proportion


def precision_recall(samples: Tensor, real: Tensor, k: int = 3) -> tuple[Score, Score]:
    """Precision: the part of samples within reach of a real item, whose reach is the distance to its k-th nearest other real
    item. Recall: the same with the roles exchanged. Kynkäänniemi et al. 2019, equations 1 and 2.

    Depends on both counts: compare at equal ones. The intervals hold for the given reaches.
    Raises UsageError below 100 items.
    """
    need(100, "Precision and recall", samples=len(samples), real=len(real))
    reach_x, reach_y = (nearest(side, k=k).distance[:, -1].square() for side in (samples, real))
    precise, recalled = [], torch.zeros(len(real), dtype=torch.bool)
    for rows, matrix in blocks(samples, real):
        precise.append((matrix <= reach_y).any(1))
        recalled |= (matrix <= reach_x[rows, None]).any(0)
    return proportion("precision", torch.cat(precise)), proportion("recall", recalled)
