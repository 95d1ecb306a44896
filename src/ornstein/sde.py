"""Dynamics: forward and reverse SDEs, probability-flow ODE and Langevin as Itô diffusions, and residuals of denoisers.

A general Itô diffusion dX = b(X, t) dt + Σ(X, t) dW is simulated by Euler–Maruyama (Kloeden and Platen 1992, section 9.1).
The marginals p_t of a path x_t = αx + σε follow the continuity equation of the velocity u = α̇·E[x | x_t] + σ̇·E[ε | x_t],

    ∂_t log p_t + ∇·u + u·∇log p_t = 0,

and so do those of dx = [u − ½η²∇log p_t] dt + η dw̄, time running down, for any η(t) ≥ 0 (Song et al. 2021, appendix D;
Karras et al. 2022, equation 6): one trained field serves the ODE and every SDE.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor

from ornstein.denoiser import Denoiser
from ornstein.noise import NoiseSource, PerSampleNoise
from ornstein.path import Path, Point, Time, align, as_time

Field = Callable[[Tensor, Time], Tensor]
Rate = Callable[[Time], Time]


class Density(Denoiser, Protocol):
    """A denoiser that knows log p_t, in nats."""

    def log_prob(self, x: Tensor, t: Time) -> Tensor:
        """log p_t(x) in nats, (B,), of x (B, ...)."""
        ...


@dataclass(frozen=True)
class Ito:
    """dX = drift(X, t) dt + diffusion(X, t) dW.

    drift: X (B, ...) and t to a tensor like X. diffusion: None for an ODE; with `noise_dim` None, a standard deviation that
    broadcasts against X and multiplies noise of its shape; with `noise_dim` M, matrices (B, D, M) on vectors X (B, D).
    """

    drift: Field
    diffusion: Field | None = None
    noise_dim: int | None = None

    def step(self, x: Tensor, t: float, s: float, noise: NoiseSource) -> Tensor:
        """One Euler–Maruyama step from t to s, either way: X + b h + Σ √|h| z with h = s − t.

        Raises ValueError for matrices of another shape than (B, D, M).
        """
        moved = x + self.drift(x, t) * (s - t)
        if self.diffusion is None:
            return moved
        scale, root = self.diffusion(x, t), abs(s - t) ** 0.5
        if self.noise_dim is None:
            return moved + scale * (noise(x, t, s) * root)
        z = noise(x.new_empty(len(x), self.noise_dim), t, s) * root
        if scale.shape != (*x.shape, self.noise_dim):
            raise ValueError(
                f"Ito: diffusion has shape {tuple(scale.shape)} where {(*x.shape, self.noise_dim)} is needed: "
                "(B, D, M) for states (B, D) and noise_dim M"
            )
        return moved + (scale @ z[..., None])[..., 0]


def trajectory(
    sde: Ito, x: Tensor, times: Tensor | Sequence[float], noise: NoiseSource | None = None
) -> Iterator[tuple[float, Tensor]]:
    """(t, X_t) at each of the times, from X = x (B, ...) at the first, by Euler–Maruyama.

    times: 1-D, rising or falling. noise: a source noise(x, t, s) of standard normals; None takes one seed for each row.
    Raises ValueError for times that do not go one way.
    """
    grid = torch.as_tensor(times, dtype=torch.float64)
    moves = grid.diff()
    if grid.ndim != 1 or grid.numel() == 0 or not (bool((moves > 0).all()) or bool((moves < 0).all())):
        raise ValueError("times must be 1-D and either rise or fall from each to the next")
    noise = noise or PerSampleNoise()
    marks: list[float] = grid.tolist()
    yield marks[0], x
    for t, s in pairwise(marks):
        x = sde.step(x, t, s, noise)
        yield s, x


def simulate(sde: Ito, x: Tensor, times: Tensor | Sequence[float], noise: NoiseSource | None = None) -> Tensor:
    """The last state of `trajectory`, shaped as x."""
    state = x
    for _, state in trajectory(sde, x, times, noise):  # noqa: B007
        pass
    return state


def forward(path: Path) -> Ito:
    """dx = f x dt + g dw, which takes the data to p_t, f = α̇/α and g² = 2σσ̇ − 2fσ² (Song et al. 2021, equation 5).

    Its coefficients raise ValueError where α = 0.
    """
    return Ito(
        lambda x, t: align(path.drift(t), x) * x,
        lambda x, t: align(path.diffusion(t), x),
    )


def reverse(denoiser: Denoiser, eta: Rate | float | None = None) -> Ito:
    """dx = [u − ½η²∇log p_t] dt + η dw̄ with time running down: p_t at every t, whatever η(t) ≥ 0.

    eta: None for the path's own g, which gives Anderson's dx = [f x − g²∇log p_t] dt + g dw̄ (Anderson 1982; Song et al.
    2021, equation 6); a number that multiplies g (0 is the probability-flow ODE); or a function of t in place of g, a
    standard deviation per √time. g is infinite where α = 0 and raises ValueError there: give a function, or start below.
    """
    if isinstance(eta, int | float) and eta < 0:
        raise ValueError(f"reverse: eta = {eta} must not be negative")
    if eta == 0:
        return probability_flow(denoiser)
    path = denoiser.path

    def rate(x: Tensor, t: Time) -> Tensor:
        value = eta(t) if callable(eta) else path.diffusion(t) * (1.0 if eta is None else eta)
        return align(as_time(value), x)

    def drift(x: Tensor, t: Time) -> Tensor:
        point, estimate = path.at(t, x), denoiser(x, t)
        return estimate.velocity(point) + estimate.noise * (rate(x, t) ** 2 / (2 * point.sigma))

    return Ito(drift, rate)


def probability_flow(denoiser: Denoiser) -> Ito:
    """dx = u dt: no noise, the same marginals, and it runs either way (Song et al. 2021, equation 13)."""
    return Ito(lambda x, t: denoiser(x, t).velocity(denoiser.path.at(t, x)))


def langevin(score: Callable[[Tensor], Tensor]) -> Ito:
    """dx = ∇log p dt + √2 dw, which leaves p as it is (Roberts and Tweedie 1996). `score` is ∇log p, shaped as x.

    The time of this process is its own: `times` such as torch.linspace(0, 1, 100), not those of a path.
    """
    root = torch.tensor(2.0, dtype=torch.float64).sqrt()
    return Ito(lambda x, t: score(x), lambda x, t: root)


def tweedie(x_t: Tensor, score: Tensor, point: Point) -> Tensor:
    """E[x | x_t] = (x_t + σ²∇log p_t)/α, shaped as x_t (Efron 2011, equation 1.4); infinite where α = 0.

    >>> import torch
    >>> from ornstein import path, sde
    >>> x_t = torch.tensor([2.0])
    >>> sde.tweedie(x_t, -x_t, path.VariancePreserving().at(0.5, x_t))  # data N(0, 1): the mean is α·x_t
    tensor([0.5624])
    """
    return (x_t + point.sigma**2 * score) / point.alpha


def continuity_residual(denoiser: Density, x: Tensor, t: Time) -> Tensor:
    """∂_t log p_t + ∇·u + u·∇log p_t at x (B, ...) and t in (0, 1): (B,) nats per unit of t, 0 where velocity and density fit.

    By automatic differentiation with the exact divergence: one backward pass for each element of an item.
    """
    with torch.enable_grad():
        x, t = _leaves(x, t)
        velocity = denoiser(x, t).velocity(denoiser.path.at(t, x))
        by_x, by_t = torch.autograd.grad(denoiser.log_prob(x, t).sum(), (x, t), materialize_grads=True)
        residual = by_t + _divergence(velocity, x, create_graph=False) + _dot(velocity, by_x)
    return residual.detach()


def score_residual(denoiser: Denoiser, x: Tensor, t: Time) -> Tensor:
    """∂_t s + ∇(∇·u + u·s) at x (B, ...) and t in (0, 1), shaped as x, with the denoiser's own score s and velocity u.

    The gradient of the continuity equation, the score Fokker–Planck equation (Lai et al. 2023, section 3). It needs no
    density, so it measures any denoiser that treats rows apart, networks too: 0 where its scores at all times are those
    of one data distribution. By automatic differentiation, one backward pass for each element of an item.
    """
    with torch.enable_grad():
        x, t = _leaves(x, t)
        point, estimate = denoiser.path.at(t, x), denoiser(x, t)
        score, velocity = estimate.score(point), estimate.velocity(point)
        flux = _divergence(velocity, x, create_graph=True) + _dot(velocity, score)
        (by_x,) = torch.autograd.grad(flux.sum(), x, retain_graph=True, materialize_grads=True)
        # ∂_t s in two backward passes: ∂_t Σ s·v is linear in v, and ∂_t s is its slope
        probe = torch.zeros_like(score, requires_grad=True)
        (along,) = torch.autograd.grad(_dot(score, probe).sum(), t, create_graph=True)
        (by_t,) = torch.autograd.grad(along.sum(), probe)
    return (by_t + by_x).detach()


def _leaves(x: Tensor, t: Time) -> tuple[Tensor, Tensor]:
    times = as_time(t).to(x).expand(len(x)).clone()
    return x.detach().clone().requires_grad_(), times.detach().requires_grad_()


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).flatten(1).sum(1)


def _divergence(field: Tensor, x: Tensor, *, create_graph: bool) -> Tensor:
    """∇·field (B,) of a field shaped as x, both (B, ...)."""
    parts = []
    for j, element in enumerate(field.flatten(1).unbind(1)):
        (slope,) = torch.autograd.grad(
            element.sum(), x, retain_graph=True, create_graph=create_graph, materialize_grads=True
        )
        parts.append(slope.flatten(1)[:, j])
    return torch.stack(parts, 1).sum(1)
