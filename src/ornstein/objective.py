"""Training objectives: E_{t,x,ε} w(λ_t)·‖q̂(x_t, t) − (a·x + b·ε)‖², per number of x.

The squared norm has the posterior mean as its minimiser, so the network learns E[q | x_t] whatever the weight. A weight is
stated for the error of one quantity and moved to the quantity that is regressed by the determinant (`target.reweigh`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Generator, Tensor

from ornstein.path import Path, Point
from ornstein.target import Clean, Noise, Target, reweigh


class Times(Protocol):
    """A training distribution over t: its quantile function on (0, 1)."""

    def __call__(self, path: Path, u: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Uniform:
    """t = u uniform on (0, 1]."""

    def __call__(self, path: Path, u: Tensor) -> Tensor:
        return u


@dataclass(frozen=True)
class LogitNormal:
    """logit t ~ N(mean, std²): more of the middle (Esser et al. 2024, equation 19)."""

    mean: float = 0.0
    std: float = 1.0

    def __call__(self, path: Path, u: Tensor) -> Tensor:
        return torch.sigmoid(self.mean + self.std * _normal_quantile(u))


@dataclass(frozen=True)
class LogNormal:
    """log(σ/α) ~ N(mean, std²): EDM's noise levels, on any path (Karras et al. 2022, table 1)."""

    mean: float = -1.2
    std: float = 1.2

    def __call__(self, path: Path, u: Tensor) -> Tensor:
        return path.time(-2 * (self.mean + self.std * _normal_quantile(u)))


def _normal_quantile(u: Tensor) -> Tensor:
    # half a float32 step inside (0, 1), so that neither end is infinite
    return torch.special.ndtri(u.double().clamp(2**-25, 1 - 2**-25)).to(u.dtype)


class Weight(Protocol):
    """w at a point of the path, for the squared error of the quantity `of` (None: of the regressed target itself)."""

    @property
    def of(self) -> Target | None:
        """The quantity whose squared error is weighed; None: the regressed one."""
        ...

    def __call__(self, point: Point) -> Tensor: ...


@dataclass(frozen=True)
class One:
    """w = 1 on the target's own error: L_simple for noise (Ho et al. 2020), flow matching for velocity (Lipman et al. 2023)."""

    of: Target | None = None

    def __call__(self, point: Point) -> Tensor:
        return torch.ones_like(point.alpha)


@dataclass(frozen=True)
class MinSNR:
    """w = min(SNR, γ) on the error of the clean data (Hang et al. 2023, equation 8)."""

    gamma: float = 5.0
    of: Target | None = Clean()

    def __call__(self, point: Point) -> Tensor:
        return ((point.alpha / point.sigma) ** 2).clamp(max=self.gamma)


@dataclass(frozen=True)
class ELBO:
    """w = ½(−λ̇) on the error of the noise: the variational bound (Kingma et al. 2021, equation 17)."""

    of: Target | None = Noise()

    def __call__(self, point: Point) -> Tensor:
        return point.wronskian / (point.alpha * point.sigma)


@dataclass(frozen=True)
class Sigmoid:
    """w = ½(−λ̇)·sigmoid(b − λ) on the error of the noise (Kingma and Gao 2023, section 4.2)."""

    bias: float = 2.0
    of: Target | None = Noise()

    def __call__(self, point: Point) -> Tensor:
        return ELBO()(point) * torch.sigmoid(self.bias - point.log_snr)


@dataclass(frozen=True)
class EDM:
    """w = (s² + σ_d²)/(s·σ_d)², s = σ/α, on the error of the clean data (Karras et al. 2022, table 1)."""

    sigma_data: float = 0.5
    of: Target | None = Clean()

    def __call__(self, point: Point) -> Tensor:
        return (point.alpha / point.sigma) ** 2 + 1 / self.sigma_data**2


NEAREST = 1e-6  # the least α/σ and σ/α at which a target and its weight are computed
FIRST = 1e-12  # the earliest time of a draw: at t = 0 derivatives of some paths are infinite


def inside(point: Point) -> Point:
    """The point, or where less than 1e-6 of α or of σ is left, the same with that much of it."""
    return point._replace(
        alpha=point.alpha.maximum(NEAREST * point.sigma), sigma=point.sigma.maximum(NEAREST * point.alpha)
    )


