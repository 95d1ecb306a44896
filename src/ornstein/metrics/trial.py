"""Energy distance between two sets, a trial (Székely and Rizzo 2013)."""

import torch
from torch import Tensor

from ornstein.metrics.metric import NUMERIC, TwoSample
from ornstein.metrics.mmd import unbiased
from ornstein.metrics.score import Score, usable


def energy(samples: Tensor, real: Tensor) -> Score:
    """2 E‖x − y‖ − E‖x − x'‖ − E‖y − y'‖, unbiased. x (N, D), y (M, D). Raises UsageError below 50 items."""
    usable(50, "energy distance", samples=samples, real=real)
    return unbiased("energy distance", samples, real, lambda x, y: -torch.cdist(x, y))


METRICS = (TwoSample("energy", kinds=NUMERIC, function=energy),)
