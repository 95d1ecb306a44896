"""Inpainting by replacement (Song et al. 2021, "Score-based generative modeling through SDEs", appendix I.2)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ornstein.denoiser import Denoiser
from ornstein.estimate import Estimate
from ornstein.noise import NoiseSource, PerSampleNoise
from ornstein.path import Path, Time
from ornstein.sampling import DEFAULT, begin, sample
from ornstein.solvers import Sampler, Solver


@dataclass(frozen=True, eq=False)
class Replacement:
    """A denoiser told what is `known`: where `kept` is 1, clean is the known data and noise = (x_t − α·known)/σ.

    Any solver then runs the known part exactly: an ODE solver keeps its noise, a solver of the SDE draws it from the forward
    process given the known data. The rest follows the denoiser, which sees the known part with its noise. That is no posterior:
    what is filled in at high noise cannot agree with details that appear later. `RePaint` goes back and forth to mend it,
    `MMPS` with a `Mask` needs no mending. kept: 0 and 1, and known: data, both broadcast against x_t (B, ...).
    """

    denoiser: Denoiser
    known: Tensor
    kept: Tensor

    @property
    def path(self) -> Path:
        return self.denoiser.path

    def __call__(self, x_t: Tensor, t: Time) -> Estimate:
        alpha, sigma = self.path.levels(t, x_t)
        clean, noise = self.denoiser(x_t, t)
        kept, known, still = self.kept.to(x_t).bool(), self.known.to(x_t), sigma == 0
        clean = torch.where(kept & ~still, known, clean)
        rest = torch.where(still, 0, (x_t - alpha * known) / torch.where(still, 1, sigma))
        return Estimate(clean, torch.where(kept, rest, noise))


def inpaint(
    denoiser: Denoiser,
    known: Tensor,
    kept: Tensor,
    *,
    solver: Solver | Sampler | None = None,
    steps: int = 20,
    noise: NoiseSource | None = None,
) -> Tensor:
    """Data (B, ...) equal to `known` (B, ...) where `kept` is 1, and filled in elsewhere (`Replacement`).

    `solver=RePaint()` is that method. Raises ValueError for shapes that do not fit.
    """
    try:
        shape = torch.broadcast_shapes(known.shape, kept.shape)
    except RuntimeError:
        shape = torch.Size()
    if shape != known.shape:
        raise ValueError(f"kept of shape {tuple(kept.shape)} does not broadcast to known, {tuple(known.shape)}")
    told, solver, noise = Replacement(denoiser, known, kept), solver or DEFAULT, noise or PerSampleNoise()
    times = solver.grid(told.path, steps)
    start = begin(told.path, known, float(times[0]), noise)
    made = sample(told, start=start, solver=solver, grid=times, noise=noise)
    return torch.where(kept.to(made).bool(), known.to(made), made)
