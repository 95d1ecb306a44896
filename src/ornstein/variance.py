"""Learned variances of reverse steps (Nichol and Dhariwal 2021, "Improved denoising diffusion probabilistic models", 3.1).

A network with twice the channels of x predicts v besides its target, and a step from x_t to x_s, for any s < t, has the variance

    Σ = exp(v·log σ²_{t|s} + (1 − v)·log(σ²_{t|s}σ_s²/σ_t²)) = β̃·(σ_t/σ_s)^{2v},     β̃ = σ²_{t|s}σ_s²/σ_t²

between that of the forward step ("β") and that of the posterior given x ("β̃"). v = (1 + output)/2, which is ½ at first and not
held to [0, 1]. It is learned by the bound's own term, the divergence of the model's step from the posterior, its mean held fixed:

    KL = ½[vL + e^{−vL}(1 + Δ) − 1],     L = log(σ_t²/σ_s²),     Δ = on_clean²·(x − E[x | x_t])²/β̃     for each number of x

Its minimum over v is Σ = β̃ + on_clean²·E(x − E[x | x_t])², the variance of x_s given x_t.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ornstein.denoiser import NetworkDenoiser
from ornstein.estimate import Estimate
from ornstein.path import Path, Time, align, as_time

STEPS = 1000  # of the bound that is learned from
EARLIEST = 1e-5  # of its times: before, x − E[x | x_t] is rounding


@dataclass(frozen=True, eq=False)
class VarianceDenoiser(NetworkDenoiser):
    """A denoiser whose network's output (B, 2C, ...) holds the prediction of the target and, behind it, 2v − 1.

    Raises as `NetworkDenoiser`.
    """

    def predict(self, x_t: Tensor, t: Time) -> Tensor:
        """The prediction of the target at x_t (B, C, ...) and t (a number, 0-dim or (B,))."""
        return self.outputs(x_t, t)[0]

    def outputs(self, x_t: Tensor, t: Time) -> tuple[Tensor, Tensor]:
        """The prediction, and v, both shaped as x_t."""
        prediction, v = NetworkDenoiser.predict(self, x_t, t).chunk(2, dim=1)
        return prediction, (1 + v) / 2

    def with_variance(self, x_t: Tensor, t: Time) -> tuple[Estimate, Tensor]:
        """The estimate, and v, from one call."""
        prediction, v = self.outputs(x_t, t)
        return self.solved(x_t, as_time(t), prediction), v

    def predictors(self, times: Tensor, like: Tensor) -> list[Callable[[Tensor], Tensor]]:
        """The predictors of the target alone, for each of the times (M,) (see `Predictor`)."""
        return [partial(_first, ask) for ask in NetworkDenoiser.predictors(self, times, like)]


def _first(ask: Callable[[Tensor], Tensor], x_t: Tensor) -> Tensor:
    return ask(x_t).chunk(2, dim=1)[0]


def learned_by(denoiser: Any) -> VarianceDenoiser | None:
    """The denoiser that v is from: this one, or the conditional or guided one that it is made around; None if there is none."""
    while not isinstance(denoiser, VarianceDenoiser):
        inner = next(
            (getattr(denoiser, name) for name in ("conditional", "guided", "denoiser") if hasattr(denoiser, name)), None
        )
        if inner is None:
            return None
        denoiser = inner
    return denoiser


def estimated(denoiser: Any, x_t: Tensor, t: Time) -> tuple[Estimate, Tensor]:
    """The denoiser's estimate, guided or not, and v of the model with its condition.

    Raises ValueError for a denoiser that has learned no variances.
    """
    source = learned_by(denoiser)
    if source is None:
        raise ValueError(
            f"{type(denoiser).__name__} has learned no variances: train with --learned-variance (in Python "
            "learned_variance=True), or sample with solvers.Ancestral(variance) for one between 0 and 1"
        )
    if source is denoiser:
        return source.with_variance(x_t, t)
    return denoiser(x_t, t), source.with_variance(x_t, t)[1]


def divergence(path: Path, s: Tensor, t: Tensor, x: Tensor, clean: Tensor, v: Tensor) -> Tensor:
    """KL(q(x_s | x_t, x) ‖ N(mean with `clean`, Σ)) of each number of x (B, ...), in nats; s < t are 0-dim or (B,), σ_s > 0."""
    posterior = path.posterior(s, t)
    gap = align(2 * (path.sigma(t) / path.sigma(s)).log(), x)
    off = align(posterior.on_clean / posterior.sigma, x) * (x - clean)
    return 0.5 * (v * gap + torch.exp(-v * gap) * (1 + off.square()) - 1)


def before(t: Tensor) -> Tensor:
    """The time a step of 1/1000 before t, or t/2 where that is later."""
    return torch.maximum(t - 1 / STEPS, t / 2)


def hybrid_term(denoiser: VarianceDenoiser, x: Tensor, x_t: Tensor, t: Tensor, prediction: Tensor, v: Tensor) -> Tensor:
    """STEPS·KL of the step before t, averaged over the numbers of each sample (B,): its sum over all steps, estimated from one.

    No gradient reaches the prediction, so that v alone learns from it.
    """
    t = t.clamp(min=EARLIEST)
    clean = denoiser.solved(x_t, t, prediction.detach().to(x.dtype)).clean
    return STEPS * divergence(denoiser.path, before(t), t, x, clean, v.to(x.dtype)).flatten(1).mean(1)
