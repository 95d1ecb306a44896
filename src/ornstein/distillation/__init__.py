"""Training of flow maps, from data or from a teacher: one published method, one small file."""

from ornstein.distillation.eulerian import Eulerian
from ornstein.distillation.lagrangian import Lagrangian
from ornstein.distillation.objective import Distillation, Field, FlowMapObjective, Jumps, moved
from ornstein.distillation.progressive import Progressive

ALL: tuple[Distillation, ...] = (Progressive(), Progressive(0.5), Eulerian(), Eulerian(conditional=True), Lagrangian())

__all__ = [
    "ALL",
    "Distillation",
    "Eulerian",
    "Field",
    "FlowMapObjective",
    "Jumps",
    "Lagrangian",
    "Progressive",
    "moved",
]
