"""azula: denoiser(x_t, t) -> a posterior with `.mean`, on its schedule t -> (α, σ)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ornstein.denoiser import NetworkDenoiser
from ornstein.interop.convention import Convention, wrap
from ornstein.path import Path
from ornstein.target import Clean


@dataclass(frozen=True)
class Schedule(Path):
    """A function t -> (α, σ) as a path; both elementwise, with t = 0 at the data."""

    levels_at: Callable[[Tensor], tuple[Tensor, Tensor]]

    def alpha(self, t: Tensor) -> Tensor:
        return self.levels_at(t)[0]

    def sigma(self, t: Tensor) -> Tensor:
        return self.levels_at(t)[1]


def convention(schedule: Callable[[Tensor], tuple[Tensor, Tensor]]) -> Convention:
    """A schedule of azula with its denoisers, which estimate E[x | x_t] at t."""
    return Convention(Schedule(schedule), Clean())


def denoiser(module: Any, condition: Any = None) -> NetworkDenoiser:
    """One of azula's denoisers (its `schedule`, its posterior's mean); the condition is a dict of its keywords."""
    return wrap(module, convention(module.schedule), condition)
