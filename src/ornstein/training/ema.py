"""Averages of the weights whose length grows with the training (Karras et al. 2024, "Analyzing and improving the training
dynamics of diffusion models", section 3.1)."""

from collections.abc import Sequence

import torch
from torch import Tensor


def exponent(length: float) -> float:
    """γ of the power-function average θ̂(t) ∝ ∫ τ^γ θ(τ) dτ whose profile has standard deviation `length`·t.

    Solves length² = (γ + 1)/((γ + 2)²(γ + 3)) (the paper's appendix C). Raises ValueError for a length that no γ ≥ 0 has.
    """
    if not 0 < length < 12**-0.5:
        raise ValueError(
            f"an average of length {length:g} has no profile; lengths lie between 0 and {12**-0.5:.3f} of the training"
        )
    low, high = 0.0, 1e8
    for _ in range(200):
        middle = (low + high) / 2
        too_long = (middle + 1) / ((middle + 2) ** 2 * (middle + 3)) > length**2
        low, high = (middle, high) if too_long else (low, middle)
    return (low + high) / 2


@torch.no_grad()
def update(average: Sequence[Tensor], weights: Sequence[Tensor], step: int, gamma: float) -> None:
    """average ← β·average + (1 − β)·weights with β = (1 − 1/step)^{γ+1}; step counts from 1, where it copies."""
    torch._foreach_lerp_(list(average), list(weights), 1 - (1 - 1 / step) ** (gamma + 1))
