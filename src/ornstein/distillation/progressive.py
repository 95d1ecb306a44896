"""One jump is two jumps: the split of the semigroup (progressive distillation, Salimans and Ho 2022; shortcut models, Frans et
al. 2025; progressive self-distillation, Boffi et al. 2025)."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ornstein.distillation.objective import Field, Jumps, moved
from ornstein.flowmap import FlowPoint, NetworkFlowMap, time_of


@dataclass(frozen=True)
class Progressive:
    """U(y, τ, ρ) ← w·A + (1 − w)·U(y + (κ − τ)·A, κ, ρ) with A = U(y, τ, κ) and w = (τ − κ)/(τ − ρ), for τ > κ > ρ.

    κ lies after a part of the way, `part`; None: after a random one. Two calls of the network, none of them differentiated, so it
    works in half precision, on several threads, and compiled. Raises ValueError for a part outside (0, 1). Source: Salimans and
    Ho 2022; Frans et al. 2025 (shortcut models); Boffi et al. 2025.
    """

    part: float | None = None
    forward_mode: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.part is not None and not 0 < self.part < 1:
            raise ValueError(f"Progressive: part = {self.part} must lie between 0 and 1")

    def __call__(self, student: NetworkFlowMap, field: Field, rows: Jumps) -> Tensor:
        x_t, t, s, u, _ = rows
        path = student.path
        tau, rho = (FlowPoint(path, time, time).clock for time in (t, s))
        w = u if self.part is None else u.new_full(u.shape, self.part)
        middle = time_of(path, tau + w * (rho - tau))
        first = student.slope(x_t, t, middle)
        second = student.slope(moved(path, x_t, t, middle, first), middle, s)
        w = w.to(first).reshape(-1, *[1] * (first.ndim - 1))
        return w * first + (1 - w) * second
