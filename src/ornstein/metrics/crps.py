"""The continuous ranked probability score of an ensemble: E|X − y| − ½ E|X − X'|, lowest where X is distributed as y.

Gneiting and Raftery 2007, "Strictly proper scoring rules", equation 21. With K draws the second mean is over the K (K − 1) pairs
of different draws (Ferro 2014, "Fair scores for ensemble forecasts", section 2): the estimate is unbiased for every K, and few
draws are not punished. The K draws are sorted once: Σ_ij |x_i − x_j| = 2 Σ_k (2k − K − 1) x_(k).
"""

import numpy as np
from numpy.typing import NDArray

from ornstein.errors import UsageError

Array = NDArray[np.float64]


def crps(draws: Array, truth: Array) -> Array:
    """draws (N, K, ...) and truth (N, ...), in one unit: the score of each number, (N, ...), in that unit.

    Draws that are NaN, missing values of a table, are left out. NaN where the truth is, or where fewer than two draws are left.
    Raises UsageError for shapes that do not fit, and for fewer than two draws.
    """
    if draws.ndim < 2 or truth.shape != (len(draws), *draws.shape[2:]) or draws.shape[1] < 2:
        raise UsageError(
            f"crps: draws of shape {draws.shape} and truth of shape {truth.shape} do not fit; give (N, K, ...) and (N, ...), "
            "K at least 2"
        )
    count = (~np.isnan(draws)).sum(1)
    there = np.where(count > 1, count, 2)
    near = np.nansum(np.abs(draws - truth[:, None]), 1) / there
    ranks = np.arange(1, draws.shape[1] + 1).reshape(-1, *[1] * (draws.ndim - 2))
    ordered = np.sort(draws, axis=1)  # NaN comes last
    spread = np.nansum((2 * ranks - there[:, None] - 1) * ordered, 1) / (there * (there - 1))
    return np.where(np.isnan(truth) | (count < 2), np.nan, near - spread)
