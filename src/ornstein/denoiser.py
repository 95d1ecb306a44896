"""Denoisers: anything with a path that estimates data and noise from x_t. Here, the one that holds a network."""

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import partial
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from ornstein.caching import cached
from ornstein.errors import reject_class
from ornstein.estimate import Estimate
from ornstein.path import Path, Time, align, as_time
from ornstein.preconditioning import Identity, Preconditioning
from ornstein.target import Target, determinant


class Denoiser(Protocol):
    """The interface of solvers, guidance and likelihoods: a path, and the two posterior means at any (x_t, t)."""

    @property
    def path(self) -> Path:
        """The path of which it estimates the ends."""
        ...

    def __call__(self, x_t: Tensor, t: Time) -> Estimate: ...


@runtime_checkable
class Predictor(Denoiser, Protocol):
    """A denoiser whose estimate is a known 2×2 matrix on (x_t, prediction): solvers then skip the estimate itself.

    `predictors` gives, for each of a run's times, a function from x_t to the prediction, with all else computed before; or None,
    from a denoiser around others that do not allow it. `inverse` gives the matrices.
    """

    def predictors(self, times: Tensor, like: Tensor) -> list[Callable[[Tensor], Tensor]] | None:
        """For each time (M,) a function from x_t, shaped as `like`, to the prediction; None where there is none."""
        ...

    def inverse(self, t: Tensor) -> Tensor:
        """The matrices (M, 2, 2) from (x_t, prediction) to (clean, noise) at times (M,)."""
        ...


def score(denoiser: Denoiser, x_t: Tensor, t: Time) -> Tensor:
    """∇log p_t(x_t) = −E[ε | x_t]/σ (Tweedie's formula), shaped as x_t (B, ...); t is a number, 0-dim or (B,).

    Raises ValueError where σ = 0.
    """
    _, sigma = denoiser.path.levels(t, x_t)
    if bool((sigma == 0).any()):
        raise ValueError(
            f"score: {denoiser.path} has no noise at t = {_first(t, sigma == 0):g}, so no score; use t > 0"
        )
    return denoiser(x_t, t).noise / -sigma


def velocity(denoiser: Denoiser, x_t: Tensor, t: Time) -> Tensor:
    """u = α̇·E[x | x_t] + σ̇·E[ε | x_t] of the probability-flow ODE dx = u dt, shaped as x_t (B, ...).

    Raises ValueError where α̇ or σ̇ is infinite.
    """
    return denoiser(x_t, t).velocity(denoiser.path.at(t, x_t))


def _first(t: Time, where: Tensor) -> float:
    return float(as_time(t).expand(where.numel())[where.flatten()][0])


class Views:
    """Methods of every denoiser of the library: what follows from its estimate."""

    def score(self: Denoiser, x_t: Tensor, t: Time) -> Tensor:
        """∇log p_t(x_t), shaped as x_t (B, ...), t a number, 0-dim or (B,). Raises ValueError where σ = 0; see `score`."""
        return score(self, x_t, t)

    def velocity(self: Denoiser, x_t: Tensor, t: Time) -> Tensor:
        """The velocity of the probability-flow ODE, shaped as x_t (B, ...), t a number, 0-dim or (B,); see `velocity`."""
        return velocity(self, x_t, t)


def for_rows(value: Any, rows: slice | Tensor, x: Tensor) -> Any:
    """A denoiser for some rows of a batch x (B, ...): what it holds for each row is cut to those.

    Cut are the conditions of a network that have a row for each of the batch, and what an object's own method `for_rows(rows, x)`
    cuts; other dataclasses are cut field by field, and everything else serves all rows.
    """
    own = getattr(value, "for_rows", None)
    if own is not None:
        return own(rows, x)
    if not is_dataclass(value) or isinstance(value, type):
        return value
    inner = {f.name: getattr(value, f.name) for f in fields(value) if f.init}
    cut = {
        name: for_rows(part, rows, x)
        for name, part in inner.items()
        if hasattr(part, "for_rows") or hasattr(part, "path")
    }
    return replace(value, **cut) if any(part is not inner[name] for name, part in cut.items()) else value


def _cut(condition: Any, rows: slice | Tensor, batch: int) -> Any:
    if isinstance(condition, (tuple, list)):
        return type(condition)(_cut(part, rows, batch) for part in condition)
    if isinstance(condition, dict):
        return {name: _cut(part, rows, batch) for name, part in condition.items()}
    per_row = isinstance(condition, Tensor) and condition.ndim > 0 and len(condition) == batch
    return condition[rows] if per_row else condition


