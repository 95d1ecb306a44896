"""Arguments of public functions: names or objects, defaults, and one sentence for a wrong kind."""

import inspect
from collections.abc import Callable, Iterator, Sequence
from functools import wraps
from operator import index
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor, nn

from ornstein.caching import cached
from ornstein.denoiser import Denoiser, for_rows
from ornstein.errors import reject_class
from ornstein.grid import explicit
from ornstein.names import SOLVERS
from ornstein.noise import NoiseSource, PerSampleNoise, skip
from ornstein.path import Path
from ornstein.solvers import ABM, Solver, TableSolver
from ornstein.solvers.solver import grid_of
from ornstein.spelling import near
from ornstein.table import Table

P = ParamSpec("P")
R = TypeVar("R")

DEFAULT: TableSolver = ABM()

Report = Callable[[int, int], object]
"""progress(done, total): how much of the work is done."""

CONDITIONS = "label", "labels", "condition", "conditions", "class_labels", "y", "prompt"
ELSEWHERE = {  # what other libraries call it
    "num_inference_steps": "steps",
    "num_steps": "steps",
    "n_steps": "steps",
    "nfe": "steps",
    "times": "grid",
    "timesteps": "grid",
    "sigmas": "grid",
    "size": "shape",
    "x_T": "start",
    "latents": "start",
    "noise_level": "strength",
    "generator": "seed",
    "rng": "seed",
    "sampler": "solver",
    "scheduler": "solver",
    "method": "solver",
    "integrator": "solver",
    "callback": "progress",
    "batch": "batch_size",
}


def keywords(function: Callable[P, R]) -> Callable[P, R]:
    """Decorator: a keyword that the function does not have raises TypeError naming the one that is meant.

    The arguments that all such functions share are checked before they are used. Raises TypeError or ValueError naming them.
    """
    signature = inspect.signature(function)
    names = list(signature.parameters)
    defaults = {name: parameter.default for name, parameter in signature.parameters.items()}

    @wraps(function)
    def call(*args: P.args, **values: P.kwargs) -> R:
        for name in values:
            if name not in names:
                raise TypeError(_unknown(function.__name__, name, names))
        for name, value in (*zip(names, args, strict=False), *values.items()):
            if name in CHECKS and value is not defaults[name]:
                CHECKS[name](name, value)
        return function(*args, **values)

    return call


def _unknown(function: str, name: str, names: list[str]) -> str:
    nearest = ELSEWHERE[name] if ELSEWHERE.get(name) in names else near(name, names)
    if nearest is None and name in CONDITIONS and "denoiser" in names:
        return f"{function} has no {name}=: bind a condition to the denoiser, {function}(denoiser.given({name}), ...)"
    hint = f"did you mean {nearest}=?" if nearest else f"it has {', '.join(names)}"
    return f"{function} has no {name}=; {hint}"


def one_line(value: Any) -> str:
    """How a wrong value is called in a sentence."""
    return " ".join(repr(value).split())[:80]


def _check_device(name: str, value: Any) -> None:
    try:
        torch.device(value)
    except (TypeError, RuntimeError):
        raise TypeError(f"{name} = {one_line(value)} is no device of torch; give for example {name}='cpu'") from None


def _check_dtype(name: str, value: Any) -> None:
    if not isinstance(value, torch.dtype):
        raise TypeError(f"{name} = {one_line(value)} is no dtype of torch; give for example {name}=torch.float64")


def _check_progress(name: str, value: Any) -> None:
    if not callable(value):
        raise TypeError(f"{name} = {one_line(value)} is no function; give for example {name}=print")


def _check_grid(name: str, value: Any) -> None:
    if callable(value):
        raise TypeError(f"{name} is a function; call it with a path and steps: grid.{value.__name__}(path, 20)")
    if isinstance(value, int):
        raise TypeError(f"{name} = {value} is no tensor of times; for a number of steps give steps={value}")
    if isinstance(value, str):
        raise TypeError(f"{name} = {value[:80]!r} is no tensor of times; make one by a function of ornstein.grid")


CHECKS: dict[str, Callable[[str, Any], object]] = {
    "device": _check_device,
    "dtype": _check_dtype,
    "progress": _check_progress,
    "grid": _check_grid,
    "steps": lambda name, value: as_whole(name, value, 1),
    "seed": lambda name, value: as_whole(name, value, 0),
    "batch_size": lambda name, value: as_whole(name, value, 1),
}
"""Checks of arguments that public functions of a denoiser share, by name: each raises TypeError or ValueError for a wrong one."""


