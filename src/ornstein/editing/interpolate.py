"""Interpolation between data through their encodings (Song, Meng and Ermon 2021, DDIM, section 5.3)."""

from typing import Any

import torch
from torch import Tensor

from ornstein.arguments import as_tensor, check_denoiser, keywords
from ornstein.denoiser import Denoiser
from ornstein.guidance.guided_denoiser import inner
from ornstein.path import align
from ornstein.sampling import Report, encode, sample, shares
from ornstein.solvers import Solver


def slerp(a: Tensor, b: Tensor, weight: Tensor | float) -> Tensor:
    """Along the great circle from a to b, (B, ...): (sin((1 − w)θ)·a + sin(wθ)·b)/sin θ, θ the angle between them, each row's.

    Shoemake 1985; equation 67 of the paper. An average of two independent noises has standard deviation √½ in the middle, this
    one keeps it. w is a number or (B,). Where the directions are equal (or opposite) it is the straight line.
    """
    w = align(torch.as_tensor(weight, device=a.device, dtype=a.dtype), a)
    cosine = inner(a, b) / (inner(a, a) * inner(b, b)).sqrt().clamp_min(torch.finfo(a.dtype).tiny)
    angle = torch.acos(cosine.clamp(-1, 1))
    sine = angle.sin()
    flat = sine < 1e-4
    sine = torch.where(flat, 1, sine)
    on_a = torch.where(flat, 1 - w, ((1 - w) * angle).sin() / sine)
    on_b = torch.where(flat, w, (w * angle).sin() / sine)
    return on_a * a + on_b * b


@keywords
def interpolate(
    denoiser: Denoiser,
    a: Tensor,
    b: Tensor,
    frames: int = 8,
    *,
    solver: Solver | str | None = None,
    steps: int = 20,
    grid: Tensor | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    batch_size: int | None = None,
    progress: Report | None = None,
) -> Tensor:
    """`frames` data (frames, ...) from a to b, one item each (1, ...): `slerp` of their encodings, sampled on the same grid.

    The first and the last frame are a and b after an encode–decode round trip. The other arguments are those of `sample`.
    Raises ValueError for fewer than two frames, for a and b of different shapes, and for a solver that adds noise. Source:
    Song, Meng and Ermon 2021, section 5.3.
    """
    check_denoiser("interpolate", denoiser)
    as_tensor("interpolate", "a", a)
    as_tensor("interpolate", "b", b)
    if frames < 2:
        raise ValueError(f"frames = {frames}: give at least two, the ends")
    if a.shape != b.shape or len(a) != 1:
        raise ValueError(
            f"interpolate needs two items of one shape (1, ...), not {tuple(a.shape)} and {tuple(b.shape)}"
        )
    there, back = shares(progress, 2)
    way: dict[str, Any] = {"solver": solver, "steps": steps, "grid": grid, "batch_size": batch_size}
    codes = encode(denoiser, torch.cat([a, b]), **way, device=device, dtype=dtype, progress=there)
    first, last = (code.expand(frames, *code.shape[1:]) for code in codes.split(1))
    between = slerp(first, last, torch.linspace(0, 1, frames, dtype=codes.dtype, device=codes.device))
    return sample(denoiser, start=between, **way, progress=back)