def inverse(path: Path, target: Target, t: Tensor) -> Tensor:
    """Matrices (*t.shape, 2, 2) that turn (x_t, prediction of the target) into (clean, noise)."""
    flat = t.flatten()
    at_data = flat == 0
    some = t.device.type != "cpu" or bool(at_data.any())  # an accelerator is not waited for
    if some:
        at_data = at_data & (path.sigma(flat) == 0)
        flat = torch.where(at_data, 0.5, flat)
    point = path.at(flat, flat)
    a, b = target(point)
    d = point.alpha * b - point.sigma * a
    matrix = torch.stack([b / d, -point.sigma / d, -a / d, point.alpha / d], -1)
    if some:
        alpha = path.alpha(torch.zeros_like(flat))
        nothing = torch.zeros_like(alpha)
        matrix = torch.where(at_data[:, None], torch.stack([1 / alpha, nothing, nothing, nothing], -1), matrix)
    return matrix.reshape(*t.shape, 2, 2)


@cached
def inputs(
    preconditioning: Preconditioning, path: Path, times: tuple[float, ...]
) -> tuple[list[float] | None, list[float]]:
    """c_in and c_noise at the times (M,) of a run, as lists of M numbers; None for a c_in of 1."""
    c_in, c_noise = preconditioning(path, torch.tensor(times, dtype=torch.float64, device="cpu"))
    return None if c_in is None else c_in.tolist(), c_noise.tolist()


@dataclass(frozen=True, eq=False)
class NetworkDenoiser(Views):
    """A network that predicts `target` on `path`: network(x, t) or, with a condition, network(x, t, condition).

    It is called with c_in·x_t (B, ...) and c_noise (B,) of the `preconditioning`, and returns the prediction, shaped as x_t.

    The estimate solves a·clean + b·noise = prediction together with α·clean + σ·noise = x_t. At σ = 0 nothing is left to
    estimate: clean = x_t/α, noise = 0. Raises ValueError when built with a target that says nothing about the data where
    sampling starts (noise or score at zero SNR), and TypeError for a class in place of an object.
    """

    network: Callable[..., Tensor]
    path: Path
    target: Target
    preconditioning: Preconditioning = Identity()
    condition: Any = None

    def __post_init__(self) -> None:
        for name in ("network", "path", "target"):
            reject_class(name, getattr(self, name))
        start = self.path.at(1.0, torch.zeros(1))
        if not determinant(self.target, start).abs() > 1e-9:
            raise ValueError(
                f"{self.target} cannot be inverted on {self.path} at t = 1, where the signal is zero and the prediction "
                "says nothing about the data; use target.Velocity(), target.V(), target.EDM() or target.Clean()"
            )

    def given(self, condition: Any) -> "NetworkDenoiser":
        """The same denoiser with a condition bound; solvers never see it."""
        bound = copy(self)  # not `replace`: what was checked once is not checked again at every step of a training
        object.__setattr__(bound, "condition", condition)
        return bound

    def for_rows(self, rows: slice | Tensor, x: Tensor) -> "NetworkDenoiser":
        """The denoiser for some rows of a batch x (B, ...): conditions that have a row for each are cut to those."""
        return self.given(_cut(self.condition, rows, len(x)))

    def predict(self, x_t: Tensor, t: Time) -> Tensor:
        """The network's own output at x_t (B, ...) and t (a number, 0-dim or (B,))."""
        c_in, c_noise = self.preconditioning(self.path, as_time(t))
        x = x_t if c_in is None else x_t * align(c_in, x_t)
        return self.network(x, c_noise.to(x_t.device, x_t.dtype).expand(len(x_t)), *self._bound())

    def predictors(self, times: Tensor, like: Tensor) -> list[Callable[[Tensor], Tensor]]:
        """`predict` at each of the times (M,) for batches like `like`: c_in and c_noise are computed here, once a run."""
        c_in, c_noise = inputs(self.preconditioning, self.path, tuple(times.tolist()))
        clock = torch.tensor(c_noise, dtype=torch.float64, device="cpu").to(like.device, like.dtype)
        rows = clock[:, None].expand(-1, len(like)).unbind()
        scales = [None] * len(rows) if c_in is None else c_in
        bound = self._bound()
        return [partial(_ask, self.network, row, scale, bound) for row, scale in zip(rows, scales, strict=True)]

    def _bound(self) -> tuple[Any, ...]:
        return () if self.condition is None else (self.condition,)

    def inverse(self, t: Tensor) -> Tensor:
        """Matrices (*t.shape, 2, 2) that turn (x_t, prediction) into (clean, noise)."""
        return inverse(self.path, self.target, t)

    def __call__(self, x_t: Tensor, t: Time) -> Estimate:
        return self.solved(x_t, as_time(t), self.predict(x_t, t))

    def solved(self, x_t: Tensor, t: Tensor, prediction: Tensor) -> Estimate:
        """The pair that a prediction of the target at x_t (B, ...) and t (0-dim or (B,)) stands for."""
        matrix = self.inverse(t)
        (cx, cq), (nx, nq) = ([align(entry, x_t) for entry in row.unbind(-1)] for row in matrix.unbind(-2))
        return Estimate(cx * x_t + cq * prediction, nx * x_t + nq * prediction)


def _ask(
    network: Callable[..., Tensor], c_noise: Tensor, c_in: float | None, bound: tuple[Any, ...], x_t: Tensor
) -> Tensor:
    return network(x_t if c_in is None else x_t * c_in, c_noise, *bound)
