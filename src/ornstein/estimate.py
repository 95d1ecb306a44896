"""The value of a denoiser: the posterior means of data and noise given x_t."""

from typing import NamedTuple

from torch import Tensor

from ornstein.path import Point


class Estimate(NamedTuple):
    """E[x | x_t] and E[ε | x_t], each shaped as x_t, with α·clean + σ·noise = x_t.

    Expectation is linear, so every other view is linear in the pair as well.

    >>> import torch
    >>> from ornstein import Estimate, path
    >>> Estimate(torch.tensor([2.0]), torch.tensor([3.0])).velocity(path.Linear().at(0.5, torch.zeros(1)))  # noise − clean
    tensor([1.])
    """

    clean: Tensor
    noise: Tensor

    def score(self, point: Point) -> Tensor:
        """∇log p_t(x_t) = −E[ε | x_t]/σ (Tweedie's formula); infinite where σ = 0."""
        return self.noise / -point.sigma

    def velocity(self, point: Point) -> Tensor:
        """The marginal velocity u = α̇·E[x | x_t] + σ̇·E[ε | x_t] of the probability-flow ODE dx = u dt."""
        return point.d_alpha * self.clean + point.d_sigma * self.noise

    def of(self, pair: tuple[Tensor, Tensor]) -> Tensor:
        """Any quantity a·x + b·ε from its pair, such as a target at a point."""
        return pair[0] * self.clean + pair[1] * self.noise