def check_denoiser(function: str, value: Any) -> None:
    """Raises TypeError where the first argument of a function is no denoiser, with the right call."""
    reject_class("denoiser", value)
    if isinstance(getattr(value, "path", None), Path) and callable(value):
        return
    kind = type(value).__name__
    if isinstance(value, nn.Module):
        raise TypeError(
            f"{function} needs a denoiser, and {kind} is a bare network; say on which path it predicts what: "
            f"{function}(NetworkDenoiser(network, path.Linear(), target.Velocity()), ...)"
        )
    if hasattr(value, "denoiser"):
        raise TypeError(f"{function} needs a denoiser, and {kind} holds one: use {kind.lower()}.denoiser")
    if isinstance(value, str):
        raise TypeError(f"{function} needs a denoiser, not the text {value[:80]!r}: use ornstein.load(...).denoiser")
    raise TypeError(
        f"{function} needs a denoiser, an object with .path and __call__(x_t, t) -> Estimate, such as "
        f"NetworkDenoiser(network, path.Linear(), target.Velocity()); {kind} is none"
    )


@cached
def check_units(path: Path) -> None:
    """Raises ValueError for a path whose end at t = 0 is not in the units of the data."""
    start = float(path.alpha(torch.zeros((), dtype=torch.float64)))
    if not abs(start - 1) < 1e-3:
        raise ValueError(
            f"{path}: α(0) = {start:g} must be 1, for samples to be in the units of the data; divide its alpha and sigma by "
            "that number (the log-SNR stays as it is)"
        )


class _FromTable(TableSolver):
    """An object with `order`, `table` and perhaps `grid`, as a solver. It may change, so nothing of it is cached."""

    def __init__(self, solver: Any) -> None:
        self.solver = solver

    @property
    def order(self) -> int:
        return int(getattr(self.solver, "order", 0))

    def __str__(self) -> str:
        return str(self.solver)

    def grid(self, path: Path, steps: int) -> Tensor:
        return self.solver.grid(path, steps) if hasattr(self.solver, "grid") else super().grid(path, steps)

    def table(self, path: Path, grid: Tensor) -> Table:
        return self.solver.table(path, grid)


def as_solver(value: Any, default: Solver = DEFAULT) -> Solver:
    """A solver from an object, a name of `names.SOLVERS`, or None for the default.

    An object with a `table` alone is given the rest. Raises UsageError for an unknown name, TypeError for another kind.
    """
    if value is None:
        return default
    if isinstance(value, str):
        return SOLVERS.pick(value)
    reject_class("solver", value)
    if inspect.isroutine(value):
        raise TypeError(f"solver={value.__name__} is a function; call it: solver={value.__name__}()")
    if hasattr(value, "run") and hasattr(value, "grid"):
        return value
    if hasattr(value, "table"):
        return _FromTable(value)
    if hasattr(value, "run"):
        raise TypeError(
            f"solver={value} integrates likelihoods, for likelihood.log_prob; here give a solver of samples, "
            'such as solver="heun" or solvers.Heun()'
        )
    raise TypeError(
        f'solver={one_line(value)} is no solver; give a name such as solver="heun", or an object such as solvers.Heun()'
    )


def as_table_solver(function: str, value: Any, default: TableSolver) -> TableSolver:
    """`as_solver` for functions that need a table. Raises TypeError for a solver with a loop of its own."""
    solver = as_solver(value, default)
    if not isinstance(solver, TableSolver):
        raise TypeError(f"{function} needs a solver with a table, such as {default}; {solver} has a loop of its own")
    return solver


def as_times(path: Path, solver: Solver, steps: int, grid: Any, *, falling: bool = False) -> Tensor:
    """The times of a run: a grid by hand, checked, or the solver's own for that many steps.

    `falling`: from noise to data alone. Raises ValueError for a bad grid or number of steps, TypeError for another kind.
    """
    if grid is None:
        return grid_of(solver, path, as_whole("steps", steps, 1))
    _check_grid("grid", grid)
    times = explicit(grid)
    if falling and times[0] < times[-1] and solver.stochastic:
        raise ValueError(
            f"{type(solver).__name__} adds noise and needs a grid that falls, from noise (t = 1) to data (t = 0): "
            "give grid.flip(0)"
        )
    if falling and times[0] < times[-1]:
        raise ValueError(
            f"the grid rises from t = {float(times[0]):g} to {float(times[-1]):g}, and samples are made from noise (t = 1) to "
            "data (t = 0): give grid.flip(0), or use encode(denoiser, x) to go from data to noise"
        )
    return times


