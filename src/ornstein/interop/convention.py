"""Conventions of other libraries: inputs and outputs of a network as one value. `wrap` makes such a network a denoiser.

A network is (clock, path, target): it sees c_in·x_t and c_noise(t), and predicts a·clean + b·noise on x_t = α·clean + σ·noise.
So an importer is a row of values, and whatever works on a denoiser (solvers, guidance, editing, likelihoods, tuning) works on it.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ornstein.denoiser import NetworkDenoiser
from ornstein.path import Path
from ornstein.target import Target

Call = Callable[[Any, Tensor, Tensor, Any], Any]
"""call(network, x, c_noise, condition) -> output: a tensor, a tuple that begins with one, or an object with .sample or .mean."""


class NetworkClock(Protocol):
    """A preconditioning whose c_noise, the time as the network counts it, can be read back."""

    def __call__(self, path: Path, t: Tensor) -> tuple[Tensor | None, Tensor]:
        """(c_in, c_noise) at times t."""

    def time(self, path: Path, c_noise: Tensor) -> Tensor:
        """The times t at which the network sees c_noise, shaped as c_noise."""


@dataclass(frozen=True)
class TimeClock:
    """c_noise = scale·t + offset. Step i = 0..T−1 of a β-table is t = (i + 1)/T: scale T, offset −1."""

    scale: float = 1.0
    offset: float = 0.0

    def __call__(self, path: Path, t: Tensor) -> tuple[Tensor | None, Tensor]:
        return None, self.scale * t + self.offset

    def time(self, path: Path, c_noise: Tensor) -> Tensor:
        return (c_noise - self.offset) / self.scale


@dataclass(frozen=True)
class NoiseClock:
    """c_noise = scale·σ(t)."""

    scale: float = 1.0

    def __call__(self, path: Path, t: Tensor) -> tuple[Tensor | None, Tensor]:
        return None, self.scale * path.sigma(t)

    def time(self, path: Path, c_noise: Tensor) -> Tensor:
        return time_of_noise(path, c_noise / self.scale)


@dataclass(frozen=True)
class EDMClock:
    """c_in = 1/√(α²σ_d² + σ²), c_noise = ¼·ln(σ/α): a network inside EDM's preconditioning (Karras et al. 2022, table 1)."""

    sigma_data: float = 0.5

    def __call__(self, path: Path, t: Tensor) -> tuple[Tensor | None, Tensor]:
        alpha, sigma = path.alpha(t), path.sigma(t)
        return ((alpha * self.sigma_data) ** 2 + sigma**2).rsqrt(), (sigma / alpha).log() / 4

    def time(self, path: Path, c_noise: Tensor) -> Tensor:
        return path.time(-8 * c_noise)


def time_of_noise(path: Path, sigma: Tensor) -> Tensor:
    """The times at which σ(t), which rises with t, has the values `sigma`, shaped as they; beyond the path, its ends."""
    low, high = torch.zeros_like(sigma), torch.ones_like(sigma)
    for _ in range(64 if sigma.dtype == torch.float64 else 32):
        middle = (low + high) / 2
        less = path.sigma(middle) < sigma
        low, high = torch.where(less, middle, low), torch.where(less, high, middle)
    ends = torch.zeros_like(sigma), torch.ones_like(sigma)
    times = torch.where(sigma <= path.sigma(ends[0]), ends[0], (low + high) / 2)
    return torch.where(sigma >= path.sigma(ends[1]), ends[1], times)


def positional(network: Any, x: Tensor, c_noise: Tensor, condition: Any) -> Any:
    """network(x, c_noise), x (B, ...) and c_noise (B,), with a condition's entries as keywords, or as the third argument."""
    if condition is None:
        return network(x, c_noise)
    return network(x, c_noise, **condition) if isinstance(condition, dict) else network(x, c_noise, condition)


def time_first(network: Any, x: Tensor, c_noise: Tensor, condition: Any) -> Any:
    """network(c_noise, x), the time (B,) in front of x (B, ...); else as `positional`."""
    return positional(network, c_noise, x, condition)


