"""Conjugate gradients (Hestenes and Stiefel 1952), each row of a batch by itself."""

from collections.abc import Callable

import torch
from torch import Tensor

from ornstein.guidance.guided_denoiser import inner

TOLERANCE = 1e-6


def solve(product: Callable[[Tensor], Tensor], b: Tensor, iterations: int, floor: float = 0.0) -> Tensor:
    """v with S·v ≈ b, shaped as b (B, ...), from products with a symmetric positive S, that is row by row another.

    A row stops where its residual is `TOLERANCE` of ‖b‖, or along a direction where S is not above floor·I as it should be (a
    network's Jacobian is only nearly symmetric and positive); the others go on, so that no row depends on its batch.
    """
    best, v, rest = torch.zeros_like(b), torch.zeros_like(b), b
    direction, size = rest, inner(rest, rest)
    least, enough = size, TOLERANCE**2 * size
    for _ in range(iterations):
        going = size > enough
        if not bool(going.any()):
            break
        along = product(direction)
        curvature = inner(direction, along)
        going = going & (curvature > floor * inner(direction, direction))
        step = torch.where(going, size / torch.where(going, curvature, 1), 0)
        v, rest = v + step * direction, rest - step * along
        fresh = torch.where(going, inner(rest, rest), 0)  # 0: this row has stopped
        best = torch.where(going & (fresh < least), v, best)
        least = torch.where(going, torch.minimum(fresh, least), least)
        direction = rest + fresh / torch.where(going, size, 1) * direction
        size = fresh
    return best
