"""The split in the limit of a short first leg: MeanFlow (Geng et al. 2025, equation 6; "Improved mean flows" for the marginal
tangent), continuous-time consistency (Lu and Song 2025) where the aim is the data."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ornstein.distillation.objective import Field, Jumps
from ornstein.flowmap import FlowPoint, NetworkFlowMap
from ornstein.path import align


@dataclass(frozen=True)
class Eulerian:
    """U(y, τ, ρ) ← V − (τ − ρ)·dU/dτ along dy = V dτ, since Y(y_τ, τ→ρ) does not change along the flow.

    V is the field, or with `conditional` ε − x of the row (MeanFlow as published), which is
    right in the mean because the target is linear in it. One Jacobian–vector product. Source: Geng et al. 2025, equation 6
    (MeanFlow); Lu and Song 2025 where the aim is the data.
    """

    conditional: bool = False
    forward_mode: ClassVar[bool] = True

    def __call__(self, student: NetworkFlowMap, field: Field, rows: Jumps) -> Tensor:
        x_t, t, s, _, q = rows
        path = student.path
        if self.conditional:
            clean, noise = student.solved(x_t, t, q)  # the pair itself
            slope = noise - clean
        else:
            slope = field(x_t, t)
        point, here, there = path.at(t, x_t), FlowPoint(path, t, x_t), FlowPoint(path, s, x_t)
        dt = here.scale**2 / point.wronskian  # dt/dτ
        dx = here.scale * slope + (point.d_alpha + point.d_sigma) * dt * (x_t / here.scale)
        _, change = student.slope_rate(x_t, t, s, dx, dt.flatten().to(t), None)
        return slope - align((here.clock - there.clock).flatten(), x_t) * change
