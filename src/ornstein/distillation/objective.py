"""Learning a flow map: targets off the diagonal by a method, ordinary regression on it.

In the chart τ = σ/(α + σ), y = x_t/(α + σ) a flow map is U(y, τ, ρ) (`ornstein.flowmap`). Each method gives, for τ > ρ, a target
of U that only the exact map satisfies; it is held constant while the network moves towards it (a stop-gradient). The other rows
of a batch lie on the diagonal, where a regression to q = a·x + b·ε, or to a teacher, fixes V(y, τ) = U(y, τ, τ). All errors are
squares of the network's own target q, weighed as for a denoiser: adaptive weights (Geng et al. 2025) spoil the diagonal.
"""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from ornstein.denoiser import Denoiser, for_rows
from ornstein.device import precise
from ornstein.estimate import Estimate
from ornstein.flowmap import FlowPoint, NetworkFlowMap, time_of
from ornstein.objective import FIRST, Draw, Objective, inside
from ornstein.path import Path


class Jumps(NamedTuple):
    """Rows that are aimed off the diagonal: x_t (B, ...) at times t, with an aim s < t; all times (B,)."""

    x_t: Tensor
    t: Tensor
    s: Tensor
    u: Tensor
    """Uniform on [0, 1)."""
    q: Tensor
    """The regression target of the pair (x, ε) that made x_t, a·x + b·ε."""


class Field(Protocol):
    """V = noise − clean of a denoiser at x_t (B, ...) and t (B,)."""

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor: ...


class Distillation(Protocol):
    """A way to train a flow map: the target of U on rows aimed off the diagonal, computed without gradients.

    `forward_mode` says whether the network is differentiated in forward mode, which excludes autocast and several threads.
    """

    @property
    def forward_mode(self) -> bool:
        """Whether the network is differentiated in forward mode."""
        ...

    def __call__(self, student: NetworkFlowMap, field: Field, rows: Jumps) -> Tensor: ...


def moved(path: Path, x_t: Tensor, t: Tensor, s: Tensor, slope: Tensor) -> Tensor:
    """x at time s of the chart's y + (ρ − τ)·slope: where a slope leads from x_t at t, both (B,)."""
    here, there = FlowPoint(path, t, x_t), FlowPoint(path, s, x_t)
    return (x_t / here.scale + (there.clock - here.clock) * slope) * there.scale


@dataclass(frozen=True)
class FlowMapObjective:
    """`base` gives path, target, times, weights and coupling; `method` the targets off the diagonal.

    With a teacher, a denoiser of the same data, V is the teacher's (distillation); without, the network learns V too.
    Aims are uniform in the clock τ: ρ on [0, τ], and 0, the data, for a part `to_data` of the rows.
    """

    base: Objective
    method: Distillation
    to_data: float = 0.0

    def error(
        self,
        student: NetworkFlowMap,
        draw: Draw,
        jumping: slice,
        numbers: Tensor,
        teacher: Denoiser | None = None,
        source: NetworkFlowMap | None = None,
    ) -> Tensor:
        """The weighted squared error of each row (B,), averaged over its numbers.

        draw: rows of `base.at`. jumping: which of them are aimed off the diagonal, every second one, such as slice(1, None, 2):
        known beforehand, so that no accelerator is waited for. numbers (B, 2): uniform on [0, 1). source: the flow map whose
        jumps make the targets, such as an average of the student; None: the student.
        """
        x, goal, wide = draw.x_t, draw.q.clone(), precise(draw.x_t.device)
        still = slice(1 - (jumping.start or 0), None, 2)
        s = draw.t.to(wide, copy=True)
        with torch.no_grad():
            if teacher is not None and len(x[still]):
                taught = for_rows(teacher, still, x)(x[still], draw.t[still])
                goal[still] = self._target(taught, x[still], draw.t[still]).to(goal)
            if len(x[jumping]):
                x_t, t, u = x[jumping], draw.t[jumping].to(wide), numbers[jumping].to(wide)
                own = for_rows(source or student, jumping, x)
                field = own if teacher is None else for_rows(teacher, jumping, x)
                here = FlowPoint(self.base.path, t, t).clock
                aim = torch.where(u[:, 0] < self.to_data, 0.0, (u[:, 0] - self.to_data) / (1 - self.to_data) * here)
                s[jumping] = time_of(self.base.path, aim).clamp(min=FIRST)
                rows = Jumps(x_t, t, s[jumping], u[:, 1], draw.q[jumping])
                slope = self.method(own, lambda x, t: _slope(field(x, t)), rows)
                point = FlowPoint(self.base.path, t, x_t)
                goal[jumping] = self._target(point.estimate(x_t / point.scale, slope), x_t, t).to(goal)
        error = (student.predict(x, draw.t, s) - goal).square().flatten(1).mean(1)
        return draw.weight * error

    def _target(self, estimate: Estimate, x_t: Tensor, t: Tensor) -> Tensor:
        return estimate.of(self.base.target(inside(self.base.path.at(t, x_t))))


def _slope(estimate: Estimate) -> Tensor:
    return estimate.noise - estimate.clean
