"""The nearest-training-neighbour test: are samples nearer to the training data than fresh data are?"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ornstein.errors import UsageError
from ornstein.metrics.distances import Nearest, names, nearest
from ornstein.metrics.metric import Metric, MetricInputs, MetricResult, Row
from ornstein.metrics.repeats import Repeats, repeats
from ornstein.metrics.score import Score, proportion, smooth, usable, wilson

NEAR = 0.01  # of fresh real items are nearer to a training item than what counts as near
SOME, MOST = 0.03, 0.5  # near copies, for certain, from which training data are memorised in part or as a whole

SEARCHED = 2000  # samples whose nearest training items are looked for


@dataclass(frozen=True, eq=False)
class Memorisation:
    """The scores, and the samples nearest to a training item, the nearest first: indices (K,) of samples and of training items.

    `repeats` says what the sets repeat of themselves and of each other, `verdict` in words whether training data are memorised,
    `notes` which scores are left out and why.
    """

    scores: tuple[Score, ...]
    samples: Tensor
    training: Tensor
    repeats: Repeats
    verdict: str | None
    notes: tuple[str, ...] = ()


def memorisation(
    samples: Tensor,
    training: Tensor,
    fresh: Tensor | None = None,
    pairs: int = 16,
    known: Repeats | None = None,
) -> Memorisation:
    """Distances of samples (N, D) to their nearest training item (T, D), compared with those of fresh real items (M, D).

    Without fresh items, compared with the distance of training items to each other (each to the nearest other), of as many as
    there are samples. Four scores: how often a sample is nearer than a fresh item (0.5: like fresh data, 1: copies; the
    Mann–Whitney statistic of Meehan et al. 2020, section 3); the part of samples nearer than 99 % of fresh items are (0.01:
    like fresh data);
    the ratio of the medians of both distances; and the part of samples that equal a training item.
    Where 1 % or half of the
    fresh items are at distance 0, as with duplicates, overlap or data of few values, nothing is nearer and no ratio is finite:
    these scores are left out, with a note. `known`: which items repeat, where that was counted on the
    items themselves; None: on these features. Raises UsageError below 100 items, and for items that cannot be compared.
    """
    usable(100, "The nearest-neighbour test", samples=samples, training=training)
    if fresh is not None:
        usable(100, "The nearest-neighbour test", fresh=fresh, training=training)
    known = known or repeats(names(samples), None if fresh is None else names(fresh), names(training))
    notes = []
    assert known.copies is not None
    neighbours = nearest(samples, training)
    if fresh is None:
        count = min(len(samples), len(training))
        rows = torch.arange(count) * len(training) // count
        other = _leave_one_out(training, rows)
        held, group = other.distance[:, 0], _pairs(rows, other.place[:, 0])
        independent = count / (1 + count / len(training))  # two nearest to each other have one distance between them
    else:
        held = nearest(fresh, training).distance[:, 0]
        group, independent = torch.arange(len(held)), float(len(held))
    ours = neighbours.distance[:, 0]
    order = ours.argsort()[:pairs]
    none_nearer = float(held.median()) == 0
    scores = [] if none_nearer else [_nearer(ours, held, group)]
    near = None
    if float(held.quantile(NEAR)) > 0:
        near = _copies(ours, held, independent)
        scores.append(near)
    else:
        notes.append(
            "near copies are left out: 1 % or more of the fresh items equal a training item, and nothing is nearer; give "
            "held-out data apart from the training"
        )
    if none_nearer:
        notes.append(
            "how often samples are nearer, and the distance ratio, are left out: half of the fresh items or more equal a "
            "training item, and nothing is nearer"
        )
    else:
        scores.append(_ratio(ours, held, int(independent)))
    exact = proportion("exact copies", torch.from_numpy(known.copies))
    scores.append(exact)
    return Memorisation(
        tuple(scores), order, neighbours.place[order, 0], known, _verdict(near, exact, held), tuple(notes)
    )


def _verdict(near: Score | None, exact: Score, held: Tensor) -> str | None:
    """Whether the training data are memorised, in words; None where nothing says so."""
    by_chance = float((held == 0).double().mean())
    if near is not None and near.low > MOST:
        return (
            f"the model has memorised its training data: {near.value:.1%} of the samples are nearer to a training item than "
            "99 % of fresh items are"
        )
    if near is not None and near.low > SOME:
        return (
            f"part of the training data is memorised: {near.value:.1%} of the samples are nearer to a training item than 99 % "
            "of fresh items are"
        )
    if exact.low > by_chance + SOME:
        return f"training data are memorised: {exact.value:.1%} of the samples equal a training item"
    return None


def _leave_one_out(training: Tensor, rows: Tensor) -> Nearest:
    """The nearest other of these training items."""
    neighbours: Nearest = nearest(training[rows], training, k=2)
    itself = neighbours.place[:, :1] == rows[:, None]
    return Nearest(*(torch.where(itself, each[:, 1:], each[:, :1]) for each in neighbours))


def _pairs(rows: Tensor, other: Tensor) -> Tensor:
    """A group (N,) for each of these rows: one for two that are nearest to each other."""
    places_of = {row: i for i, row in enumerate(rows.tolist())}
    nearest_of, groups = other.tolist(), []
    for i, row in enumerate(rows.tolist()):
        j = places_of.get(nearest_of[i], i)
        groups.append(min(i, j) if nearest_of[j] == row else i)
    return torch.tensor(groups)


def _nearer(ours: Tensor, held: Tensor, group: Tensor) -> Score:
    """P(ours < held) + ½P(ours = held), whose influences are the two placement functions (DeLong et al. 1988).

    The influences of items that share a group, and with it their distance, are added before they are squared.
    """
    above, below = _below(-held, -ours), _below(ours, held)
    names, index = group.unique(return_inverse=True)
    sums = torch.zeros(len(names), dtype=below.dtype).index_add_(0, index, below - below.mean())
    return smooth("nearer than fresh data", float(above.mean()), above, sums * (len(names) / len(held)))


def _copies(ours: Tensor, held: Tensor, independent: float) -> Score:
    """P(ours < the 1 % quantile of held); that quantile is uncertain too, by the part of the held items that lie below it.

    The Wilson intervals of both parts in one (Newcombe 1998, method 10): few held items lie below, so theirs is far from even.
    """
    value = float((ours < held.quantile(NEAR)).double().mean())
    (low, high), (least, most) = wilson(value, len(ours)), wilson(NEAR, independent)
    down, up = math.hypot(value - low, most - NEAR), math.hypot(high - value, NEAR - least)
    return Score("near copies", value, max(0.0, value - down), min(1.0, value + up))


def _below(values: Tensor, at: Tensor) -> Tensor:
    """The part of `values` below each of `at`, ties counted half."""
    ordered = values.sort().values
    right = torch.searchsorted(ordered, at.contiguous(), side="right").double()
    left = torch.searchsorted(ordered, at.contiguous(), side="left").double()
    return (left + right) / (2 * len(values))


def _ratio(ours: Tensor, held: Tensor, independent: int, repeats: int = 500) -> Score:
    """median(ours)/median(held) with a bootstrap interval: a median has no smooth influence."""
    generator = torch.Generator().manual_seed(0)

    def medians(x: Tensor, count: int) -> Tensor:
        return torch.stack([x[torch.randint(len(x), (count,), generator=generator)].median() for _ in range(repeats)])

    ratios = (medians(ours, len(ours)) / medians(held, independent)).nan_to_num(nan=1.0)
    low, high = ratios.quantile(torch.tensor([0.025, 0.975])).tolist()
    return Score("distance ratio", float(ours.median() / held.median()), low, high)


class NearestNeighbours(Metric):
    """`memorisation` of the first samples, which needs the training data."""

    def measure(self, inputs: MetricInputs) -> MetricResult:
        reference = inputs.reference
        if reference.holed:
            raise UsageError("the nearest-neighbour test needs whole items, and numbers of these are missing")
        if reference.training is None:
            raise UsageError(
                "the nearest-neighbour test needs the training data, which were not opened or are not there any more"
            )
        result = memorisation(inputs.samples[:SEARCHED], reference.training, reference.held, known=inputs.known)
        return MetricResult(tuple(Row(score) for score in result.scores), nearest=result, notes=tuple(result.notes))


METRICS = (NearestNeighbours("memorisation", place=100),)
