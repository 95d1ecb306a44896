"""SDEdit (Meng et al. 2022, "SDEdit: guided image synthesis and editing with stochastic differential equations")."""

import torch
from torch import Tensor

from ornstein.arguments import as_noise, as_solver, as_tensor, as_times, check_denoiser, keywords
from ornstein.denoiser import Denoiser
from ornstein.noise import NoiseSource
from ornstein.path import Path
from ornstein.sampling import Report, sample
from ornstein.solvers import Solver


@keywords
def sdedit(
    denoiser: Denoiser,
    x: Tensor,
    strength: float = 0.5,
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
    """x (B, ...) with noise of the given strength, α(t)·x + σ(t)·ξ, sampled from there to the data: algorithm 1 on any path.

    The `strength` σ/(α + σ) in (0, 1] is the time t itself on the linear path and the same amount of noise on every other; the
    more, the less is left of x. The solver's own grid, begun at that level, has `steps` steps. Row i depends on the
    seed and i alone; the other arguments are those of `sample`.
    Raises ValueError for a strength outside (0, 1], or below the noise that the path never leaves. Source: Meng et al. 2022.
    """
    check_denoiser("sdedit", denoiser)
    method, source, x = as_solver(solver), as_noise(noise, seed), as_tensor("sdedit", "x", x).to(device, dtype)
    times = begun(denoiser.path, as_times(denoiser.path, method, steps, None), strength)
    t = float(times[0])
    alpha, sigma = denoiser.path.levels(t, x)
    start = alpha * x + sigma * source(x, t, t)
    return sample(
        denoiser, start=start, solver=method, grid=times, noise=source, batch_size=batch_size, progress=progress
    )


def begun(path: Path, grid: Tensor, strength: float) -> Tensor:
    """A falling grid moved to begin where σ/(α + σ) = strength, or at its own first time where that is later.

    The gaps keep their proportions in s = σ/(α + σ): s' = s_0 + (s − s_0)·(strength − s_0)/(s_1 − s_0).
    """
    if not 0 < strength <= 1:
        raise ValueError(f"strength = {strength} must lie in (0, 1]: 0 leaves x as it is, 1 makes all of it anew")
    alpha, sigma = path.alpha(grid), path.sigma(grid)
    s = sigma / (alpha + sigma)
    if strength <= s[-1]:
        raise ValueError(f"strength = {strength} is below the noise that {path} has at its end, {float(s[-1]):.3g}")
    if strength >= s[0]:
        return grid
    moved = s[-1] + (s - s[-1]) * ((strength - s[-1]) / (s[0] - s[-1]))
    return torch.cat([path.time(-2 * (moved[:-1] / (1 - moved[:-1])).log()), grid[-1:]])
