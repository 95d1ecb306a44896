"""Guidance from the difference of two denoisers at the same (x_t, t); both passes are one call where one network makes them."""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ornstein.denoiser import Denoiser, NetworkDenoiser, Predictor
from ornstein.estimate import Estimate
from ornstein.guidance.guided_denoiser import GuidedDenoiser, Scale, scale_at
from ornstein.path import Time


@dataclass(frozen=True, eq=False)
class Contrast(GuidedDenoiser):
    """Abstract: a subclass combines the estimates of `conditional` and `unconditional` at a scale.

    At scale 1 the conditional denoiser alone is called, so the result is its own to the last bit. When both are
    `NetworkDenoiser`s of one network, their two passes are one call on a batch twice as long: first the rows of the conditional
    one, then those of the other. Raises ValueError when built from denoisers on two paths.
    """

    conditional: Denoiser
    unconditional: Denoiser
    scale: Scale = 1.0

    def __post_init__(self) -> None:
        if self.conditional.path != self.unconditional.path:
            raise ValueError(
                f"{type(self).__name__}: one denoiser is on {self.conditional.path}, the other on "
                f"{self.unconditional.path}; guidance compares estimates at one noise level, so both need the same path"
            )

    @abstractmethod
    def combine(self, t: Time, scale: float | Tensor, conditional: Estimate, unconditional: Estimate) -> Estimate:
        """The guided estimate; `scale` is a number, or (B, 1, ...)."""

    @property
    def plain(self) -> Denoiser:
        return self.conditional

    def both(self, x_t: Tensor, t: Time) -> tuple[Estimate, Estimate]:
        """The guided and the conditional estimate."""
        scale = scale_at(self.scale, t, x_t)
        if isinstance(scale, float) and scale == 1:
            conditional = self.conditional(x_t, t)
            return conditional, conditional
        conditional, unconditional = self._estimates(x_t, t)
        return self.combine(t, scale, conditional, unconditional), conditional

    def predictors(self, times: Tensor, like: Tensor) -> list[Callable[[Tensor], Tensor]] | None:
        """At scale 1 the predictors of the conditional denoiser, so that solvers run it as if it were alone (see `Predictor`)."""
        if self.scale == 1 and isinstance(self.conditional, Predictor):
            return self.conditional.predictors(times, like)
        return None

    def inverse(self, t: Tensor) -> Tensor:
        """The matrices of the conditional denoiser; used only where there are `predictors`."""
        assert isinstance(self.conditional, Predictor)
        return self.conditional.inverse(t)

    def _estimates(self, x_t: Tensor, t: Time) -> tuple[Estimate, Estimate]:
        joined = together(self.conditional, self.unconditional, len(x_t))
        if joined is None:
            return self.conditional(x_t, t), self.unconditional(x_t, t)
        clean, noise = joined(torch.cat([x_t, x_t]), torch.cat([t, t]) if isinstance(t, Tensor) and t.ndim else t)
        (c, u), (c_noise, u_noise) = clean.chunk(2), noise.chunk(2)
        return Estimate(c, c_noise), Estimate(u, u_noise)


def together(first: Denoiser, second: Denoiser, batch: int) -> NetworkDenoiser | None:
    """One denoiser for the rows of both, where one network can answer them in one call; else None.

    That takes conditions whose tensors all have a row for each of the `batch`. Where one of them has no condition it gets the
    null condition of a network that has one: label `network.classes`, and zeros for a set, a vector or an image.
    """
    if not (isinstance(first, NetworkDenoiser) and isinstance(second, NetworkDenoiser)):
        return None
    if first.network is not second.network or (first.target, first.preconditioning) != (
        second.target,
        second.preconditioning,
    ):
        return None
    try:
        condition = _stack(first.condition, second.condition, getattr(first.network, "classes", None), batch)
    except _NotAlike:
        return None
    return replace(first, condition=condition)


class _NotAlike(Exception):
    """Two conditions that cannot stand in one batch."""


def _stack(first: Any, second: Any, classes: int | None, batch: int) -> Any:
    if first is None and second is None:
        return None
    if first is None:
        first = _null(second, classes)
    elif second is None:
        second = _null(first, classes)
    if isinstance(first, tuple) and isinstance(second, tuple) and len(first) == len(second):
        return tuple(_stack(a, b, classes, batch) for a, b in zip(first, second, strict=True))
    if isinstance(first, dict) and isinstance(second, dict) and first.keys() == second.keys():
        return {name: _stack(part, second[name], classes, batch) for name, part in first.items()}
    alike = isinstance(first, Tensor) and isinstance(second, Tensor) and first.dtype == second.dtype
    if alike and first.ndim and first.shape == second.shape and len(first) == batch:
        return torch.cat([first, second])
    raise _NotAlike


def _null(like: Any, classes: int | None) -> Any:
    if isinstance(like, tuple):
        return tuple(None if part is None else _null(part, classes) for part in like)
    if classes is None or not isinstance(like, Tensor):
        raise _NotAlike
    zeros = like.is_floating_point() or like.dtype is torch.bool
    return torch.zeros_like(like) if zeros else torch.full_like(like, classes)
