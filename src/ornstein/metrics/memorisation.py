"""The nearest-training-neighbour test: are samples nearer to the training data than fresh data are?"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ornstein.metrics.distances import Nearest, nearest
from ornstein.metrics.score import Score, need, smooth

NEAR = 0.01  # of fresh real items are nearer to a training item than what counts as near


@dataclass(frozen=True, eq=False)
class Memorisation:
    """The scores, and the samples nearest to a training item, the nearest first: places in the samples and in the data."""

    scores: tuple[Score, ...]
    samples: Tensor
    training: Tensor


def memorisation(samples: Tensor, training: Tensor, fresh: Tensor | None = None, pairs: int = 16) -> Memorisation:
    """Distances of samples (N, D) to their nearest training item (T, D), beside those of fresh real items (M, D).

    Without fresh items, beside the distance of training items to each other (each to the nearest other), of as many as there are
    samples. Three scores: how often a sample is nearer than a fresh item (0.5: like fresh data, 1: copies; the Mann–Whitney
    statistic of Meehan et al. 2020, section 3); the part of samples nearer than 99 % of fresh items are (0.01: like fresh data);
    and the ratio of the medians of both distances. Raises UsageError below 100 items.
    """
    need(100, "The nearest-neighbour test", samples=len(samples), training=len(training))
    found = nearest(samples, training)
    if fresh is None:
        count = min(len(samples), len(training))
        held = _leave_one_out(training, torch.arange(count) * len(training) // count)
    else:
        need(100, "The nearest-neighbour test", fresh=len(fresh))
        held = nearest(fresh, training).distance[:, 0]
    ours = found.distance[:, 0]
    order = ours.argsort()[:pairs]
    scores = (_nearer(ours, held), _copies(ours, held), _ratio(ours, held))
    return Memorisation(scores, order, found.place[order, 0])


def _leave_one_out(training: Tensor, rows: Tensor) -> Tensor:
    """The distance of these training items to the nearest other."""
    found: Nearest = nearest(training[rows], training, k=2)
    return torch.where(found.place[:, 0] == rows, found.distance[:, 1], found.distance[:, 0])


def _nearer(ours: Tensor, held: Tensor) -> Score:
    """P(ours < held) + ½P(ours = held), whose influences are the two placement functions (DeLong et al. 1988)."""
    above = [_below(-held, -ours), _below(ours, held)]
    return smooth("nearer than fresh data", float(above[0].mean()), *above)


def _copies(ours: Tensor, held: Tensor) -> Score:
    """P(ours < the 1 % quantile of held); that quantile is uncertain too, by the part of the held items that lie below it."""
    near = held.quantile(NEAR)
    hits = (ours < near).double()
    found = smooth("near copies", float(hits.mean()), hits, (held < near).double())
    return replace(found, low=max(0.0, found.low), high=min(1.0, found.high))


def _below(values: Tensor, at: Tensor) -> Tensor:
    """The part of `values` below each of `at`, ties counted half."""
    ordered = values.sort().values
    right = torch.searchsorted(ordered, at.contiguous(), side="right").double()
    left = torch.searchsorted(ordered, at.contiguous(), side="left").double()
    return (left + right) / (2 * len(values))


def _ratio(ours: Tensor, held: Tensor, repeats: int = 500) -> Score:
    """median(ours)/median(held) with a bootstrap interval: a median has no smooth influence."""
    generator = torch.Generator().manual_seed(0)

    def medians(x: Tensor) -> Tensor:
        return torch.stack([x[torch.randint(len(x), (len(x),), generator=generator)].median() for _ in range(repeats)])

    tiny = held.new_tensor(torch.finfo(held.dtype).tiny)
    low, high = (medians(ours) / medians(held).maximum(tiny)).quantile(torch.tensor([0.025, 0.975])).tolist()
    return Score("distance ratio", float(ours.median() / held.median().maximum(tiny)), low, high)
