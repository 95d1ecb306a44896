"""denoising-diffusion-pytorch: model(x, i) inside its `GaussianDiffusion`, which holds the β-table and what is predicted.

Its networks work on data in [−1, 1], and so does the denoiser; `GaussianDiffusion` itself takes and gives [0, 1].
"""

from typing import Any

from torch import Tensor

from ornstein.denoiser import NetworkDenoiser
from ornstein.interop.convention import Convention, TimeClock, wrap
from ornstein.names import pick
from ornstein.path import Betas
from ornstein.target import Clean, Noise, Target, V

OBJECTIVES: dict[str, Target] = {"pred_noise": Noise(), "pred_x0": Clean(), "pred_v": V()}


def convention(betas: Tensor, objective: str = "pred_v") -> Convention:
    """A β-table (T,) and one of its objectives. Raises UsageError for another."""
    path = Betas(betas)
    return Convention(
        path,
        pick("objective", objective, OBJECTIVES),
        TimeClock(path.steps, -1.0),
        levels=path.steps,
    )


def denoiser(diffusion: Any, condition: Any = None) -> NetworkDenoiser:
    """A `GaussianDiffusion` (its `model`, `betas`, `objective`) as a denoiser on data in [−1, 1]."""
    return wrap(diffusion.model, convention(diffusion.betas, diffusion.objective), condition)
