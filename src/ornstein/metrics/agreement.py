"""Per-class agreement: are the samples of the class that was requested?"""

from dataclasses import replace

import torch
from torch import Tensor

from ornstein.data.classes import listed
from ornstein.errors import UsageError
from ornstein.metrics.metric import Metric, MetricInputs, MetricResult, Row
from ornstein.metrics.score import Score, need, proportion


def agreement(requested: Tensor, recognised: Tensor, classes: tuple[str, ...]) -> tuple[Score, dict[str, Score]]:
    """The part of samples that a classifier of the real data assigns to the requested class, in all and by class.

    Class numbers (N,) each. Classes with fewer than 10 samples are left out. The classifier errs too: see its accuracy on real
    data (Ravuri and Vinyals 2019 ask the converse question). Raises UsageError below 100 samples and for labels of no class.
    """
    need(100, "Label agreement", samples=len(requested))
    wrong = ((requested < 0) | (requested >= len(classes))).nonzero()
    if len(requested) != len(recognised) or len(wrong):
        place = (
            f"sample {int(wrong[0])} has the label {int(requested[wrong[0]])}" if len(wrong) else "others are missing"
        )
        raise UsageError(
            f"label agreement needs one of {len(classes)} classes, 0 to {len(classes) - 1}, for each sample; {place}"
        )
    right = requested == recognised
    counts = torch.bincount(requested, minlength=len(classes)).tolist()
    by_class = {
        name: proportion(name, right[requested == label])
        for label, (name, count) in enumerate(zip(classes, counts, strict=True))
        if count >= 10
    }
    return proportion("label agreement", right), by_class


class Agreement(Metric):
    """`agreement` of samples whose class was requested and can be recognised, and of real items as the floor."""

    def measure(self, inputs: MetricInputs) -> MetricResult:
        labels = inputs.labels
        if labels is None:
            raise UsageError(
                "label agreement needs samples whose classes are known, and a classifier of the real images"
            )
        if not len(labels.real):
            raise UsageError(
                "label agreement needs real items that the classifier did not learn from, which are a tenth of them, and none of "
                "these has a label; give more"
            )
        count, notes = len(labels.classes), list[str]()
        known = torch.ones(count, dtype=torch.bool) if labels.known is None else labels.known
        counted = torch.cat([known, known.new_zeros(1)])[labels.requested.clamp(max=count)]
        if len(counted) == len(labels.recognised) and not bool(counted.all()):
            lacking = [name for name, there in zip(labels.classes, known.tolist(), strict=True) if not there]
            why = f"the real items have none of the classes {listed(lacking)}" if lacking else "they have no class"
            notes.append(
                f"label agreement is of {int(counted.sum()):,} of {len(counted):,} samples: of the others {why}"
            )
            labels = replace(labels, requested=labels.requested[counted], recognised=labels.recognised[counted])
        score, by_class = agreement(labels.requested, labels.recognised, labels.classes)
        return MetricResult((Row(score, proportion("label agreement", labels.real)),), by_class, notes=tuple(notes))


METRICS = (Agreement("agreement", place=90, kinds=("image",)),)
