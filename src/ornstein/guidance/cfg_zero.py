"""CFG-Zero* (Fan et al. 2025, "CFG-Zero*: improved classifier-free guidance for flow matching models")."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ornstein.estimate import Estimate
from ornstein.guidance.contrast import Contrast
from ornstein.guidance.guided_denoiser import inner, ratio
from ornstein.path import Time, align, as_time


@dataclass(frozen=True, eq=False)
class CFGZeroStar(Contrast):
    """u = (1 − w)·s·u_unconditional + w·u_conditional,  s = ⟨u_conditional, u_unconditional⟩/‖u_unconditional‖²  per sample.

    u = noise − clean, the paper's velocity on the linear path; on every other path the velocity of the bounded variable
    x/(α + σ). `zero_init`: where t > 1 − zero_init the velocity is 0, so that the first steps change nothing (the paper
    leaves out 4 % of the steps, for models that are not trained to the end). None of it at scale 1. Raises ValueError for a
    zero_init outside [0, 1). Source: Fan et al. 2025.
    """

    zero_init: float = 0.04

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.zero_init < 1:
            raise ValueError(f"CFGZeroStar: zero_init = {self.zero_init} is a part of the way and must lie in [0, 1)")

    def combine(self, t: Time, scale: float | Tensor, conditional: Estimate, unconditional: Estimate) -> Estimate:
        alpha, sigma = self.path.levels(t, conditional.clean)
        x_t = alpha * conditional.clean + sigma * conditional.noise
        ours, theirs = (estimate.noise - estimate.clean for estimate in (conditional, unconditional))
        optimal = ratio(inner(ours, theirs), inner(theirs, theirs), 1.0)
        u = (1 - scale) * optimal * theirs + scale * ours
        total = alpha + sigma
        u = torch.where(align(as_time(t) > 1 - self.zero_init, u).bool(), 0, u)
        clean = torch.where(sigma == 0, conditional.clean, (x_t - sigma * u) / total)
        return Estimate(clean, torch.where(sigma == 0, conditional.noise, (x_t + alpha * u) / total))


CONTRASTS = (CFGZeroStar,)
