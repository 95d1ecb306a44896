"""The encode–decode round trip: what a denoiser keeps of data."""

from torch import Tensor

from ornstein.denoiser import Denoiser
from ornstein.sampling import encode, sample
from ornstein.solvers import Sampler, Solver


def reconstruct(
    denoiser: Denoiser,
    x: Tensor,
    *,
    solver: Solver | Sampler | None = None,
    steps: int = 20,
    grid: Tensor | None = None,
) -> Tensor:
    """x (B, ...) encoded to noise and sampled back on the same grid: x again, up to the solver's error twice.

    How far it is from x tells whether the steps suffice for edits by encoding. Raises ValueError for a solver that adds noise.
    """
    code = encode(denoiser, x, solver=solver, steps=steps, grid=grid)
    return sample(denoiser, start=code, solver=solver, steps=steps, grid=grid)
