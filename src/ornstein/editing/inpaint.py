"""Inpainting by replacement (Song et al. 2021, "Score-based generative modeling through SDEs", appendix I.2)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ornstein.arguments import as_noise, as_solver, as_tensor, as_times, check_denoiser, keywords
from ornstein.denoiser import Denoiser, Views, for_rows
from ornstein.estimate import Estimate
from ornstein.noise import NoiseSource
from ornstein.path import Path, Time
from ornstein.sampling import Report, begin, sample
from ornstein.solvers import Solver


@dataclass(frozen=True, eq=False)
class Replacement(Views):
    """A denoiser that knows a part of the data: where `mask` is 1, clean is `known` and noise = (x_t − α·known)/σ.

    Any solver then runs the known part exactly: an ODE solver keeps its noise, a solver of the SDE draws it from the forward
    process given the known data. The rest follows the denoiser, which sees the known part with its noise. That is no posterior:
    what is filled in at high noise cannot agree with details that appear later. `RePaint` goes back and forth to mend it,
    `MMPS` with a `Mask` needs no mending. mask: 0 and 1, and known: data, both broadcast against x_t (B, ...). Source: Song et
    al. 2021, appendix I.2.
    """

    denoiser: Denoiser
    known: Tensor
    mask: Tensor

    @property
    def path(self) -> Path:
        return self.denoiser.path

    def for_rows(self, rows: slice, x: Tensor) -> "Replacement":
        """The denoiser for some rows of a batch x: `known` and `mask` are cut where they have a row for each."""
        known, mask = (
            part[rows] if part.ndim == x.ndim and len(part) == len(x) else part for part in (self.known, self.mask)
        )
        return Replacement(for_rows(self.denoiser, rows, x), known, mask)

    def __call__(self, x_t: Tensor, t: Time) -> Estimate:
        alpha, sigma = self.path.levels(t, x_t)
        clean, noise = self.denoiser(x_t, t)
        mask, known, still = self.mask.to(x_t).bool(), self.known.to(x_t), sigma == 0
        clean = torch.where(mask & ~still, known, clean)
        rest = torch.where(still, 0, (x_t - alpha * known) / torch.where(still, 1, sigma))
        return Estimate(clean, torch.where(mask, rest, noise))


@keywords
def inpaint(
    denoiser: Denoiser,
    known: Tensor,
    mask: Tensor,
    *,
    solver: Solver | str | None = None,
    steps: int = 20,
    noise: NoiseSource | None = None,
    seed: int = 0,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    batch_size: int | None = None,
    progress: Report | None = None,
) -> Tensor:
    """Data (B, ...) equal to `known` (B, ...) where `mask` is 1, and filled in elsewhere (`Replacement`).

    `solver=RePaint()` is that method. The other arguments are those of `sample`. Raises ValueError for shapes that do not fit.
    """
    check_denoiser("inpaint", denoiser)
    known = as_tensor("inpaint", "known", known)
    try:
        shape = torch.broadcast_shapes(known.shape, mask.shape)
    except RuntimeError:
        shape = torch.Size()
    if shape != known.shape:
        raise ValueError(f"mask of shape {tuple(mask.shape)} does not broadcast to known, {tuple(known.shape)}")
    method, source = as_solver(solver), as_noise(noise, seed)
    times = as_times(denoiser.path, method, steps, None)
    start = begin(denoiser.path, known.to(device, dtype), float(times[0]), source)
    made = sample(
        Replacement(denoiser, known, mask),
        start=start,
        solver=method,
        grid=times,
        noise=source,
        batch_size=batch_size,
        progress=progress,
    )
    return torch.where(mask.to(made).bool(), known.to(made), made)
