"""The probability-flow ODE with its log-density, in the angle chart and by the clock w: finite at both ends of every path.

With tan φ = σ/α, r = √(α² + σ²) and y = x/r the ODE is dy/dφ = v = cos φ·E[ε | x_t] − sin φ·E[x | x_t], whose divergence tends
to 0 at the data (where p_0 is smooth) and is bounded at the noise. By the change of variables (Chen et al. 2018, theorem 1),

    log p_t(x) = log p_1(x_1) + D log(r_1/r_t) + ∫ ∇·v dφ   from φ_t to φ_1.
"""

import math
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from ornstein.denoiser import Denoiser
from ornstein.likelihood import clock
from ornstein.likelihood.prior import Prior
from ornstein.likelihood.trace import Trace
from ornstein.noise import NoiseSource, repeat


class Mark(NamedTuple):
    """A time on the way: t, the scale r, φ, and dφ/dw."""

    t: float
    scale: float
    phi: float
    rate: float


class ProbabilityFlow:
    """dy/dw and d(log-density)/dw of a denoiser from time t to the noise, w running from `begin` to `end`."""

    def __init__(self, denoiser: Denoiser, t: float) -> None:
        self.denoiser, self.t = denoiser, t
        self.begin, self.end = clock.ends(denoiser.path, t)
        self.first, self.last = self.marks(torch.tensor([self.begin, self.end], dtype=torch.float64))

    def marks(self, w: Tensor) -> list[Mark]:
        """The path at values of the clock (M,); at the ends exactly."""
        path, times = self.denoiser.path, clock.time(self.denoiser.path, clock.angle(w)).clamp(self.t, 1.0)
        times = torch.where(w == self.begin, self.t, torch.where(w == self.end, 1.0, times))
        alpha, sigma = path.alpha(times), path.sigma(times)
        columns = times, torch.hypot(alpha, sigma), torch.atan2(sigma, alpha), clock.rate(w)
        return [Mark(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]

    def slope(self, mark: Mark, y: Tensor) -> Tensor:
        """dy/dw, shaped as y."""
        clean, noise = self.denoiser(y * mark.scale, mark.t)
        return noise * (math.cos(mark.phi) * mark.rate) - clean * (math.sin(mark.phi) * mark.rate)

    def slopes(
        self, mark: Mark, y: Tensor, trace: Trace, noise: NoiseSource, key: float | None = None
    ) -> tuple[Tensor, Tensor]:
        """dy/dw and the samples of its divergence (S, B). Probes are drawn for the mark's time, or for `key`, one for all."""
        at = mark.t if key is None else key
        return trace(partial(self.slope, mark), y, lambda k: repeat(noise, 1 + k)(y, at, at))

    def start(self, x: Tensor) -> Tensor:
        """y of x at time t."""
        return x / self.first.scale

    def log_prob(self, prior: Prior, y: Tensor, divergence: Tensor) -> Tensor:
        """log p_t where y is the end of the way and divergence (..., B) the integral along it."""
        grown = math.prod(y.shape[1:]) * math.log(self.last.scale / self.first.scale)
        return prior(self.denoiser, y * self.last.scale) + grown + divergence
