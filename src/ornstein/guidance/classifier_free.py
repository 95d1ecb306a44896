"""Classifier-free guidance (Ho and Salimans 2022, "Classifier-free diffusion guidance", equation 6)."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ornstein.denoiser import Predictor
from ornstein.estimate import Estimate
from ornstein.guidance.contrast import Contrast, together
from ornstein.guidance.guided_denoiser import scale_at
from ornstein.path import Time


@dataclass(frozen=True, eq=False)
class ClassifierFree(Contrast):
    """q = (1 − w)·q_unconditional + w·q_conditional for every quantity q: clean, noise, score, velocity, prediction.

    All of them are one linear map of the estimate at a given x_t, and the weights sum to 1, so it does not matter which is
    combined and α·clean + σ·noise = x_t stays true. `scale` w = 1 is the conditional model, 0 the unconditional one (the paper's
    w is ours less 1). A denoiser of a negative condition in the place of the unconditional one steers away from it. Source: Ho
    and Salimans 2022, equation 6. Raises ValueError for denoisers on two paths.

    >>> import torch
    >>> from ornstein import exact, guidance, path
    >>> model = exact.GaussianMixture([0.5, 0.5], [[-1.0], [1.0]], 0.0, path.Linear())
    >>> guidance.ClassifierFree(model.given(1), model, 2.0)(torch.zeros(1, 1), 0.5).clean  # 2·1 − 1·0
    tensor([[2.]])
    """

    def combine(self, t: Time, scale: float | Tensor, conditional: Estimate, unconditional: Estimate) -> Estimate:
        return Estimate(*(u + scale * (c - u) for c, u in zip(conditional, unconditional, strict=True)))

    def predictors(self, times: Tensor, like: Tensor) -> list[Callable[[Tensor], Tensor]] | None:
        """Combinations of the two predictions (see `Predictor`), where both are inverted alike."""
        ours, theirs = self.conditional, self.unconditional
        if not (isinstance(ours, Predictor) and isinstance(theirs, Predictor)):
            return None
        asks, joined = ours.predictors(times, like), together(ours, theirs, len(like))
        others = theirs.predictors(times, like) if joined is None else joined.predictors(times, torch.cat([like, like]))
        if asks is None or others is None or not torch.equal(ours.inverse(times), theirs.inverse(times)):
            return None
        scales = [scale_at(self.scale, t, like) for t in times]

        def predictor(i: int) -> Callable[[Tensor], Tensor]:
            one, other, scale = asks[i], others[i], scales[i]
            if scale == 1:
                return one

            def ask(x_t: Tensor) -> Tensor:
                c, u = (one(x_t), other(x_t)) if joined is None else other(torch.cat([x_t, x_t])).chunk(2)
                return u + scale * (c - u)

            return ask

        return [predictor(i) for i in range(len(times))]


CONTRASTS = (ClassifierFree,)
