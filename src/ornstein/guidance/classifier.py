"""Classifier guidance (Dhariwal and Nichol 2021, "Diffusion models beat GANs on image synthesis", section 4)."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from ornstein.denoiser import Denoiser
from ornstein.estimate import Estimate
from ornstein.guidance.gradient import gradient, gradient_time, usable
from ornstein.guidance.guided_denoiser import GuidedDenoiser, Scale, move_clean, scale_at
from ornstein.path import Time


@dataclass(frozen=True, eq=False)
class Classifier(GuidedDenoiser):
    """score + w·∇ log p(y | x_t, t), that is clean + w·(σ²/α)·∇ log p and noise − w·σ·∇ log p (equation 10, algorithm 2).

    `log_prob(x_t, t)` is differentiable in x_t and gives (B,) nats, at the noisy x_t: log p(y | x_t) of a classifier trained on
    noisy data, or minus any energy. By Bayes, w = 1 with the exact log p(y | x_t) is the conditional model, and w = 0 is the
    `denoiser` alone, which is also what is called `plain`. One more gradient for each call; it works in inference mode. Source:
    Dhariwal and Nichol 2021, section 4.
    """

    denoiser: Denoiser
    log_prob: Callable[[Tensor, Time], Tensor]
    scale: Scale = 1.0

    @property
    def plain(self) -> Denoiser:
        return self.denoiser

    def both(self, x_t: Tensor, t: Time) -> tuple[Estimate, Estimate]:
        """The guided and the plain estimate."""
        plain, scale = self.denoiser(x_t, t), scale_at(self.scale, t, x_t)
        if isinstance(scale, float) and scale == 0:
            return plain, plain
        at, _ = gradient_time(self.path, usable(t))
        (slope,) = gradient(lambda x: (self.log_prob(x, at), ()), x_t)
        alpha, sigma = self.path.levels(at, x_t)
        return move_clean(self.path, plain, t, scale * sigma**2 / alpha * slope), plain
