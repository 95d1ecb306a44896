"""Samples beside real data: which metrics, on which items, with which floor.

The floor of a metric is what other real data score at the same task: no model is asked to be below it, and a biased distance
says little without it.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ornstein.data import Dataset
from ornstein.data.classes import listed
from ornstein.errors import UsageError
from ornstein.metrics.agreement import agreement
from ornstein.metrics.c2st import c2st
from ornstein.metrics.density_coverage import density_coverage
from ornstein.metrics.features import Extractor, Progress, of_data
from ornstein.metrics.frechet import frechet
from ornstein.metrics.kid import kid
from ornstein.metrics.memorisation import Memorisation, memorisation
from ornstein.metrics.mmd import mmd
from ornstein.metrics.precision_recall import precision_recall
from ornstein.metrics.repeats import Repeats, identities, repeats
from ornstein.metrics.score import Score, proportion
from ornstein.metrics.sliced_wasserstein import sliced_wasserstein

TWO_SAMPLE: dict[str, Callable[[Tensor, Tensor], Score | tuple[Score, ...]]] = {
    "kid": kid,
    "frechet": frechet,
    "precision-recall": precision_recall,
    "density-coverage": density_coverage,
    "sliced-wasserstein": sliced_wasserstein,
    "mmd": mmd,
    "c2st": c2st,
}
METRICS = (*TWO_SAMPLE, "agreement", "memorisation")
DEFAULT = {
    "image": tuple(name for name in METRICS if name not in ("mmd", "c2st")),
    **{kind: tuple(m for m in METRICS if m not in ("kid", "agreement")) for kind in ("vector", "series", "volume")},
    "table": ("c2st", "precision-recall", "density-coverage", "memorisation"),
}
SEARCHED = 2000  # samples whose nearest training items are looked for


@dataclass(frozen=True)
class Row:
    """A score of the samples, and of other real data in their place."""

    score: Score
    floor: Score | None = None

    def to_json(self) -> dict[str, Any]:
        """A dictionary of plain numbers and strings."""
        return {**self.score.to_json(), "floor": None if self.floor is None else self.floor.to_json()}


@dataclass(frozen=True, eq=False)
class Reference:
    """Features of real data: those compared with, other ones in the place of samples, and what the model has seen.

    `held` are real items that the model has not seen, where there are any. `names` are those of these and of all training items
    (`repeats.identities`), to count copies by. `holed`: numbers are missing on both sides (`ornstein.metrics.holes`).
    """

    real: Tensor
    fresh: Tensor | None = None
    training: Tensor | None = None
    held: Tensor | None = None
    names: tuple[list[bytes] | None, list[bytes] | None] = (None, None)
    holed: bool = False


@dataclass(frozen=True, eq=False)
class Labels:
    """Requested and recognised classes of samples (N,), and whether real items are recognised, boolean (M,).

    `known`, boolean (K,): the classes that the real items have, and so can be recognised; None: all.
    """

    requested: Tensor
    recognised: Tensor
    real: Tensor
    classes: tuple[str, ...]
    known: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Evaluation:
    """All scores in order, those by class, the nearest training items, what was left out and why, and `findings`: what the sets
    repeat and whether training data are memorised, which bear on all scores."""

    rows: tuple[Row, ...]
    by_class: Mapping[str, Score]
    nearest: Memorisation | None
    notes: tuple[str, ...]
    findings: tuple[str, ...] = ()


def reference(
    extractor: Extractor,
    data: Dataset,
    training: Dataset | None,
    count: int,
    memory: bool = True,
    progress: Progress | None = None,
) -> Reference:
    """Features for `count` samples to be compared with: as many real items as there are samples, if there are.

    `training` is what the model was trained on. Where it is `data`, the same object, these are dealt out in two halves, one to
    compare with and one for the floor; other data are all compared with, and training items are the floor. Items are drawn with a
    fixed seed. `memory`: the features of all training items are wanted. Raises OrnsteinError when the disk refuses.
    """
    same = training is data
    rows = _shuffled(len(data))[: 2 * count]
    half = min(count, len(data) // 2) if same else count
    first, second = np.sort(rows[:half]), np.sort(rows[half : 2 * half])
    everything = None if training is None or not memory else of_data(extractor, training, progress=progress)

    def features(dataset: Dataset, wanted: NDArray[np.int64]) -> Tensor:
        if everything is not None and dataset is training:
            return everything[torch.from_numpy(wanted)]
        return of_data(extractor, dataset, wanted, progress=progress)

    real = features(data, first)
    fresh: Tensor | None = None
    if same:
        fresh = features(data, second)
    elif training is not None:
        fresh = features(training, np.sort(_shuffled(len(training))[:count]))
    held = None if same else identities(data.items[first], data.spec)
    known = None if training is None else identities(training.items, training.spec)
    return Reference(real, fresh, everything, None if same else real[:SEARCHED], (held, known))


def evaluate(
    samples: Tensor,
    reference: Reference,
    names: tuple[str, ...] | None = None,
    *,
    extractor: Extractor,
    kind: str = "image",
    labels: Labels | None = None,
    identity: list[bytes] | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """The metrics called `names` of samples' features (N, D); None: the usual ones for this kind of data.

    `identity`: of each sample, by `repeats.identities`; without it copies are counted on features.

    Of the usual ones, those that these items are too few for are left out, with a note. Raises UsageError for an unknown name, a
    requested metric that would mean nothing, or if nothing at all can be measured.
    """
    usual = names is None
    names = DEFAULT[kind] if names is None else names
    for name in names:
        if name not in METRICS:
            raise UsageError(f"--metrics: there is no metric {name!r}; there are {', '.join(METRICS)}")
    rows: list[Row] = []
    by_class: Mapping[str, Score] = {}
    memorised: Memorisation | None = None
    notes: list[str] = []
    known = None if identity is None else repeats(identity, *reference.names)
    for done, name in enumerate(names):
        if progress is not None:
            progress(done, len(names))
        try:
            if name == "agreement":
                row, by_class, left_out = _agreement(labels)
                rows.append(row)
                notes += left_out
            elif name == "memorisation":
                more, memorised = _memorisation(samples, reference, known)
                rows += more
                notes += memorised.notes
            else:
                rows += _two_sample(name, samples, reference, extractor)
        except UsageError as error:
            if not usual:
                raise
            notes.append(f"{name} was left out: {error}")
    if not rows:
        raise UsageError(f"nothing can be measured: {notes[0]}")
    known = known or (None if memorised is None else memorised.repeats)
    findings = () if known is None else known.notes
    if memorised is not None and memorised.verdict is not None:
        findings = (*findings, memorised.verdict)
    return Evaluation(tuple(rows), by_class, memorised, tuple(notes), findings)


def _two_sample(name: str, samples: Tensor, reference: Reference, extractor: Extractor) -> list[Row]:
    scores = _as_tuple(TWO_SAMPLE[name](samples, reference.real))
    floors: tuple[Score | None, ...] = (None,) * len(scores)
    if reference.fresh is not None:
        with suppress(UsageError):  # too few for a floor
            floors = _as_tuple(TWO_SAMPLE[name](reference.fresh[: len(samples)], reference.real))
    if name == "frechet":
        scores = tuple(score.named(extractor.frechet) for score in scores)
    return [Row(score, floor) for score, floor in zip(scores, floors, strict=True)]


def _as_tuple(scores: Score | tuple[Score, ...]) -> tuple[Score, ...]:
    return (scores,) if isinstance(scores, Score) else scores


def _agreement(labels: Labels | None) -> tuple[Row, Mapping[str, Score], list[str]]:
    """Of samples whose class was requested and can be recognised, and a note on the others."""
    if labels is None:
        raise UsageError("label agreement needs samples whose classes are known, and a classifier of the real images")
    count, notes = len(labels.classes), []
    known = torch.ones(count, dtype=torch.bool) if labels.known is None else labels.known
    counted = torch.cat([known, known.new_zeros(1)])[labels.requested.clamp(max=count)]
    if len(counted) == len(labels.recognised) and not bool(counted.all()):
        lacking = [name for name, there in zip(labels.classes, known.tolist(), strict=True) if not there]
        why = f"the real items have none of the classes {listed(lacking)}" if lacking else "they have no class"
        notes.append(f"label agreement is of {int(counted.sum()):,} of {len(counted):,} samples: of the others {why}")
        labels = replace(labels, requested=labels.requested[counted], recognised=labels.recognised[counted])
    score, by_class = agreement(labels.requested, labels.recognised, labels.classes)
    return Row(score, proportion("label agreement", labels.real)), by_class, notes


def _memorisation(samples: Tensor, reference: Reference, known: Repeats | None) -> tuple[list[Row], Memorisation]:
    if reference.holed:
        raise UsageError("the nearest-neighbour test needs whole items, and numbers of these are missing")
    if reference.training is None:
        raise UsageError(
            "the nearest-neighbour test needs the training data, which were not opened or are not there any more"
        )
    result = memorisation(samples[:SEARCHED], reference.training, reference.held, known=known)
    return [Row(score) for score in result.scores], result


def _shuffled(count: int) -> NDArray[np.int64]:
    return np.random.default_rng(0).permutation(count)
