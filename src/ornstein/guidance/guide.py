"""A choice of guidance as a value: everything but the denoisers, so that it can be named, kept and repeated."""

from collections.abc import Callable
from dataclasses import dataclass

from ornstein.denoiser import Denoiser
from ornstein.guidance.classifier_free import ClassifierFree
from ornstein.guidance.guided import Guided
from ornstein.guidance.interval import Interval
from ornstein.guidance.rescaled import Rescaled


@dataclass(frozen=True)
class Guide:
    """`method(conditional, unconditional, scale)`, rescaled and within an interval of times where that is asked for.

    Called with the two denoisers it gives the guided one; at scale 1 that is the conditional one itself.
    """

    scale: float = 1.0
    method: Callable[[Denoiser, Denoiser, float], Guided] = ClassifierFree
    interval: tuple[float, float] = (0.0, 1.0)
    rescale: float = 0.0

    def __call__(self, conditional: Denoiser, unconditional: Denoiser) -> Denoiser:
        if self.scale == 1:
            return conditional
        guided = self.method(conditional, unconditional, self.scale)
        if self.rescale:
            guided = Rescaled(guided, self.rescale)
        return guided if self.interval == (0.0, 1.0) else Interval(guided, *self.interval)
