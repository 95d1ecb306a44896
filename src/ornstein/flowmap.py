"""Flow maps: denoisers with an aim, D(x_t, t, s) → (clean, noise) with α_t·clean + σ_t·noise = x_t.

The pair says where the probability-flow ODE through x_t at time t arrives at time s ≤ t:

    X(x_t, t, s) = α_s·clean + σ_s·noise        X(x, t, t) = x        X(X(x, t, u), u, s) = X(x, t, s)

which is DDIM's step, exact however long. The diagonal s = t is an ordinary denoiser, the slice s = 0 a consistency model (Song et
al. 2023). In the chart τ = σ/(α + σ), y = x/(α + σ) every path is the same ODE dy/dτ = noise − clean (`chart.Flow`), and

    Y(y, τ→ρ) = y + (ρ − τ)·U(y, τ, ρ)        U = noise − clean = the mean of dy/dτ between ρ and τ

so one U serves all paths: MeanFlow's average velocity (Geng et al. 2025), and the shortcut model's (Frans et al. 2025).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from ornstein.denoiser import Denoiser, NetworkDenoiser, Views, inputs
from ornstein.estimate import Estimate
from ornstein.path import Path, Time, align, as_time, value_and_rate


class FlowMap(Views, ABC):
    """A denoiser that also takes an aim: flow_map(x_t, t, s); without s it is the denoiser, s = t."""

    takes_aim: ClassVar[bool] = True
    path: Path

    @abstractmethod
    def __call__(self, x_t: Tensor, t: Time, s: Time | None = None) -> Estimate:
        """The pair aimed from t at s, for x_t (B, ...) and times that are numbers, 0-dim or (B,)."""


def takes_aim(denoiser: Denoiser) -> bool:
    """Whether a denoiser is a flow map, or a wrapper around one that passes the aim on."""
    return bool(getattr(denoiser, "takes_aim", False))


def jump(flow_map: Callable[[Tensor, Time, Time], Estimate], path: Path, x_t: Tensor, t: Time, s: Time) -> Tensor:
    """X(x_t, t, s) = α_s·clean + σ_s·noise, shaped as x_t (B, ...)."""
    clean, noise = flow_map(x_t, t, s)
    alpha, sigma = path.levels(s, x_t)
    return alpha * clean + sigma * noise


class FlowPoint:
    """Scale α + σ and clock τ = σ/(α + σ) of `chart.Flow` at the times (B,) of a batch."""

    def __init__(self, path: Path, t: Time, like: Tensor) -> None:
        alpha, sigma = path.levels(t, like)
        self.scale = alpha + sigma
        self.clock = sigma / self.scale

    def estimate(self, y: Tensor, slope: Tensor) -> Estimate:
        """The pair with noise − clean = slope and (1 − τ)·clean + τ·noise = y."""
        return Estimate(y - self.clock * slope, y + (1 - self.clock) * slope)


def time_of(path: Path, clock: Tensor) -> Tensor:
    """The times t, shaped as `clock`, at which σ/(α + σ) has these values, within the ends of the path."""
    return path.time(2 * (torch.log1p(-clock) - clock.log())).to(clock)


@dataclass(frozen=True, eq=False)
class Solved(FlowMap):
    """The flow map of any denoiser by a fine solve: Runge and Kutta's classical method, `steps` equal steps from τ to ρ.

    Error O(steps⁻⁴). The mean slope is summed as it is, without a division by ρ − τ, so s → t gives the denoiser. Four calls of
    the denoiser a step: an oracle for tests, and a teacher.
    """

    denoiser: Denoiser
    steps: int = 32

    @property
    def path(self) -> Path:  # type: ignore[override]
        return self.denoiser.path

    def __call__(self, x_t: Tensor, t: Time, s: Time | None = None) -> Estimate:
        if s is None:
            return self.denoiser(x_t, t)
        start, end = FlowPoint(self.path, t, x_t), FlowPoint(self.path, s, x_t)
        y = first = x_t / start.scale
        h = (end.clock - start.clock) / self.steps
        total = torch.zeros_like(y)
        for i in range(self.steps):
            k1 = self._slope(y, start, end, i)
            k2 = self._slope(y + h / 2 * k1, start, end, i + 0.5)
            k3 = self._slope(y + h / 2 * k2, start, end, i + 0.5)
            k4 = self._slope(y + h * k3, start, end, i + 1)
            mean = (k1 + 2 * k2 + 2 * k3 + k4) / 6
            y, total = y + h * mean, total + mean
        return start.estimate(first, total / self.steps)

    def _slope(self, y: Tensor, start: FlowPoint, end: FlowPoint, step: float) -> Tensor:
        """dy/dτ = noise − clean after so many steps."""
        clock = torch.lerp(start.clock, end.clock, step / self.steps)
        rows = clock.flatten()
        t = time_of(self.path, rows if len(rows) == len(y) else rows.expand(len(y)))
        clean, noise = self.denoiser(y * FlowPoint(self.path, t, y).scale, t)
        return noise - clean


@dataclass(frozen=True, eq=False)
class NetworkFlowMap(NetworkDenoiser):
    """A network with an input for the aim: network(x, c_noise, condition, aim) predicts `target` of the aimed pair.

    aim = c_noise(t) − c_noise(s), 0 on the diagonal, in the clock of the preconditioning: with `UnitVariance` from 0 to 1. The
    pair solves a·clean + b·noise = prediction and α·clean + σ·noise = x_t at t, as that of a `NetworkDenoiser`: a network whose
    answer does not depend on the aim yet is the flow map whose every jump is DDIM's step. Raises as `NetworkDenoiser`.
    """

    takes_aim: ClassVar[bool] = True

    def predict(self, x_t: Tensor, t: Time, s: Time | None = None) -> Tensor:
        """The network's own output at x_t (B, ...), from t to s (numbers, 0-dim or (B,))."""
        c_in, c_noise = self.preconditioning(self.path, as_time(t))
        aim = torch.zeros_like(c_noise) if s is None else c_noise - self.preconditioning(self.path, as_time(s))[1]
        x = x_t if c_in is None else x_t * align(c_in, x_t)
        return self._aimed(_rows(c_noise, x_t), _rows(aim, x_t), x)

    def predictors(self, times: Tensor, like: Tensor, aims: Tensor | None = None) -> list[Callable[[Tensor], Tensor]]:
        """`predict` at each of the times (M,), aimed at each of `aims` (M,), for batches like `like`."""
        c_in, clocks = inputs(self.preconditioning, self.path, tuple(times.tolist()))
        c_noise = torch.tensor(clocks, dtype=torch.float64, device="cpu")
        aim = torch.zeros_like(c_noise)
        if aims is not None:
            goals = inputs(self.preconditioning, self.path, tuple(aims.tolist()))[1]
            aim = c_noise - torch.tensor(goals, dtype=torch.float64, device="cpu")
        scales = [1.0] * len(times) if c_in is None else c_in
        return [
            partial(self._scaled, _rows(clock, like), _rows(step, like), scale)
            for clock, step, scale in zip(c_noise.unbind(), aim.unbind(), scales, strict=True)
        ]

    def __call__(self, x_t: Tensor, t: Time, s: Time | None = None) -> Estimate:
        return self.solved(x_t, as_time(t), self.predict(x_t, t, s))

    def slope(self, x_t: Tensor, t: Tensor, s: Tensor) -> Tensor:
        """U = noise − clean of the pair aimed from t at s, both (B,), shaped as x_t (B, ...)."""
        clean, noise = self(x_t, t, s)
        return noise - clean

    def slope_rate(
        self, x_t: Tensor, t: Tensor, s: Tensor, dx: Tensor | None, dt: Tensor | None, ds: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """(U, dU): the slope and its derivative along (dx, dt, ds), each shaped as its argument, None for 0. Without gradients.

        U = k_x·x_t + k_q·q with k of the 2×2 solve at t. The network's part is a Jacobian–vector product in forward mode; what
        depends on a time alone is differentiated as a function of that.
        """
        x_t, t, s = x_t.detach(), t.detach(), s.detach()
        zero = torch.zeros_like(t)
        dt, ds, dx = zero if dt is None else dt, zero if ds is None else ds, torch.zeros_like(x_t) if dx is None else dx
        c_in, d_in = self._rate(0, t)
        clock, d_clock = self._rate(1, t)
        goal, d_goal = self._rate(1, s)
        x, moved = x_t * align(c_in, x_t), align(c_in, x_t) * dx + align(d_in * dt, x_t) * x_t
        points = x, clock.to(x), (clock - goal).to(x)
        tangents = moved, (d_clock * dt).to(x), (d_clock * dt - d_goal * ds).to(x)
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):  # the only kernel with a forward-mode derivative on CPUs
            q, dq, *_ = torch.func.jvp(lambda x, clock, aim: self._aimed(clock, aim, x), points, tangents)
        (k_x, d_x), (k_q, d_q) = (value_and_rate(partial(self._weight, column), t) for column in (0, 1))
        k_x, k_q, d_x, d_q = (align(k, x_t) for k in (k_x, k_q, d_x * dt, d_q * dt))
        return k_x * x_t + k_q * q, k_x * dx + d_x * x_t + k_q * dq + d_q * q

    def _rate(self, which: int, t: Tensor) -> tuple[Tensor, Tensor]:
        """c_in or c_noise at times (B,), and its derivative."""

        def part(t: Tensor) -> Tensor:
            value = self.preconditioning(self.path, t)[which]
            return torch.ones_like(t) if value is None else value

        return value_and_rate(part, t)

    def _weight(self, column: int, t: Tensor) -> Tensor:
        """Factor of x_t or of the prediction in U."""
        matrix = self.inverse(t)
        return matrix[..., 1, column] - matrix[..., 0, column]

    def _aimed(self, c_noise: Tensor, aim: Tensor, x: Tensor) -> Tensor:
        return self.network(x, c_noise, self.condition, aim)

    def _scaled(self, c_noise: Tensor, aim: Tensor, c_in: float, x_t: Tensor) -> Tensor:
        return self._aimed(c_noise, aim, x_t if c_in == 1 else x_t * c_in)


def _rows(value: Tensor, like: Tensor) -> Tensor:
    return value.to(like.device, like.dtype).expand(len(like))
