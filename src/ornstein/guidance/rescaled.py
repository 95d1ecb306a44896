"""Rescaled guidance (Lin et al. 2024, "Common diffusion noise schedules and sample steps are flawed", section 3.4)."""

from dataclasses import dataclass

from torch import Tensor

from ornstein.denoiser import Denoiser
from ornstein.estimate import Estimate
from ornstein.guidance.guided_denoiser import GuidedDenoiser, move_clean, ratio
from ornstein.path import Time


@dataclass(frozen=True, eq=False)
class Rescaled(GuidedDenoiser):
    """clean = (φ·std(plain)/std(guided) + 1 − φ)·guided, standard deviations over all numbers of a sample (equations 15, 16).

    Guidance at a large scale makes samples too contrasty; this brings their spread back to that of the plain estimate. The
    paper rescales what its network predicts; here it is the estimate of clean data, whatever the network predicts. It holds
    any other guidance; `strength` φ = 0 changes nothing, 0.7 is the paper's. Raises ValueError for a φ outside [0, 1]. Source:
    Lin et al. 2024, section 3.4.
    """

    guided: GuidedDenoiser
    strength: float = 0.7

    def __post_init__(self) -> None:
        if not 0 <= self.strength <= 1:
            raise ValueError(f"Rescaled: strength = {self.strength} must lie in [0, 1]")

    @property
    def plain(self) -> Denoiser:
        return self.guided.plain

    def both(self, x_t: Tensor, t: Time) -> tuple[Estimate, Estimate]:
        """The rescaled and the plain estimate."""
        guided, plain = self.guided.both(x_t, t)
        if guided is plain:
            return guided, plain
        by = self.strength * (ratio(_std(plain.clean), _std(guided.clean), 1.0) - 1) * guided.clean
        return move_clean(self.path, guided, t, by), plain


def _std(x: Tensor) -> Tensor:
    return x.flatten(1).std(1, correction=0).reshape(-1, *[1] * (x.ndim - 1))
