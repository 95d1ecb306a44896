"""Drawing samples: `sample`, the same run step by step (`trajectory`), and the way back (`encode`)."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ornstein.arguments import (
    DEFAULT,
    Report,
    as_noise,
    as_shape,
    as_solver,
    as_tensor,
    as_times,
    batches,
    check_denoiser,
    check_units,
    keywords,
    place_of,
)
from ornstein.denoiser import Denoiser, Predictor
from ornstein.estimate import Estimate
from ornstein.flowmap import takes_aim
from ornstein.noise import NoiseSource, PerSampleNoise
from ornstein.path import Path, Time
from ornstein.solvers import Solver
from ornstein.table import Step

__all__ = [
    "DEFAULT",
    "Recomputed",
    "Report",
    "begin",
    "encode",
    "sample",
    "shares",
    "starting",
    "steps_done",
    "trajectory",
]


@keywords
def sample(
    denoiser: Denoiser,
    shape: Sequence[int] | None = None,
    *,
    start: Tensor | None = None,
    solver: Solver | str | None = None,
    steps: int = 20,
    grid: Tensor | Sequence[float] | None = None,
    noise: NoiseSource | None = None,
    seed: int = 0,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    batch_size: int | None = None,
    progress: Report | None = None,
    differentiable: bool = False,
) -> Tensor:
    """Samples of shape (B, ...) from the denoiser's model.

    shape, start: give the `shape`, and the start is σ(t_0)·ξ at the grid's first time t_0; or the `start` itself, x at t_0.
    solver: an object of `ornstein.solvers`, or a name of `ornstein.names.SOLVERS`; None: the library's default, `ABM()`.
    steps, grid: `grid` is a falling tensor of times (see `ornstein.grid`); None takes the solver's own for that many `steps`.
    noise, seed: `noise` is a source noise(x, t, s); None draws row i from the `seed` and i alone, so a sample does not depend on
        its batch.
    device, dtype: of the samples. None: those of the start, or of the denoiser's network, or torch's defaults.
    batch_size: how many samples are made at once. It changes memory and speed, not the samples (up to rounding in the network,
        and the tolerances of `AdaptiveODE`), where noise is drawn by row. Conditions with a row for each sample are cut too.
    progress: called as progress(done, total), in steps of the grid over all batches.
    differentiable: whether the result carries gradients with respect to the start and all that the denoiser is made of. The
        network's activations are computed anew in the backward pass (Chen et al. 2016, "Training deep nets with sublinear memory
        cost"), so memory grows by a few tensors of the shape of x a step, whatever the network. Denoisers that take gradients
        themselves (energies, posteriors) pass on none.

    Raises ValueError for a bad grid, number or shape, unless exactly one of shape and start is given, and for a path with α(0)
    other than 1; TypeError for another
    kind of argument; UsageError for an unknown name.

    >>> import torch
    >>> from ornstein import exact, path, sample
    >>> sample(exact.Gaussian([5.0, 9.0], 0.01, path.Linear()), (64, 2), steps=10).mean(0).round()
    tensor([5., 9.])
    """
    check_denoiser("sample", denoiser)
    check_units(denoiser.path)
    method, source = as_solver(solver), as_noise(noise, seed)
    times = as_times(denoiser.path, method, steps, grid, falling=True)
    x = starting("sample", denoiser, shape, start, times, source, device, dtype)
    return _draw(denoiser, x, method, times, source, batch_size, progress, differentiable)


@keywords
def trajectory(
    denoiser: Denoiser,
    start: Tensor | None = None,
    *,
    shape: Sequence[int] | None = None,
    solver: Solver | str | None = None,
    steps: int = 20,
    grid: Tensor | Sequence[float] | None = None,
    noise: NoiseSource | None = None,
    seed: int = 0,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    differentiable: bool = False,
) -> Iterator[Step]:
    """The run of `sample` as a generator: one `Step` (.t .x .estimate .calls) per network call, then one with the result.

    Adaptive methods yield one for each time of their grid instead, with all calls counted. Progress bars, images and early
    stops belong to the caller. A rising grid runs from data to noise. Arguments and errors are those of `sample`.

    >>> import torch
    >>> from ornstein import exact, path, solvers, trajectory
    >>> run = trajectory(exact.Gaussian([0.0], 1.0, path.Linear()), torch.randn(4, 1), solver=solvers.DDIM(), steps=2)
    >>> [(round(float(step.t), 2), step.calls) for step in run][-1]
    (0.0, 2)
    """
    check_denoiser("trajectory", denoiser)
    method, source = as_solver(solver), as_noise(noise, seed)
    times = as_times(denoiser.path, method, steps, grid)
    x = starting("trajectory", denoiser, shape, start, times, source, device, dtype)
    run = method.run(Recomputed(denoiser) if differentiable else denoiser, x, times, source)
    return run if differentiable else _without_gradients(run)


@keywords
def encode(
    denoiser: Denoiser,
    x: Tensor,
    *,
    solver: Solver | str | None = None,
    steps: int = 20,
    grid: Tensor | Sequence[float] | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    batch_size: int | None = None,
    progress: Report | None = None,
    differentiable: bool = False,
) -> Tensor:
    """Data to noise: the same probability-flow ODE on the same grid run backward, so `sample(start=encode(x))` returns x.

    x (B, ...) is at t = 0 (the grid's last time) and the result at its first; the grid may rise or fall. The other arguments are
    those of `sample`. Raises ValueError for a solver that adds noise.

    >>> import torch
    >>> from ornstein import encode, exact, path, sample
    >>> model, x = exact.Gaussian([0.0], 1.0, path.Linear()), torch.tensor([[0.5]])
    >>> bool((sample(model, start=encode(model, x, steps=50), steps=50) - x).abs() < 1e-3)
    True
    """
    check_denoiser("encode", denoiser)
    check_units(denoiser.path)
    method = as_solver(solver)
    rising = as_times(denoiser.path, method, steps, grid).sort().values
    if method.stochastic:
        raise ValueError(
            f"{method} adds fresh noise and cannot be run backward; encode with an ODE solver such as DDIM()"
        )
    x = as_tensor("encode", "x", x).to(device, dtype)
    return _draw(denoiser, x, method, rising, PerSampleNoise(), batch_size, progress, differentiable)


def begin(path: Path, like: Tensor, t: float, noise: NoiseSource) -> Tensor:
    """The start of a run, σ(t)·ξ, shaped as `like` (B, ...): noise of the level where the grid begins."""
    return path.levels(t, like)[1] * noise(like, t, t)


def starting(
    function: str,
    denoiser: Denoiser,
    shape: Sequence[int] | None,
    start: Tensor | None,
    times: Tensor,
    noise: NoiseSource,
    device: torch.device | str | None,
    dtype: torch.dtype | None,
) -> Tensor:
    """x (B, ...) at the grid's first time. Raises ValueError unless exactly one of shape (B, ...) and start (B, ...) is given."""
    if (shape is None) == (start is None):
        raise ValueError(f"{function} needs either shape=(B, ...) or start=x, a tensor at the grid's first time")
    if start is not None:
        return as_tensor(function, "start", start).to(device, dtype)
    place, kind = place_of(denoiser, device, dtype)
    empty = torch.zeros(as_shape(function, shape), device=place, dtype=kind)
    return begin(denoiser.path, empty, float(times[0]), noise)


def _draw(
    denoiser: Denoiser,
    x: Tensor,
    solver: Solver,
    times: Tensor,
    noise: NoiseSource,
    batch_size: int | None,
    progress: Report | None,
    differentiable: bool,
) -> Tensor:
    """The results of runs from x, batch by batch."""
    results, parts, steps = [], batches(denoiser, x, noise, batch_size), len(times) - 1
    for i, (one, start, source) in enumerate(parts):
        run = solver.run(Recomputed(one) if differentiable else one, start, times, source)
        with _gradients(differentiable):
            for last in run:
                if progress is not None:
                    progress(i * steps + steps_done(times, last), len(parts) * steps)
        results.append(last.x)
    return results[0] if len(results) == 1 else torch.cat(results)


def shares(progress: Report | None, parts: int) -> list[Report | None]:
    """For each of some runs of equal length, one after the other, what reports its progress as a part of all."""

    def share(i: int) -> Report:
        return lambda done, total: progress and progress(i * total + done, parts * total)

    return [None if progress is None else share(i) for i in range(parts)]


def _gradients(on: bool) -> AbstractContextManager[object]:
    return torch.enable_grad() if on else torch.no_grad()


def steps_done(times: Tensor, step: Step) -> int:
    """The number of finished steps of a grid (M + 1,); of a grid that stays at one level, the number of calls."""
    passed = times[1:] >= step.t if times[0] >= times[-1] else times[1:] <= step.t
    return min(int(passed.sum()), step.calls)


@torch.no_grad()
def _without_gradients(run: Iterator[Step]) -> Iterator[Step]:
    yield from run


@dataclass(frozen=True, eq=False)
class Recomputed:
    """A denoiser whose activations are not stored for the backward pass but computed anew in it."""

    denoiser: Denoiser

    @property
    def path(self) -> Path:
        return self.denoiser.path

    @property
    def takes_aim(self) -> bool:
        """Whether the denoiser is a flow map."""
        return takes_aim(self.denoiser)

    def __call__(self, x_t: Tensor, t: Time, *aim: Time) -> Estimate:
        return Estimate(*checkpoint(self.denoiser, x_t, t, *aim, use_reentrant=False))

    def predictors(self, times: Tensor, like: Tensor, *aims: Tensor) -> list[Callable[[Tensor], Tensor]] | None:
        """The predictors of the denoiser at times (M,), if it has any (see `Predictor`)."""
        predictors = self.denoiser.predictors(times, like, *aims) if isinstance(self.denoiser, Predictor) else None
        return (
            None
            if predictors is None
            else [partial(checkpoint, predict, use_reentrant=False) for predict in predictors]
        )

    def inverse(self, t: Tensor) -> Tensor:
        """The matrices (M, 2, 2) of the denoiser at times (M,); used only where there are `predictors`."""
        assert isinstance(self.denoiser, Predictor)
        return self.denoiser.inverse(t)
