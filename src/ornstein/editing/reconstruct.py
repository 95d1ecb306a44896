"""The encode–decode round trip: what a denoiser keeps of data."""

from typing import Any

import torch
from torch import Tensor

from ornstein.arguments import keywords
from ornstein.denoiser import Denoiser
from ornstein.sampling import Report, encode, sample, shares
from ornstein.solvers import Solver


@keywords
def reconstruct(
    denoiser: Denoiser,
    x: Tensor,
    *,
    solver: Solver | str | None = None,
    steps: int = 20,
    grid: Tensor | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    batch_size: int | None = None,
    progress: Report | None = None,
) -> Tensor:
    """x (B, ...) encoded to noise and sampled back on the same grid: x again, up to the solver's error twice.

    How far it is from x tells whether the steps suffice for edits by encoding. The arguments are those of `sample`. Raises
    ValueError for a solver that adds noise.
    """
    there, back = shares(progress, 2)
    way: dict[str, Any] = {"solver": solver, "steps": steps, "grid": grid, "batch_size": batch_size}
    code = encode(denoiser, x, **way, device=device, dtype=dtype, progress=there)
    return sample(denoiser, start=code, **way, progress=back)
