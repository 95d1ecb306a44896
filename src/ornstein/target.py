"""Targets, the predictions of a network: q = a·x + b·ε, a pair of numbers at each point of the path.

Since x_t = αx + σε, a prediction q̂ and x_t determine both unknowns by one 2×2 solve with determinant D = αb − σa:

    x̂ = (b·x_t − σ·q̂)/D        ε̂ = (α·q̂ − a·x_t)/D

An error δq̂ moves the noise estimate by δε̂ = (α/D)·δq̂, so squared errors convert between targets by (D_from/D_to)².
A target is any callable from a Point to the pair (a, b).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ornstein.path import Point

Target = Callable[[Point], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Noise:
    """q = ε, the noise (Ho et al. 2020): a = 0, b = 1."""

    def __call__(self, point: Point) -> tuple[Tensor, Tensor]:
        return torch.zeros_like(point.alpha), torch.ones_like(point.alpha)


@dataclass(frozen=True)
class Clean:
    """q = x, the data (Ho et al. 2020, section 3.2; Salimans and Ho 2022): a = 1, b = 0."""

    def __call__(self, point: Point) -> tuple[Tensor, Tensor]:
        return torch.ones_like(point.alpha), torch.zeros_like(point.alpha)


@dataclass(frozen=True)
class Velocity:
    """dx_t/dt = α̇x + σ̇ε (Lipman et al. 2023; Liu et al. 2023)."""

    def __call__(self, point: Point) -> tuple[Tensor, Tensor]:
        return point.d_alpha, point.d_sigma


@dataclass(frozen=True)
class V:
    """v = αε − σx (Salimans and Ho 2022, appendix D)."""

    def __call__(self, point: Point) -> tuple[Tensor, Tensor]:
        return -point.sigma, point.alpha


@dataclass(frozen=True)
class Score:
    """∇log p(x_t | x) = −ε/σ, infinite where σ = 0 (Song et al. 2021)."""

    def __call__(self, point: Point) -> tuple[Tensor, Tensor]:
        return torch.zeros_like(point.alpha), -1 / point.sigma


@dataclass(frozen=True)
class Combination:
    """q = a·x + b·ε with the same numbers at each time: (−1, 1) is ε − x, the velocity of the linear path whatever its clock.

    Raises ValueError for numbers of one sign, with which the prediction says nothing about the data at some noise level.
    """

    a: float = -1.0
    b: float = 1.0

    def __post_init__(self) -> None:
        if self.a * self.b > 0 or self.a == self.b == 0:
            raise ValueError(
                f"target.Combination: a = {self.a} and b = {self.b} have one sign, so αb − σa is 0 at some noise level"
            )

    def __call__(self, point: Point) -> tuple[Tensor, Tensor]:
        return torch.full_like(point.alpha, self.a), torch.full_like(point.alpha, self.b)


@dataclass(frozen=True)
class EDM:
    """F = (x − c_skip·x_t)/c_out, EDM's preconditioned network output for data of standard deviation σ_d.

    With S² = α²σ_d² + σ², c_skip = ασ_d²/S² and c_out = σσ_d/S, the pair simplifies to a = σ/(σ_d·S), b = −ασ_d/S,
    finite at both ends and of unit variance (Karras et al. 2022, equations 7 and 8, with x_t/α for x and σ/α for σ). Raises
    ValueError for a sigma_data that is not positive.
    """

    sigma_data: float = 0.5

    def __post_init__(self) -> None:
        if self.sigma_data <= 0:
            raise ValueError(f"target.EDM: sigma_data = {self.sigma_data} must be positive")

    def __call__(self, point: Point) -> tuple[Tensor, Tensor]:
        total = ((point.alpha * self.sigma_data) ** 2 + point.sigma**2).sqrt()
        return point.sigma / (total * self.sigma_data), -point.alpha * self.sigma_data / total


def determinant(target: Target, point: Point) -> Tensor:
    """D = αb − σa; a target tells clean and noise apart where D is not 0.

    >>> import torch
    >>> from ornstein import path, target
    >>> point = path.Linear().at(0.25, torch.zeros(1))
    >>> float(target.determinant(target.Velocity(), point)), float(target.determinant(target.Noise(), point))
    (1.0, 0.75)
    """
    a, b = target(point)
    return point.alpha * b - point.sigma * a


def reweigh(source: Target, to: Target, point: Point) -> Tensor:
    """The factor r with r·‖δ_to‖² = ‖δ_source‖²: multiply a weight stated for `source` by it to use it on `to`."""
    return (determinant(source, point) / determinant(to, point)) ** 2


ALL: tuple[Target, ...] = (Noise(), Clean(), Velocity(), V(), Score(), Combination(), EDM(0.5))
