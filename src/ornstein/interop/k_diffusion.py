"""k-diffusion and ComfyUI: their models as denoisers, and our solvers as their samplers.

A model is called as model(x, σ, **extra_args) and answers E[x | x_t]: on x + σ·ε, or, where ComfyUI's sampling type is a flow, on
(1 − σ)·x + σ·ε.
"""

from ornstein.interop.convention import Convention, NoiseClock
from ornstein.path import EDM, Linear
from ornstein.target import Clean


def convention(sigma_max: float = 80.0, *, flow: bool = False) -> Convention:
    """model(x, σ) up to σ = sigma_max; `flow`: on the linear path, where σ ends at 1."""
    return Convention(Linear() if flow else EDM(sigma_max), Clean(), NoiseClock())
