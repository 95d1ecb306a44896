"""Averages of the weights whose length grows with the training (Karras et al. 2024, "Analyzing and improving the training
dynamics of diffusion models", section 3.1)."""

from collections.abc import Sequence

import torch
from torch import Tensor


@torch.no_grad()
def update(average: Sequence[Tensor], weights: Sequence[Tensor], step: int, gamma: float) -> None:
    """average ← β·average + (1 − β)·weights with β = (1 − 1/step)^{γ+1}; step counts from 1, where it copies."""
    torch._foreach_lerp_(list(average), list(weights), 1 - (1 - 1 / step) ** (gamma + 1))


@torch.no_grad()
def follow(average: Sequence[Tensor], buffers: Sequence[Tensor]) -> None:
    """Buffers, such as running statistics, are those of the network itself, not averaged."""
    for one, other in zip(average, buffers, strict=True):
        one.copy_(other)
