"""Guidance by an energy of the clean data (Bansal et al. 2023, "Universal guidance for diffusion models", equation 6)."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from ornstein.denoiser import Denoiser
from ornstein.estimate import Estimate
from ornstein.guidance.gradient import gradient, gradient_time, usable
from ornstein.guidance.guided_denoiser import GuidedDenoiser, Scale, move_clean, scale_at
from ornstein.path import Time


@dataclass(frozen=True, eq=False)
class Energy(GuidedDenoiser):
    """score − w·∇_{x_t} E(clean(x_t)): towards samples of low energy, whose E knows clean data alone.

    `energy(clean)` is differentiable and gives (B,) nats, (B, ...) -> (B,). The gradient goes through the denoiser, so a call
    costs about three. E at the mean stands for −log E[exp(−E)], which is what an exactly tilted field would take; the
    difference is not small at high noise. An energy of noisy data is a `Classifier` with log_prob = −E. Source: Bansal et al.
    2023, equation 6.
    """

    denoiser: Denoiser
    energy: Callable[[Tensor], Tensor]
    scale: Scale = 1.0

    @property
    def plain(self) -> Denoiser:
        return self.denoiser

    def both(self, x_t: Tensor, t: Time) -> tuple[Estimate, Estimate]:
        """The guided and the plain estimate, from one call of the denoiser and its gradient."""
        scale = scale_at(self.scale, t, x_t)
        if isinstance(scale, float) and scale == 0:
            plain = self.denoiser(x_t, t)
            return plain, plain
        at, moved = gradient_time(self.path, usable(t))

        def value(x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
            estimate = self.denoiser(x, at)
            return self.energy(estimate.clean), estimate

        slope, clean, noise = gradient(value, x_t)
        plain = self.denoiser(x_t, t) if moved else Estimate(clean, noise)
        alpha, sigma = self.path.levels(at, x_t)
        return move_clean(self.path, plain, t, -scale * sigma**2 / alpha * slope), plain
