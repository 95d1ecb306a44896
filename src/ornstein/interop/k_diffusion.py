"""k-diffusion and ComfyUI: their models as denoisers, and our solvers as their samplers.

A model is called as model(x, σ, **extra_args) and returns E[x | x_t]: on x + σ·ε, or, where ComfyUI's sampling type is a flow, on
(1 − σ)·x + σ·ε.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from ornstein.arguments import as_solver
from ornstein.denoiser import NetworkDenoiser
from ornstein.estimate import Estimate
from ornstein.interop.convention import Convention, NoiseClock, time_of_noise, wrap
from ornstein.noise import NoiseSource, PerSampleNoise
from ornstein.path import EDM, Linear
from ornstein.solvers import Solver
from ornstein.target import Clean

Sampler = Callable[..., Tensor]


def convention(sigma_max: float = 80.0, *, flow: bool = False) -> Convention:
    """model(x, σ) up to σ = sigma_max; `flow`: on the linear path, where σ ends at 1."""
    return Convention(Linear() if flow else EDM(sigma_max), Clean(), NoiseClock())


def denoiser(
    model: Callable[..., Any], condition: Any = None, *, sigma_max: float | None = None, flow: bool | None = None
) -> NetworkDenoiser:
    """A model as a denoiser; condition: a dict of its extra arguments.

    sigma_max None: the largest of the model's own `sigmas`, else 80. flow None: whether it says so (`is_flow`).
    """
    flow = is_flow(model) if flow is None else flow
    if sigma_max is None:
        own = getattr(model, "sigmas", None)
        sigma_max = float(own.max()) if isinstance(own, Tensor) and own.numel() else 80.0
    return wrap(model, convention(sigma_max, flow=flow), condition)


def is_flow(model: Any) -> bool:
    """Whether a model of ComfyUI says that its sampling type is a flow: `model_sampling` is then a `CONST`."""
    for _ in range(4):
        kind = getattr(model, "model_sampling", None)
        if kind is not None:
            return any(base.__name__ == "CONST" for base in type(kind).__mro__)
        model = getattr(model, "inner_model", None)
    return False


def sampler(solver: Solver | str | None = None, *, own_grid: bool = True, flow: bool | None = None) -> Sampler:
    """A sampler as k-diffusion and ComfyUI call it: sample(model, x, sigmas, extra_args=, callback=, disable=, seed=) -> Tensor.

    `own_grid`: the first and the last of the sigmas are the caller's, and those between the solver's own, as many as there were,
    none below the caller's smallest positive one. False: all are the caller's.
    Noise is drawn by row from the seed, `seed=` or that in extra_args, else from torch's own generator.
    Raises ValueError for sigmas that do not fall, or that do not begin at 1 or below for a flow.
    """
    method = as_solver(solver)

    @torch.no_grad()
    def sample(
        model: Callable[..., Any],
        x: Tensor,
        sigmas: Tensor,
        extra_args: Mapping[str, Any] | None = None,
        callback: Callable[[dict[str, Any]], object] | None = None,
        disable: bool | None = None,
        *,
        seed: int | None = None,
    ) -> Tensor:
        arguments = dict(extra_args or {})
        seed = arguments.get("seed") if seed is None else seed
        levels = torch.as_tensor(sigmas).detach().to("cpu", torch.float64)
        straight = is_flow(model) if flow is None else flow
        _check(levels, straight)
        rule = convention(float(levels[0]), flow=straight)
        times = time_of_noise(rule.path, levels)
        if own_grid:
            times = _between(method.grid(rule.path, len(levels) - 1), times, levels)
        noise: NoiseSource = (lambda x, t, s: torch.randn_like(x)) if seed is None else PerSampleNoise(int(seed))
        wrapped = wrap(model, rule, arguments or None)
        result, bar = x, _progress(len(times) - 1, disable)
        for i, step in enumerate(method.run(wrapped, x, times, noise)):
            result = step.x
            if i < len(times) - 1:
                _report(callback, i, step.x, float(rule.path.sigma(torch.tensor(step.t))), step.estimate)
                bar(1)
        return result

    return sample


def _check(levels: Tensor, flow: bool) -> None:
    if levels.ndim != 1 or len(levels) < 2:
        raise ValueError(f"sigmas must be a 1-D tensor of at least two levels, not of shape {tuple(levels.shape)}")
    if not bool((levels.diff() < 0).all()) or levels[-1] < 0:
        raise ValueError(f"sigmas must fall strictly and end at 0 or above, not {levels.tolist()!r:.200}")
    if flow and levels[0] > 1:
        raise ValueError(f"sigmas of a flow begin at 1 or below, not at {float(levels[0]):g}")


def _between(own: Tensor, times: Tensor, levels: Tensor) -> Tensor:
    """The solver's own times, moved linearly to the caller's ends; none before the last is below its smallest positive one."""
    first, last = times[0], times[-1]
    grid = last + (first - last) * (own - own[-1]) / (own[0] - own[-1])
    inner = times[levels > 0][-1] if levels[-1] == 0 else last
    if len(grid) > 2 and grid[-2] < inner < first:
        grid = torch.cat([first - (first - grid[:-1]) * ((first - inner) / (first - grid[-2])), grid[-1:]])
    return grid


def _report(callback: Any, i: int, x: Tensor, sigma: float, estimate: Estimate) -> None:
    if callback is not None:
        level = x.new_tensor(sigma)
        callback({"x": x, "i": i, "sigma": level, "sigma_hat": level, "denoised": estimate.clean})


def _progress(total: int, disable: bool | None) -> Callable[[int], object]:
    """A bar of tqdm where it is installed, as callers expect."""
    if disable:
        return lambda n: None
    try:
        from tqdm.auto import tqdm
    except ImportError:
        return lambda n: None
    bar = tqdm(total=total, disable=disable)
    return lambda n: bar.update(n)