def weigh(weight: Weight, target: Target, point: Point) -> Tensor:
    """w for the squared error of `target`: the weight of the quantity that it is stated for, moved by `reweigh`.

    At an end of the path one of the factors may be infinite where the product has a finite limit (½(−λ̇) on the noise is
    α·(ασ̇ − σα̇)/(σD²) on a target of determinant D, which is 0 at zero SNR). So both are computed `inside` the ends, and
    their product is that limit to about 1e-6. Where the limit itself is infinite, as for `ELBO` at zero noise, the weight
    stays that of σ/α = 1e-6.
    """
    inner = inside(point)
    value = weight(inner)
    return value if weight.of is None else value * reweigh(weight.of, target, inner)


class Draw(NamedTuple):
    """One random batch of the regression: times t (B,), x_t (B, ...), the target q, shaped as x_t, and the weight (B,).

    `known`, shaped as x_t, is 1 where there is a number and 0 where the data lack it; None: all are there.
    """

    t: Tensor
    x_t: Tensor
    q: Tensor
    weight: Tensor
    known: Tensor | None = None

    def where(self, known: Tensor) -> "Draw":
        """The draw for data that lack numbers: `known`, shaped as x_t, is 1 where there is one and 0 where there is none.

        The network sees 0 there, and the error is the mean over the numbers that there are.
        """
        return self._replace(x_t=self.x_t * known, known=known)

    def error(self, prediction: Tensor) -> Tensor:
        """The weighted squared error of predictions (B, ...) of each sample (B,), averaged over its numbers."""
        square = (prediction - self.q).square()
        if self.known is None:
            return self.weight * square.flatten(1).mean(1)
        known = self.known.flatten(1)
        return self.weight * (square.flatten(1) * known).sum(1) / known.sum(1).clamp(min=1)


@dataclass(frozen=True)
class Objective:
    """E_{t,x,ε} w(λ_t)·‖q̂(x_t, t) − (a·x + b·ε)‖² per number of x: how times are drawn, what is regressed, how it is weighed.

    `stratified` draws the n times of a batch from n equal slices of the distribution: the same mean, less variance.
    `coupling(x, noise, labels)` re-pairs the noise of a batch (`ornstein.coupling`; None leaves it as drawn).
    """

    path: Path
    target: Target
    times: Times = Uniform()
    weight: Weight = One()
    stratified: bool = True
    coupling: Callable[[Tensor, Tensor, Tensor | None], Tensor] | None = None

    def draw(self, x: Tensor, generator: Generator, labels: Tensor | None = None) -> Draw:
        """Times, noise and regression target for a batch x (B, ...), all from the generator (on the device of x)."""
        u = self.levels(torch.rand(len(x), generator=generator, device=x.device, dtype=x.dtype))
        return self.at(x, u, torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype), labels)

    def levels(self, u: Tensor) -> Tensor:
        """Where in the distribution of times each row of a batch lies, in (0, 1]: u (B,) on [0, 1), turned and stratified."""
        u = 1 - u
        return (torch.arange(len(u), device=u.device) + u) / len(u) if self.stratified else u

    def at(self, x: Tensor, u: Tensor, noise: Tensor, labels: Tensor | None = None) -> Draw:
        """The problem of x (B, ...) at the quantiles u (B,) of the times, with noise like x, which the coupling may re-pair."""
        t = self.times(self.path, u).clamp(min=FIRST)
        if self.coupling is not None:
            noise = self.coupling(x, noise, labels)
        point = self.path.at(t, x)
        a, b = self.target(inside(point))  # the score is infinite where σ = 0
        weight = weigh(self.weight, self.target, point)
        return Draw(
            t, torch.addcmul(point.alpha * x, point.sigma, noise), torch.addcmul(a * x, b, noise), weight.flatten()
        )

    def loss(self, predict: Callable[[Tensor, Tensor], Tensor], x: Tensor, generator: Generator) -> Tensor:
        """The weighted squared error of each sample (B,), averaged over its numbers. predict(x_t, t) -> q̂."""
        return self.error(predict, self.draw(x, generator))

    def error(self, predict: Callable[[Tensor, Tensor], Tensor], draw: Draw) -> Tensor:
        """The weighted squared error of each sample (B,), averaged over its numbers. predict(x_t, t) -> q̂."""
        return draw.error(predict(draw.x_t, draw.t))


TIMES: tuple[Any, ...] = (Uniform(), LogitNormal(), LogNormal())
WEIGHTS: tuple[Any, ...] = (One(), MinSNR(), ELBO(), Sigmoid(), EDM())
