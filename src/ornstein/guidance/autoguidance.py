"""Autoguidance (Karras et al. 2024, "Guiding a diffusion model with a bad version of itself", equation 3)."""

from dataclasses import dataclass

from ornstein.guidance.classifier_free import ClassifierFree


@dataclass(frozen=True, eq=False)
class Autoguidance(ClassifierFree):
    """D = D_weak + w·(D − D_weak): away from what a weaker model gets wrong, with the same condition for both.

    `Autoguidance(denoiser, weaker, scale)`. The weaker one is an earlier checkpoint, or a smaller network trained for less; with
    other errors than the first (more of the same kind of errors is the point) it costs a second call, of a smaller network.
    Source: Karras et al. 2024, equation 3. Raises ValueError for denoisers on two paths.
    """


CONTRASTS = (Autoguidance,)
