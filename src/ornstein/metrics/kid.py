"""Kernel distance of features ("KID" when they are Inception's)."""

from torch import Tensor

from ornstein.metrics.metric import TwoSample
from ornstein.metrics.mmd import unbiased
from ornstein.metrics.score import Score, usable


def kid(samples: Tensor, real: Tensor) -> Score:
    """The unbiased squared MMD of features (N, D), (M, D) with the cubic kernel (xᵀy/D + 1)³.

    Its mean is 0 for samples of the real distribution at any count, so it may be negative. Binkowski et al. 2018, section 4.
    Over all items, where published figures are often means over random thousands of them: the same mean, less variance.
    Raises UsageError below 100 items, and for items that cannot be compared.
    """
    usable(100, "KID", samples=samples, real=real)
    return unbiased("KID", samples, real, cubic)


def cubic(x: Tensor, y: Tensor) -> Tensor:
    """The kernel (xᵀy/D + 1)³."""
    inner = (x @ y.T).div_(x.shape[1]).add_(1)
    return inner.square().mul_(inner)


METRICS = (TwoSample("kid", place=10, kinds=("image",), function=kid),)
