"""Denoisers: anything with a path that estimates data and noise from x_t. Here, the one that holds a network."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from ornstein.estimate import Estimate
from ornstein.path import Path, Time, align, as_time
from ornstein.target import Target, determinant


class Denoiser(Protocol):
    """What solvers, guidance and likelihoods need: a path, and the two posterior means at any (x_t, t)."""

    @property
    def path(self) -> Path: ...

    def __call__(self, x_t: Tensor, t: Time) -> Estimate: ...


class Predictor(Denoiser, Protocol):
    """A denoiser whose estimate is a known 2×2 matrix on (x_t, prediction): solvers then skip the estimate itself."""

    def predict(self, x_t: Tensor, t: Time) -> Tensor: ...

    def inversion(self, t: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Raw:
    """The network is called with x_t and t as they are."""

    def __call__(self, path: Path, x_t: Tensor, t: Time) -> tuple[Tensor, Tensor]:
        if isinstance(t, Tensor):
            return x_t, t.to(x_t.device, x_t.dtype).expand(len(x_t))
        return x_t, x_t.new_full((len(x_t),), t)


@dataclass(frozen=True)
class Normalized:
    """The network is called with x_t/√(α²σ_d² + σ²), of unit variance, and the angle 2/π·arctan(σ/α) in [0, 1].

    Both depend on the noise level alone and are bounded at both ends, so one network serves every path.
    """

    data_std: float

    def __call__(self, path: Path, x_t: Tensor, t: Time) -> tuple[Tensor, Tensor]:
        alpha, sigma = path.levels(t, x_t)
        angle = torch.atan2(sigma, alpha).flatten() * (2 / torch.pi)
        scale = ((alpha * self.data_std) ** 2 + sigma**2).rsqrt()
        return x_t * scale, angle.to(x_t.device, x_t.dtype).expand(len(x_t))


@dataclass(frozen=True, eq=False)
class NetworkDenoiser:
    """A network that predicts `target` on `path`: network(x, t) or, with a condition, network(x, t, condition).

    The estimate solves a·clean + b·noise = prediction together with α·clean + σ·noise = x_t. At σ = 0 nothing is left to
    estimate: clean = x_t/α, noise = 0. Raises ValueError when built with a target that says nothing about the data where
    sampling starts (noise or score at zero SNR).
    """

    network: Callable[..., Tensor]
    path: Path
    target: Target
    inputs: Callable[[Path, Tensor, Time], tuple[Tensor, Tensor]] = Raw()
    condition: Any = None

    def __post_init__(self) -> None:
        start = self.path.at(1.0, torch.zeros(1))
        if not determinant(self.target, start).abs() > 1e-9:
            raise ValueError(
                f"{self.target} cannot be inverted on {self.path} at t = 1, where the signal is zero and the prediction "
                "says nothing about the data; use target.Velocity(), target.V(), target.EDM() or target.Clean()"
            )

    def given(self, condition: Any) -> "NetworkDenoiser":
        """The same denoiser with a condition bound; solvers never see it."""
        return replace(self, condition=condition)

    def predict(self, x_t: Tensor, t: Time) -> Tensor:
        """The network's own output at x_t (B, ...) and t (a number, 0-dim or (B,))."""
        inputs = self.inputs(self.path, x_t, t)
        return self.network(*inputs) if self.condition is None else self.network(*inputs, self.condition)

    def inversion(self, t: Tensor) -> Tensor:
        """Matrices (*t.shape, 2, 2) that turn (x_t, prediction) into (clean, noise)."""
        flat = t.flatten()
        alpha, sigma = self.path.levels(flat, flat)
        at_data = sigma == 0
        point = self.path.at(torch.where(at_data, 0.5, flat), flat)
        a, b = self.target(point)
        d = alpha * b - sigma * a
        zero = torch.zeros_like(alpha)
        limit = torch.stack([1 / alpha, zero, zero, zero], -1)
        matrix = torch.stack([b / d, -sigma / d, -a / d, alpha / d], -1)
        return torch.where(at_data[..., None], limit, matrix).reshape(*t.shape, 2, 2)

    def __call__(self, x_t: Tensor, t: Time) -> Estimate:
        prediction = self.predict(x_t, t)
        matrix = self.inversion(as_time(t))
        (cx, cq), (nx, nq) = ([align(entry, x_t) for entry in row.unbind(-1)] for row in matrix.unbind(-2))
        return Estimate(cx * x_t + cq * prediction, nx * x_t + nq * prediction)
