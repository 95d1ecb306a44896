"""From the gradient of a likelihood to a posterior's estimate, by Tweedie's formula, on any path.

Bayes' rule adds ∇log p(y | x_t) to the score. With J = ∂E[x | x_t]/∂x_t, and x_t = αx + σε,

    Cov[x | x_t] = (σ²/α)·J                                          (1)
    E[x | x_t, y] = E[x | x_t] + (σ²/α)·∇log p(y | x_t)               (2)
    E[ε | x_t, y] = E[ε | x_t] − σ·∇log p(y | x_t)                    (3)

so α·clean + σ·noise = x_t stays true. Where p(y | x_t) is a function of E[x | x_t], the shift in (2) is (σ²/α)·Jᵀ applied to its
gradient there: the posterior covariance (1), by one vector–Jacobian product.

J/α is 0/0 where no signal is left, and divides a network's errors by α near there. Below α/σ = `least_signal` the covariance is
therefore taken at that level, reached by a DDIM step (a second network call): Cov[x | x_t] differs by a part of (α/σ)²·Cov[x].
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ornstein.denoiser import Denoiser, Views
from ornstein.editing.measurement import Measurement
from ornstein.estimate import Estimate
from ornstein.guidance.gradient import usable
from ornstein.guidance.guided_denoiser import move_clean
from ornstein.path import Path, Time, align, as_time

Covariance = Callable[[Tensor], Tensor]
Shift = Callable[[Tensor, Covariance, Tensor, Tensor], Tensor]


def shifted(denoiser: Denoiser, x_t: Tensor, t: Time, least_signal: float, shift: Shift) -> Estimate:
    """The estimate at x_t (B, ...) and t with clean moved by shift(clean, covariance, α, σ), and noise so that (3) holds.

    covariance(v) is (σ²/α)·Jᵀv, each row by itself. Gradients are taken also inside `torch.no_grad` and
    `torch.inference_mode`; the result carries none.
    """
    path = denoiser.path
    with torch.inference_mode(False), torch.enable_grad():
        x_t = x_t.detach().clone()
        t = as_time(usable(t))
        at = torch.minimum(t, path.time(2 * math.log(least_signal)).to(t))
        alpha, sigma = path.levels(at, x_t)
        early = align(at < t, x_t).bool()
        x = x_t.requires_grad_()
        seen = denoiser(x, t)
        clean, noise = (part.detach() for part in seen)
        if bool(early.any()):
            x = torch.where(early, alpha * clean + sigma * noise, x_t.detach()).requires_grad_()
            seen = denoiser(x, at)

        def covariance(v: Tensor) -> Tensor:
            return torch.autograd.grad(seen.clean, x, v, retain_graph=True)[0] * (sigma**2 / alpha)

        move = shift(clean, covariance, alpha, sigma).detach()
        return move_clean(path, Estimate(clean, noise), t, move)


@dataclass(frozen=True, eq=False)
class PosteriorDenoiser(Views, ABC):
    """Abstract: the denoiser of x given y, around the `denoiser` of x; a subclass tells how far its estimate moves.

    `least_signal` is the α/σ below which the covariance is taken at that level.
    """

    denoiser: Denoiser
    measurement: Measurement
    least_signal: float = field(default=0.01, kw_only=True)

    @property
    def path(self) -> Path:
        return self.denoiser.path

    def __call__(self, x_t: Tensor, t: Time) -> Estimate:
        return shifted(self.denoiser, x_t, t, self.least_signal, self.shift)

    @abstractmethod
    def shift(self, clean: Tensor, covariance: Covariance, alpha: Tensor, sigma: Tensor) -> Tensor:
        """The shift of clean (B, ...); see `shifted`."""