@dataclass(frozen=True)
class Convention:
    """How a network is called (`clock`, `call`) and what it predicts (`target` on `path`).

    `variance`: the second half of the output's channels is a learned variance, which no solver here reads.
    `discrete`: the network knows whole values of c_noise alone (a lookup of steps 0..levels − 1): it is asked for the nearest,
    as an integer; `snapped` gives grids that have no other times. Raises ValueError for `discrete` without `levels`.
    """

    path: Path
    target: Target
    clock: NetworkClock = TimeClock()
    call: Call = positional
    variance: bool = False
    levels: int | None = None
    discrete: bool = False

    def __post_init__(self) -> None:
        if self.discrete and self.levels is None:
            raise ValueError("Convention: discrete needs levels, the number of noise levels that the network knows")

    @property
    def lowest(self) -> float:
        """The smallest time that the network was trained on: its first level; 0 without levels."""
        if self.levels is None:
            return 0.0
        return float(self.clock.time(self.path, torch.zeros((), dtype=torch.float64)))

    def snapped(self, times: Tensor) -> Tensor:
        """A falling grid (M + 1,) moved to the nearest trained levels, each at most once; a last time of 0 stays.

        Raises ValueError for more times than levels.
        """
        if self.levels is None:
            raise ValueError("snapped: this convention has no levels; its network knows every time")
        times = times.to("cpu", torch.float64)
        ended = bool(times[-1] == 0)
        inner = times[:-1] if ended else times
        if len(inner) > self.levels:
            raise ValueError(f"a grid of {len(inner)} network calls has more than the {self.levels} trained levels")
        last, steps = self.levels - 1, self.clock(self.path, inner)[1].round().long().tolist()
        for i in range(len(steps)):  # falling, from the top: no higher than the level before less one
            steps[i] = min(steps[i], last - i if i == 0 else steps[i - 1] - 1)
        for k, i in enumerate(reversed(range(len(steps)))):  # and from the bottom: room for those that follow
            steps[i] = max(steps[i], k)
        moved = self.clock.time(self.path, torch.tensor(steps, dtype=torch.float64))
        return torch.cat([moved, times[-1:]]) if ended else moved


class Foreign(nn.Module):
    """A network of another library as (x, t, condition) -> prediction, shaped as x.

    A network in half precision is called in it, and the prediction comes back in the type of x: states stay precise.
    """

    state_dtype = torch.float32

    def __init__(self, network: Callable[..., Any], convention: Convention) -> None:
        super().__init__()
        self.network, self.convention = network, convention
        if hasattr(network, "classes"):
            self.classes = network.classes

    def forward(self, x: Tensor, t: Tensor, condition: Any = None) -> Tensor:
        """The prediction at x (B, ...) and c_noise t (B,), shaped as x. Raises ValueError for an output of another shape."""
        kind = _dtype(self.network)
        at = t.round().long() if self.convention.discrete else t
        rough = kind in (torch.float16, torch.bfloat16)
        output = tensor_of(self.convention.call(self.network, x.to(kind) if rough else x, at, condition))
        if self.convention.variance and output.shape[1] == 2 * x.shape[1]:
            output = output[:, : x.shape[1]]
        if output.shape != x.shape:
            more = output.ndim == x.ndim and output.shape[1] == 2 * x.shape[1]
            hint = "; if the second half is a learned variance, say variance=True in its convention" if more else ""
            raise ValueError(
                f"{type(self.network).__name__} answers {tuple(output.shape)} to an input of {tuple(x.shape)}; "
                f"a prediction is shaped as its input{hint}"
            )
        return output.to(x.dtype)


def _dtype(network: Any) -> torch.dtype | None:
    """The type of a network's first floating-point parameter; None for what has none."""
    if not isinstance(network, nn.Module):
        return None
    return next((p.dtype for p in network.parameters() if p.is_floating_point()), None)


def tensor_of(output: Any) -> Tensor:
    """The prediction in a network's output. Raises TypeError where there is none."""
    for value in (
        output,
        output[0] if isinstance(output, (tuple, list)) and output else None,
        getattr(output, "sample", None),
        getattr(output, "mean", None),
    ):
        if isinstance(value, Tensor):
            return value
    raise TypeError(
        f"the network answers a {type(output).__name__}; a prediction is a tensor, the first of a tuple, or .sample or .mean"
    )


@dataclass(frozen=True)
class Snapped:
    """Another clock whose c_noise is the nearest whole value in 0..levels − 1."""

    clock: NetworkClock
    levels: int

    def __call__(self, path: Path, t: Tensor) -> tuple[Tensor | None, Tensor]:
        c_in, c_noise = self.clock(path, t)
        return c_in, c_noise.round().clamp(0, self.levels - 1)

    def time(self, path: Path, c_noise: Tensor) -> Tensor:
        return self.clock.time(path, c_noise)


def wrap(
    network: Callable[..., Any], convention: Convention, condition: Any = None, *, discrete: bool | None = None
) -> NetworkDenoiser:
    """The denoiser of another library's network: a·clean + b·noise = prediction, α·clean + σ·noise = x_t.

    `condition` is bound as by `.given`: a dict becomes keywords of the call, else it is the third argument. `discrete` replaces
    the convention's own. Raises ValueError for a target that says nothing about the data where sampling starts (noise at zero
    SNR), TypeError for a network that cannot be called.
    """
    if not callable(network):
        raise TypeError(f"wrap needs a network, something to call; {type(network).__name__} is none")
    if discrete is not None:
        convention = replace(convention, discrete=discrete)
    clock = convention.clock
    if convention.discrete and convention.levels is not None:
        clock = Snapped(clock, convention.levels)
    return NetworkDenoiser(Foreign(network, convention), convention.path, convention.target, clock, condition)
