"""Denoisers: anything with a path that estimates data and noise from x_t. Here, the one that holds a network."""

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, runtime_checkable

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


@runtime_checkable
class Predictor(Denoiser, Protocol):
    """A denoiser whose estimate is a known 2×2 matrix on (x_t, prediction): solvers then skip the estimate itself.

    `questions` gives, for each of a run's times, a function from x_t to the prediction, with all else made before; or None,
    from a denoiser around others that do not allow it.
    """

    def questions(self, times: Tensor, like: Tensor) -> list[Callable[[Tensor], Tensor]] | None: ...

    def inversion(self, t: Tensor) -> Tensor: ...


class Inputs(Protocol):
    """What a network is told at times t: a factor on x_t (None: 1) and a clock, both shaped as t."""

    def __call__(self, path: Path, t: Tensor) -> tuple[Tensor | None, Tensor]: ...


@dataclass(frozen=True)
class Raw:
    """The network is called with x_t and t as they are."""

    def __call__(self, path: Path, t: Tensor) -> tuple[Tensor | None, Tensor]:
        return None, t


@dataclass(frozen=True)
class Normalized:
    """The network is called with x_t/√(α²σ_d² + σ²), of unit variance, and the angle 2/π·arctan(σ/α) in [0, 1].

    Both depend on the noise level alone and are bounded at both ends, so one network serves every path.
    """

    data_std: float

    def __call__(self, path: Path, t: Tensor) -> tuple[Tensor | None, Tensor]:
        alpha, sigma = path.alpha(t), path.sigma(t)
        return ((alpha * self.data_std) ** 2 + sigma**2).rsqrt(), torch.atan2(sigma, alpha) * (2 / torch.pi)


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
    inputs: Inputs = Raw()
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
        bound = copy(self)  # not `replace`: what was checked once is not checked again at every step of a training
        object.__setattr__(bound, "condition", condition)
        return bound

    def predict(self, x_t: Tensor, t: Time) -> Tensor:
        """The network's own output at x_t (B, ...) and t (a number, 0-dim or (B,))."""
        scale, clock = self.inputs(self.path, as_time(t))
        x = x_t if scale is None else x_t * align(scale, x_t)
        return self._ask(x, clock.to(x_t.device, x_t.dtype).expand(len(x_t)))

    def questions(self, times: Tensor, like: Tensor) -> list[Callable[[Tensor], Tensor]]:
        """`predict` at each of the times (M,) for batches like `like`: scales and clocks are made here, once a run."""
        scales, clocks = self.inputs(self.path, times)
        told = clocks.to(like.device, like.dtype)[:, None].expand(-1, len(like)).unbind()
        if scales is None:
            return [partial(self._asked, clock) for clock in told]
        return [partial(self._asked_scaled, clock, scale) for clock, scale in zip(told, scales.tolist(), strict=True)]

    def _ask(self, x: Tensor, clock: Tensor) -> Tensor:
        return self.network(x, clock) if self.condition is None else self.network(x, clock, self.condition)

    def _asked(self, clock: Tensor, x_t: Tensor) -> Tensor:
        return self._ask(x_t, clock)

    def _asked_scaled(self, clock: Tensor, scale: float, x_t: Tensor) -> Tensor:
        return self._ask(x_t * scale, clock)

    def inversion(self, t: Tensor) -> Tensor:
        """Matrices (*t.shape, 2, 2) that turn (x_t, prediction) into (clean, noise)."""
        flat = t.flatten()
        at_data = flat == 0
        if bool(at_data.any()):
            at_data = at_data & (self.path.sigma(flat) == 0)
            flat = torch.where(at_data, 0.5, flat)
        point = self.path.at(flat, flat)
        a, b = self.target(point)
        d = point.alpha * b - point.sigma * a
        matrix = torch.stack([b / d, -point.sigma / d, -a / d, point.alpha / d], -1)
        if bool(at_data.any()):
            alpha = self.path.alpha(torch.zeros_like(flat))
            nothing = torch.zeros_like(alpha)
            matrix = torch.where(at_data[:, None], torch.stack([1 / alpha, nothing, nothing, nothing], -1), matrix)
        return matrix.reshape(*t.shape, 2, 2)

    def __call__(self, x_t: Tensor, t: Time) -> Estimate:
        prediction = self.predict(x_t, t)
        matrix = self.inversion(as_time(t))
        (cx, cq), (nx, nq) = ([align(entry, x_t) for entry in row.unbind(-1)] for row in matrix.unbind(-2))
        return Estimate(cx * x_t + cq * prediction, nx * x_t + nq * prediction)
