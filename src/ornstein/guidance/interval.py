"""Guidance in a limited interval (Kynkäänniemi et al. 2024, "Applying guidance in a limited interval ...", equation 7)."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from ornstein.denoiser import Denoiser, Predictor
from ornstein.estimate import Estimate
from ornstein.guidance.guided_denoiser import GuidedDenoiser
from ornstein.path import Time, align, as_time


@dataclass(frozen=True, eq=False)
class Interval(GuidedDenoiser):
    """D = D_guided where low < t ≤ high, D_plain elsewhere.

    Without guidance at high noise diversity stays, at low noise calls are saved.

    Raises ValueError unless 0 ≤ low < high ≤ 1. Source: Kynkäänniemi et al. 2024, equation 7.
    """

    guided: GuidedDenoiser
    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.low < self.high <= 1:
            raise ValueError(f"Interval: needs 0 <= low < high <= 1 (times), not {self.low} and {self.high}")

    @classmethod
    def levels(cls, guided: GuidedDenoiser, low: float, high: float) -> Self:
        """The interval between two noise levels σ/α, as in the paper (there σ): low = 0 and high = inf are the ends."""
        ends = [-2 * (math.log(level) if level > 0 else -math.inf) for level in (low, high)]
        first, last = (float(guided.path.time(torch.tensor(end, dtype=torch.float64))) for end in ends)
        if not max(first, 0.0) < min(last, 1.0):
            raise ValueError(f"{guided.path} has no noise levels σ/α from {low:g} to {high:g}")
        return cls(guided, max(first, 0.0), min(last, 1.0))

    @property
    def plain(self) -> Denoiser:
        return self.guided.plain

    def inside(self, t: Tensor) -> Tensor:
        """Where guidance applies, shaped as t."""
        return (t > self.low) & (t <= self.high)

    def both(self, x_t: Tensor, t: Time) -> tuple[Estimate, Estimate]:
        """The guided and the plain estimate, which are one outside."""
        inside = self.inside(as_time(t))
        if not bool(inside.any()):
            plain = self.plain(x_t, t)
            return plain, plain
        guided, plain = self.guided.both(x_t, t)
        if inside.ndim:
            mask = align(inside, x_t).bool()
            guided = Estimate(*(torch.where(mask, g, p) for g, p in zip(guided, plain, strict=True)))
        return guided, plain

    def predictors(self, times: Tensor, like: Tensor) -> list[Callable[[Tensor], Tensor]] | None:
        """The guided or the plain predictor at each time (see `Predictor`), where both predictions are inverted alike."""
        if not (isinstance(self.guided, Predictor) and isinstance(self.plain, Predictor)):
            return None
        guided, plain = self.guided.predictors(times, like), self.plain.predictors(times, like)
        if guided is None or plain is None or not torch.equal(self.inverse(times), self.plain.inverse(times)):
            return None
        return [g if i else p for g, p, i in zip(guided, plain, self.inside(times).tolist(), strict=True)]

    def inverse(self, t: Tensor) -> Tensor:
        """The matrices of the guided denoiser; used only where there are `predictors`."""
        assert isinstance(self.guided, Predictor)
        return self.guided.inverse(t)
