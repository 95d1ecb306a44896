"""The split in the limit of a short second leg: Lagrangian self-distillation (Boffi et al. 2025), terminal velocity matching
(Zhou et al. 2025)."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ornstein.distillation.objective import Field, Jumps, moved
from ornstein.flowmap import FlowPoint, NetworkFlowMap
from ornstein.path import align


@dataclass(frozen=True)
class Lagrangian:
    """U(y, τ, ρ) ← V(Y, ρ) + (τ − ρ)·∂U/∂ρ with Y = y + (ρ − τ)·U(y, τ, ρ), since ∂Y/∂ρ = V(Y, ρ).

    One Jacobian–vector product in the aim alone, and one call of the field at the end of the jump. Source: Boffi et al. 2025
    (Lagrangian self-distillation); Zhou et al. 2025.
    """

    forward_mode: ClassVar[bool] = True

    def __call__(self, student: NetworkFlowMap, field: Field, rows: Jumps) -> Tensor:
        x_t, t, s, _, _ = rows
        path = student.path
        point, here, there = path.at(s, x_t), FlowPoint(path, t, x_t), FlowPoint(path, s, x_t)
        ds = there.scale**2 / point.wronskian  # ds/dρ
        slope, change = student.slope_rate(x_t, t, s, None, None, ds.flatten().to(s))
        end = moved(path, x_t, t, s, slope)
        return field(end, s) + align((here.clock - there.clock).flatten(), x_t) * change
