"""Distances between two sets of vectors, a block of rows at a time: memory does not grow with the product of their sizes."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

ENTRIES = 1 << 20  # of the matrix in memory at once: small enough for the caches of a processor


def blocks(x: Tensor, y: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Rows of x and their squared distances to all of y: pairs of a slice and a matrix (rows, M)."""
    centre = y.mean(0)  # what x² + y² − 2xy loses to rounding is least around 0
    x, y = x - centre, y - centre
    norms = y.square().sum(1)
    size = max(1, ENTRIES // len(y))
    for start in range(0, len(x), size):
        part = x[start : start + size]
        matrix = torch.addmm(norms, part, y.T, alpha=-2.0).add_(part.square().sum(1, keepdim=True))
        yield slice(start, start + len(part)), matrix.clamp_(min=0)


class Nearest(NamedTuple):
    """For each item its nearest others, the nearest first: distances (N, k) and their places (N, k)."""

    distance: Tensor
    place: Tensor


def nearest(x: Tensor, y: Tensor | None = None, k: int = 1) -> Nearest:
    """The k nearest of y to each of x, Euclidean; without y, of the other items of x itself."""
    others = x if y is None else y
    places = []
    for rows, matrix in blocks(x, others):
        if y is None:
            matrix.diagonal(rows.start).fill_(torch.inf)
        places.append(matrix.topk(k, largest=False).indices)
    index = torch.cat(places)
    # once more from the differences, exact also for copies
    distance = torch.stack([(x - others[index[:, j]]).norm(dim=1) for j in range(k)], 1)
    return Nearest(distance, index)


def names(x: Tensor) -> list[bytes]:
    """A name for each of x (N, ...), equal for equal numbers."""
    return [row.tobytes() for row in (x.flatten(1).float() + 0.0).contiguous().cpu().numpy()]  # −0 equals 0
