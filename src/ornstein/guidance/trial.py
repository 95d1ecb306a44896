"""Guidance of the estimates of clean data, a trial."""

from dataclasses import dataclass

from torch import Tensor

from ornstein.estimate import Estimate
from ornstein.guidance.contrast import Contrast
from ornstein.guidance.guided_denoiser import move_clean
from ornstein.path import Time


@dataclass(frozen=True, eq=False)
class TrialGuidance(Contrast):
    """clean = c + (w − 1)(c − u), c and u the two clean estimates."""

    def combine(self, t: Time, scale: float | Tensor, conditional: Estimate, unconditional: Estimate) -> Estimate:
        return move_clean(self.path, conditional, t, (scale - 1) * (conditional.clean - unconditional.clean))


CONTRASTS = (TrialGuidance,)
