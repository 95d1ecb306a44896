"""Hutchinson's estimator of a trace (Hutchinson 1990; Grathwohl et al. 2019, equation 7): ∇·v = E[zᵀJz], E[zzᵀ] = I."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ornstein.likelihood.trace import Field, Probes, graph, vjps


@dataclass(frozen=True)
class Hutchinson:
    """zᵀJz for `samples` probes z of independent signs (Rademacher), or normals with `gaussian`.

    The variance of one is 2(‖S‖² − Σ_i S_ii²) with signs and 2‖S‖² with normals, S the symmetric part of J. Each costs a
    vector–Jacobian product. Raises ValueError for fewer than one. Source: Hutchinson 1990; Grathwohl et al. 2019, equation 7.
    """

    samples: int = 2
    gaussian: bool = False
    exact: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise ValueError(f"Hutchinson: samples = {self.samples} must be at least 1")

    def __call__(self, field: Field, y: Tensor, probes: Probes) -> tuple[Tensor, Tensor]:
        leaf, value = graph(field, y)
        drawn = torch.stack([probes(k) for k in range(self.samples)])
        z = drawn if self.gaussian else torch.where(drawn < 0, -1.0, 1.0).to(y)
        return value.detach(), (vjps(value, leaf, z) * z).flatten(2).sum(2)
