"""Maximum mean discrepancy with a Gaussian kernel."""

from collections.abc import Callable

import torch
from torch import Tensor

from ornstein.metrics.distances import ENTRIES
from ornstein.metrics.metric import TwoSample
from ornstein.metrics.score import Null, Score, distance, usable

Kernel = Callable[[Tensor, Tensor], Tensor]
LOOKED_AT = 1000  # items of each side for the median distance


def mmd(samples: Tensor, real: Tensor, bandwidth: float | None = None) -> Score:
    """The squared MMD with k(x, y) = exp(−‖x − y‖²/(2h²)), unbiased, so it may be negative. x (N, D), y (M, D).

    h is the median distance between items of both sides together, unless given. Gretton et al. 2012, lemma 6 and section 8.
    Raises UsageError below 50 items, and for items that cannot be compared.
    """
    usable(50, "MMD", samples=samples, real=real)
    h = median_distance(samples, real) if bandwidth is None else bandwidth

    def kernel(x: Tensor, y: Tensor) -> Tensor:
        return torch.exp(torch.cdist(x, y).square_().mul_(-0.5 / h**2))

    return unbiased("MMD²", samples, real, kernel)


def median_distance(x: Tensor, y: Tensor) -> float:
    """The median of the distances between different items, of up to 1000 from each side."""
    some = (side[torch.arange(n := min(LOOKED_AT, len(side))) * len(side) // n] for side in (x, y))
    pooled = torch.cat(list(some))
    return float(torch.nn.functional.pdist(pooled.double()).median().clamp(min=1e-12))


def unbiased(name: str, x: Tensor, y: Tensor, kernel: Kernel) -> Score:
    """Σ_{i≠j} k(x_i, x_j)/(n(n−1)) + Σ_{i≠j} k(y_i, y_j)/(m(m−1)) − 2 Σ_{ij} k(x_i, y_j)/(nm), in float64.

    The influence of an item is twice its mean kernel with its own side less that with the other (Gretton et al. 2012, theorem 8).
    The second order, all that is left at the null, has the variance

        S = 2 E k̃(x, x')²/n² + 2 E k̃(y, y')²/m² + 4 E k̃(x, y)²/(nm),

    k̃ the kernel less its means over either argument (Hoeffding's decomposition). The influences' own errors add 2S to the
    jackknife's variance, which are taken off: what is left is that of the first order. What is estimated is never below 0, so
    the interval has no part there, unless it is the value.
    """
    x, y = x.double(), y.double()
    n, m = len(x), len(y)
    (own_x, _, square_x), (own_y, _, square_y) = (_sums(kernel, side, side) for side in (x, y))
    across_x, across_y, square = _sums(kernel, x, y)
    first_x, first_y = (_diagonal(kernel, side) for side in (x, y))
    own_x, own_y = own_x - first_x, own_y - first_y
    value = own_x.sum() / (n * (n - 1)) + own_y.sum() / (m * (m - 1)) - 2 * across_x.sum() / (n * m)
    psi_x, psi_y = 2 * (own_x / (n - 1) - across_x / m), 2 * (own_y / (m - 1) - across_y / n)
    noise = (
        2 * _own(square_x - float(first_x.square().sum()), own_x) / n**2
        + 2 * _own(square_y - float(first_y.square().sum()), own_y) / m**2
        + 4 * _across(square, across_x, across_y) / (n * m)
    )
    jackknife = float(psi_x.var() / n + psi_y.var() / m)
    total = sum(
        float(first.mean() - own.mean() / (len(own) - 1)) / len(own)
        for first, own in ((first_x, own_x), (first_y, own_y))
    )  # E k̃(x, x)/n + E k̃(y, y)/m
    return distance(name, float(value), Null(0.0, noise, total), max(jackknife - 2 * noise, 0.0))


def _own(square: float, sums: Tensor) -> float:
    """E k̃² between different items of a side, from the sum of k² and the sums of k, both without the diagonal (U-centred)."""
    n = len(sums)
    total = square - 2 * float(sums.square().sum()) / (n - 2) + float(sums.sum()) ** 2 / ((n - 1) * (n - 2))
    return max(total, 0.0) / (n * (n - 3))


def _across(square: float, rows: Tensor, columns: Tensor) -> float:
    """E k̃² between the two sides."""
    n, m = len(rows), len(columns)
    total = square - float(rows.square().sum()) / m - float(columns.square().sum()) / n
    return max(total + float(rows.sum()) ** 2 / (n * m), 0.0) / ((n - 1) * (m - 1))


def _sums(kernel: Kernel, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, float]:
    """The sums of the kernel matrix over its columns (N,), over its rows (M,), and that of all squares."""
    rows, columns, square = [], torch.zeros(len(y), dtype=y.dtype, device=y.device), 0.0
    for part in x.split(max(1, ENTRIES // len(y))):
        matrix = kernel(part, y)
        rows.append(matrix.sum(1))
        columns += matrix.sum(0)
        square += float(matrix.flatten() @ matrix.flatten())
    return torch.cat(rows), columns, square


def _diagonal(kernel: Kernel, x: Tensor) -> Tensor:
    return torch.cat([kernel(part, part).diagonal() for part in x.split(64)])


METRICS = (TwoSample("mmd", place=60, kinds=("vector", "series", "volume"), function=mmd),)
