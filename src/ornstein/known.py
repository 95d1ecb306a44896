"""Denoisers of an item of which a part is known: in whole, for samplers, and of the unknown numbers alone, for likelihoods.

In training a network sees 0 for x_t where a number is known, and the number itself in its condition (`conditions.Known`). So the
posterior mean of the unknown is the network's, that of the known is the known number, and its noise what is left of x_t.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ornstein.denoiser import Denoiser, NetworkDenoiser, Views, for_rows
from ornstein.estimate import Estimate
from ornstein.path import Path, Point, Time, as_time

LEAST = 1e-6  # of σ/α, below which what is left of x_t is no noise but rounding


@dataclass(frozen=True, eq=False)
class KnownDenoiser(NetworkDenoiser):
    """The denoiser of a network whose condition holds known numbers: its estimate is exact where they are."""

    def predict(self, x_t: Tensor, t: Time) -> Tensor:
        """The prediction at x_t (B, ...): the network's where a number is unknown, that of the known number elsewhere."""
        held = _held(self.condition, x_t)
        if held is None:
            return NetworkDenoiser.predict(self, x_t, t)
        return self._held(held, self.path.at(t, x_t), partial(NetworkDenoiser.predict, self, t=t), x_t)

    def predictors(self, times: Tensor, like: Tensor) -> list[Callable[[Tensor], Tensor]]:
        """`predict` at each of the times (M,) for batches like `like`."""
        asks = NetworkDenoiser.predictors(self, times, like)
        held = _held(self.condition, like)
        if held is None:
            return asks
        points = [self.path.at(float(t), like) for t in times]
        return [partial(self._held, held, point, ask) for point, ask in zip(points, asks, strict=True)]

    def _held(self, held: tuple[Tensor, Tensor], point: Point, ask: Callable[[Tensor], Tensor], x_t: Tensor) -> Tensor:
        values, where = held
        predicted = ask(torch.where(where, 0.0, x_t))
        point = point._replace(sigma=point.sigma.maximum(LEAST * point.alpha))
        a, b = self.target(point)
        exact = a * values + b * (x_t - point.alpha * values) / point.sigma
        return torch.where(where, exact, predicted)


def _held(condition: Any, like: Tensor) -> tuple[Tensor, Tensor] | None:
    """The numbers that are not estimated, shaped as a batch, and where they are; None without a condition of known numbers."""
    for part in condition if isinstance(condition, tuple) else (condition,):
        if isinstance(part, Tensor) and part.ndim > 2:  # as networks tell an image from a vector
            values, marks = (half.reshape(len(part), *like.shape[1:]) for half in part.chunk(2, 1))
            return values.to(like.dtype), marks != 0
    return None


@dataclass(frozen=True, eq=False)
class Rest(Views):
    """A denoiser of U numbers of each item alone, x_t (B, U), by a denoiser of whole items that ignores x_t elsewhere.

    `places` (B, U) are theirs in an item of `shape`, flat.
    """

    denoiser: Denoiser
    places: Tensor
    shape: tuple[int, ...]

    @property
    def path(self) -> Path:
        return self.denoiser.path

    def for_rows(self, rows: slice | Tensor, x: Tensor) -> "Rest":
        """The denoiser for some rows of a batch."""
        whole = x.new_zeros(len(x), *self.shape)
        return Rest(for_rows(self.denoiser, rows, whole), self.places[rows], self.shape)

    def __call__(self, x_t: Tensor, t: Time) -> Estimate:
        whole = x_t.new_zeros(len(x_t), math.prod(self.shape)).scatter(1, self.places, x_t)
        estimate = self.denoiser(whole.reshape(-1, *self.shape), as_time(t) if isinstance(t, Tensor) else t)
        return Estimate(*(part.flatten(1).gather(1, self.places) for part in estimate))