def as_whole(name: str, value: Any, least: int) -> int:
    """A whole number of at least `least`. Raises TypeError or ValueError that names it."""
    try:
        number = index(value)
    except TypeError:
        raise TypeError(f"{name} = {value!r:.80} must be a whole number") from None
    if number < least:
        raise ValueError(f"{name} = {number} must be at least {least}")
    return number


def as_noise(noise: NoiseSource | None, seed: int) -> NoiseSource:
    """The source given, or one by seed and row. Raises ValueError for both, TypeError for a tensor or a class."""
    if noise is None:
        return PerSampleNoise(as_whole("seed", seed, 0))
    reject_class("noise", noise)
    if isinstance(noise, Tensor):
        raise TypeError("noise is a function noise(x, t, s), not a tensor; a tensor to begin from is start=")
    if not callable(noise):
        raise TypeError(f"noise = {noise!r:.80} is no function noise(x, t, s); for a seed give seed=")
    if seed:
        raise ValueError(f"give seed = {seed} or a noise source, not both")
    return noise


def as_shape(function: str, value: Any) -> tuple[int, ...]:
    """(B, ...) of whole numbers. Raises TypeError or ValueError with the right call."""
    if isinstance(value, Tensor):
        raise TypeError(f"{function}'s shape is a tensor; to begin from it give start=x, or its shape, x.shape")
    if isinstance(value, int):
        raise TypeError(f"shape = {value} must be the whole shape of the samples, (B, ...), such as ({value}, 2)")
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise TypeError(f"shape = {value!r:.80} must be whole numbers (B, ...), such as (64, 2)")
    shape = tuple(as_whole("shape", size, 0) for size in value)
    if not shape:
        raise ValueError("shape is empty; give (B, ...), the number of samples first")
    return shape


def as_tensor(function: str, name: str, value: Any) -> Tensor:
    """A floating-point tensor. Raises TypeError with the right call."""
    if isinstance(value, Tensor) and value.is_floating_point():
        return value
    if isinstance(value, (tuple, list, torch.Size)) and all(isinstance(size, int) for size in value):
        raise TypeError(
            f"{function}: {name} = {tuple(value)} is a shape, and {name} is a tensor; to draw it give shape={tuple(value)}"
        )
    kind = f"a tensor of {value.dtype}" if isinstance(value, Tensor) else type(value).__name__
    raise TypeError(f"{function}: {name} must be a floating-point tensor (B, ...), not {kind}")


def batches(
    denoiser: Denoiser, x: Tensor, noise: NoiseSource, batch_size: int | None
) -> list[tuple[Denoiser, Tensor, NoiseSource]]:
    """The rows of x (B, ...) in batches, each with the denoiser and the noise of its rows; None: one batch of all."""
    size = len(x) if batch_size is None else as_whole("batch_size", batch_size, 1)
    if size >= len(x):
        return [(denoiser, x, noise)]
    rows = [slice(first, first + size) for first in range(0, len(x), size)]
    return [(for_rows(denoiser, part, x), x[part], skip(noise, part.start)) for part in rows]


def place_of(
    denoiser: Any, device: torch.device | str | None = None, dtype: torch.dtype | None = None
) -> tuple[torch.device, torch.dtype]:
    """Device and type for a denoiser: those given, else its network's, else torch's defaults.

    The network's are those of the first floating-point parameter or buffer inside the denoiser, or a denoiser inside it; of a
    wrapped network that computes in half precision by itself, `state_dtype`.
    """
    if dtype is not None:
        _check_dtype("dtype", dtype)
    own = next(_tensors(denoiser), None)
    there = torch.get_default_device() if own is None else own.device
    kind = torch.get_default_dtype() if own is None else own.dtype
    return torch.device(device) if device is not None else there, dtype or kind


def _tensors(value: Any, depth: int = 8) -> Iterator[Tensor]:
    """Parameters and buffers of the networks inside a denoiser, those of the outermost first."""
    if isinstance(value, nn.Module):
        for tensor in [*value.parameters(), *value.buffers()][:1] if hasattr(value, "state_dtype") else []:
            yield tensor.new_empty(0, dtype=getattr(value, "state_dtype"))  # noqa: B009  # nn.Module's attributes are anything
        yield from (tensor for tensor in (*value.parameters(), *value.buffers()) if tensor.is_floating_point())
    elif depth:
        owner = getattr(value, "__self__", None)
        inside = [] if owner is None or inspect.isbuiltin(value) else [owner]
        for each in [*inside, *getattr(value, "__dict__", {}).values()]:
            if isinstance(each, nn.Module) or inspect.ismethod(each) or (callable(each) and hasattr(each, "path")):
                yield from _tensors(each, depth - 1)
