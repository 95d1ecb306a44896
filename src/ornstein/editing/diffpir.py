"""DiffPIR (Zhu et al. 2023, "Denoising diffusion models for plug-and-play image restoration")."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ornstein.denoiser import Denoiser, Views
from ornstein.editing.conjugate import solve
from ornstein.editing.measurement import Measurement
from ornstein.estimate import Estimate
from ornstein.guidance.gradient import usable
from ornstein.path import Path, Time
from ornstein.solvers import TableSolver
from ornstein.table import Recorder, Table


@dataclass(frozen=True, eq=False)
class DiffPIR(Views):
    """E[x | x_t] is moved towards y: clean = argmin_x ‖y − A(x)‖² + ρ‖x − E[x | x_t]‖², ρ = λσ_y²α²/σ² (equation 13a, 9).

    noise = (x_t − α·clean)/σ (equation 14). It needs no gradient of the network: the minimum is
    E[x | x_t] + Aᵀ(AAᵀ + ρI)⁻¹(y − A(E[x | x_t])), by conjugate gradients; an operator that is not linear is linearised at
    E[x | x_t], one Gauss–Newton step. λ weighs the network against y. The paper's loop is this denoiser under
    `Renoise(zeta)`; any other solver runs it as well. Raises ValueError for a λ that is not positive. Source: Zhu et al. 2023.
    """

    denoiser: Denoiser
    measurement: Measurement
    weight: float = 7.0
    iterations: int = 50

    def __post_init__(self) -> None:
        if not self.weight > 0:
            raise ValueError(f"DiffPIR: weight = {self.weight} must be positive")

    @property
    def path(self) -> Path:
        return self.denoiser.path

    def __call__(self, x_t: Tensor, t: Time) -> Estimate:
        prior = self.denoiser(x_t, t)
        with torch.inference_mode(False), torch.enable_grad():
            t = usable(t)
            clean, noise = (part.detach().clone() for part in prior)
            alpha, sigma = self.path.levels(t, clean)
            seen = self.measurement.at(clean)

            def product(v: Tensor) -> Tensor:  # σ²AAᵀ + λσ_y²α², finite at both ends of a path
                own = self.weight * (self.measurement.noise * alpha) ** 2
                return sigma**2 * seen.forward(seen.transpose(v)) + own * v

            move = sigma * seen.transpose(solve(product, seen.residual, self.iterations)).detach()
            return Estimate(clean + sigma * move, noise - alpha * move)


@dataclass(frozen=True)
class Renoise(TableSolver):
    """x_s = α_s·clean + σ_s·(√(1−ζ)·noise + √ζ·ξ): a part ζ of the noise's variance is new in each step (equation 15).

    ζ = 0 is DDIM. Raises ValueError for a ζ outside [0, 1]. Source: Zhu et al. 2023.
    """

    zeta: float = 0.3
    order: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if not 0 <= self.zeta <= 1:
            raise ValueError(f"Renoise: zeta = {self.zeta} must lie in [0, 1]")

    def table(self, path: Path, grid: Tensor) -> Table:
        record = Recorder(path, grid)
        x = record.start
        for t, s in record.steps:
            clean, noise = record.call(t, x)
            old = math.sqrt(1 - self.zeta) * s.sigma
            x = s.alpha * clean + old * noise + record.fresh(math.sqrt(self.zeta) * s.sigma)
        return record.end(x)
