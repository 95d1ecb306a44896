"""Samples against real data: which metrics, on which items, with which floor.

The floor of a metric is what other real data score at the same task: no model need be below it, and a biased distance
says little without it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ornstein.data import Dataset
from ornstein.errors import UsageError
from ornstein.metrics.features import Extractor, Progress, of_data
from ornstein.metrics.known import by_name
from ornstein.metrics.memorisation import SEARCHED, Memorisation
from ornstein.metrics.metric import Labels, MetricInputs, Reference, Row
from ornstein.metrics.repeats import identities, repeats
from ornstein.metrics.score import Score


def usual(kind: str) -> tuple[str, ...]:
    """The names of the metrics that data of this kind have by default."""
    return tuple(name for name, metric in by_name().items() if metric.usual(kind))


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


def must_be_metrics(argument: str, names: tuple[str, ...]) -> None:
    """Raises UsageError, which says the argument, for a name that is none of a metric."""
    for name in names:
        if name not in by_name():
            raise UsageError(f"{argument}: there is no metric {name!r}; there are {', '.join(by_name())}")


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
    wanted = usual(kind) if names is None else names
    must_be_metrics("names", wanted)
    rows: list[Row] = []
    by_class: dict[str, Score] = {}
    memorised: Memorisation | None = None
    notes: list[str] = []
    known = None if identity is None else repeats(identity, *reference.names)
    inputs = MetricInputs(samples, reference, extractor, labels, known)
    for done, name in enumerate(wanted):
        if progress is not None:
            progress(done, len(wanted))
        try:
            measured = by_name()[name].measure(inputs)
        except UsageError as error:
            if names is not None:
                raise
            notes.append(f"{name} was left out: {error}")
            continue
        rows += measured.rows
        by_class |= measured.by_class
        notes += measured.notes
        memorised = memorised if measured.nearest is None else measured.nearest
    if not rows:
        raise UsageError(f"nothing can be measured: {notes[0]}")
    known = known or (None if memorised is None else memorised.repeats)
    findings = () if known is None else known.notes
    if memorised is not None and memorised.verdict is not None:
        findings = (*findings, memorised.verdict)
    return Evaluation(tuple(rows), by_class, memorised, tuple(notes), findings)


def _shuffled(count: int) -> NDArray[np.int64]:
    return np.random.default_rng(0).permutation(count)
