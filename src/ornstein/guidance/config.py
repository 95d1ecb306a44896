"""A choice of guidance as a value: everything but the model and its condition, to be named, saved and repeated."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from ornstein.denoiser import Denoiser
from ornstein.guidance.classifier_free import ClassifierFree
from ornstein.guidance.guided_denoiser import GuidedDenoiser, Scale
from ornstein.guidance.interval import Interval
from ornstein.guidance.rescaled import Rescaled


class Conditional(Denoiser, Protocol):
    """A denoiser to which a condition can be bound: `NetworkDenoiser`, `exact.GaussianMixture`; unbound, it is unconditional."""

    def given(self, condition: Any, /) -> Denoiser:
        """The denoiser under a condition."""
        ...


Guidance = Callable[[Conditional, Any], Denoiser]
"""guidance(model, condition) -> the denoiser to sample: of a model without a condition, and the condition of a batch or None."""


def unconditional(model: Conditional, condition: Any) -> Denoiser:
    """The model without a condition."""
    return model


@dataclass(frozen=True)
class NegativeLabel:
    """The model with one other class for all rows: guidance goes away from it.

    `label` is the class by number or name, which a `Run` looks up among its own; a denoiser alone knows no names, and takes it
    for the `index`. Raises TypeError when it is called for a name whose index is not known.
    """

    label: int | str
    index: int | None = None

    def __str__(self) -> str:
        return f"not {self.label}"

    def __call__(self, model: Conditional, condition: Tensor) -> Denoiser:
        index = self.label if self.index is None else self.index
        if isinstance(index, str):
            raise TypeError(
                f"NegativeLabel({index!r}): a denoiser knows classes by their indices alone; give index=..."
            )
        return model.given(torch.full_like(condition, index))


@dataclass(frozen=True)
class WeakModel:
    """Another model with the same condition, for autoguidance; `name` says which, where the choice is written down."""

    model: Conditional = field(repr=False)
    name: str = "a weaker model"

    def __str__(self) -> str:
        return f"away from {self.name}"

    def __call__(self, model: Conditional, condition: Any) -> Denoiser:
        return self.model.given(condition)


@dataclass(frozen=True)
class GuidanceConfig:
    """A choice of guidance: `method(model.given(condition), negative(model, condition), scale)`; by default none.

    Guided at noise levels σ/α between `levels` alone, `rescale`d where that is above 0 (`Rescaled`). At scale 1 the result is
    `model.given(condition)` itself. Raises ValueError for numbers that mean nothing; when called, for levels that the model's
    path does not have, or two models on two paths.
    """

    scale: Scale = 1.0
    method: Callable[[Denoiser, Denoiser, Scale], GuidedDenoiser] = ClassifierFree
    levels: tuple[float, float] = (0.0, math.inf)
    rescale: float = 0.0
    negative: Guidance = unconditional

    def __post_init__(self) -> None:
        if not (callable(self.scale) or math.isfinite(self.scale)):
            raise ValueError(f"GuidanceConfig: scale = {self.scale} must be a finite number, or a function of t")
        low, high = self.levels
        if not 0 <= low < high:
            raise ValueError(
                f"GuidanceConfig: levels = {low}, {high} must rise from 0 or more; they are noise levels σ/α"
            )
        if not 0 <= self.rescale <= 1:
            raise ValueError(f"GuidanceConfig: rescale = {self.rescale} must lie in [0, 1]")

    @property
    def plain(self) -> bool:
        """Whether the model is sampled without guidance."""
        return self.scale == 1

    @property
    def named(self) -> bool:
        """Whether `str` says all there is to know: a number as scale, and a method and a model to go away from by name."""
        return (
            not callable(self.scale)
            and isinstance(self.method, type)
            and (self.negative is unconditional or isinstance(self.negative, (NegativeLabel, WeakModel)))
        )

    def __str__(self) -> str:
        if self.plain:
            return "no guidance"
        low, high = self.levels
        words = [
            f"guidance {'that varies' if callable(self.scale) else _short(self.scale)}",
            "" if self.method is ClassifierFree else getattr(self.method, "__name__", str(self.method)),
            "" if self.levels == (0, math.inf) else f"levels {_short(low)} to {_short(high)}",
            f"rescaled {_short(self.rescale)}" if self.rescale else "",
            "" if self.negative is unconditional else str(self.negative),
        ]
        return ", ".join(filter(None, words))

    @property
    def slug(self) -> str:
        """`str` as a part of a file's name."""
        return re.sub(r"[^\w.]+", "-", str(self))

    def __call__(self, model: Conditional, condition: Any) -> Denoiser:
        conditional = model.given(condition)
        if self.plain:
            return conditional
        guided = self.method(conditional, self.negative(model, condition), self.scale)
        if self.rescale:
            guided = Rescaled(guided, self.rescale)
        return guided if self.levels == (0, math.inf) else Interval.levels(guided, *self.levels)


PLAIN = GuidanceConfig()


def _short(value: float) -> str:
    return str(float(value)).removesuffix(".0")
