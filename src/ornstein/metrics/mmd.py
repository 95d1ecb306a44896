"""Maximum mean discrepancy with a Gaussian kernel."""

from collections.abc import Callable

import torch
from torch import Tensor

from ornstein.metrics.distances import ENTRIES
from ornstein.metrics.score import Score, need, smooth

Kernel = Callable[[Tensor, Tensor], Tensor]
LOOKED_AT = 1000  # items of each side for the median distance


def mmd(samples: Tensor, real: Tensor, bandwidth: float | None = None) -> Score:
    """The squared MMD with k(x, y) = exp(−‖x − y‖²/(2h²)), unbiased, so it may be negative. x (N, D), y (M, D).

    h is the median distance between items of both sides together, unless given. Gretton et al. 2012, lemma 6 and section 8.
    Raises UsageError below 50 items.
    """
    need(50, "MMD", samples=len(samples), real=len(real))
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
    """
    x, y = x.double(), y.double()
    n, m = len(x), len(y)
    own_x, own_y = (_sums(kernel, side, side)[0] - _diagonal(kernel, side) for side in (x, y))
    across_x, across_y = _sums(kernel, x, y)
    value = own_x.sum() / (n * (n - 1)) + own_y.sum() / (m * (m - 1)) - 2 * across_x.sum() / (n * m)
    return smooth(name, float(value), 2 * (own_x / (n - 1) - across_x / m), 2 * (own_y / (m - 1) - across_y / n))


def _sums(kernel: Kernel, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The sums of the kernel matrix over its columns (N,) and over its rows (M,)."""
    rows, columns = [], torch.zeros(len(y), dtype=y.dtype)
    for part in x.split(max(1, ENTRIES // len(y))):
        matrix = kernel(part, y)
        rows.append(matrix.sum(1))
        columns += matrix.sum(0)
    return torch.cat(rows), columns


def _diagonal(kernel: Kernel, x: Tensor) -> Tensor:
    return torch.cat([kernel(part, part).diagonal() for part in x.split(64)])
