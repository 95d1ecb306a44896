"""Per-class agreement: are the samples of the class that was requested?"""

import torch
from torch import Tensor

from ornstein.errors import UsageError
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
