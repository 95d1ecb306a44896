"""The base of guided denoisers: a plain and a guided estimate, and changes that keep α·clean + σ·noise = x_t."""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from ornstein.denoiser import Denoiser, Views
from ornstein.estimate import Estimate
from ornstein.path import Path, Time, align, as_time

Scale = float | Callable[[Tensor], Tensor]
"""How strongly: a number, or a function of t (0-dim or (B,)) shaped as t. 1 is the plain conditional model."""


class GuidedDenoiser(Views, ABC):
    """Abstract: a denoiser that steers another one, `plain`, which is what the guidance leaves when it does nothing."""

    @property
    @abstractmethod
    def plain(self) -> Denoiser:
        """The denoiser without this guidance."""
        ...

    @abstractmethod
    def both(self, x_t: Tensor, t: Time) -> tuple[Estimate, Estimate]:
        """The guided and the plain estimate, from the same network calls."""

    @property
    def path(self) -> Path:
        """The path of the plain denoiser."""
        return self.plain.path

    def __call__(self, x_t: Tensor, t: Time) -> Estimate:
        return self.both(x_t, t)[0]


def scale_at(scale: Scale, t: Time, like: Tensor) -> float | Tensor:
    """The scale at t: a number, or (B, 1, ...) to broadcast against `like` where each row has a time of its own."""
    if not callable(scale):
        return float(scale)
    value = scale(as_time(t))
    return float(value) if value.ndim == 0 else align(value, like)


def move_clean(path: Path, estimate: Estimate, t: Time, by: Tensor) -> Estimate:
    """The estimate with clean + by, and noise − (α/σ)·by so that x_t is what it was. Where σ = 0 nothing moves."""
    alpha, sigma = path.levels(t, by)
    still = sigma == 0
    by = torch.where(still, 0, by)
    return Estimate(estimate.clean + by, estimate.noise - alpha / torch.where(still, 1, sigma) * by)


def inner(x: Tensor, y: Tensor) -> Tensor:
    """⟨x, y⟩ of each row, (B, 1, ...)."""
    return (x * y).flatten(1).sum(1).reshape(-1, *[1] * (x.ndim - 1))


def ratio(above: Tensor, below: Tensor, empty: float) -> Tensor:
    """above/below, and `empty` where below is 0."""
    nothing = below == 0
    return torch.where(nothing, empty, above / torch.where(nothing, 1, below))
