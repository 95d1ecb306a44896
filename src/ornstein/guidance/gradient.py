"""Gradients with respect to x_t, wherever sampling runs."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ornstein.path import Path, Time, as_time

FAINT = 1e-3  # α/σ below which data can no longer be computed from x_t in float32


def gradient(function: Callable[[Tensor], tuple[Tensor, tuple[Tensor, ...]]], x_t: Tensor) -> tuple[Tensor, ...]:
    """∇ of the sum of a function's first value, and the rest of what it returned; detached.

    `function(x)` gives (B,) values, and tensors to keep. Works within no_grad and inference mode: they are left on the way.
    """
    with torch.inference_mode(False), torch.enable_grad():
        x = x_t.detach().clone().requires_grad_()
        values, extras = function(x)
        if values.shape != x.shape[:1]:
            raise ValueError(f"guidance needs one value for each of the {len(x)} samples, not {tuple(values.shape)}")
        (slope,) = torch.autograd.grad(values.sum(), x)
    return slope, *(tensor.detach() for tensor in extras)


def usable(t: Time) -> Time:
    """A time that may take part in a gradient, also when it was made in inference mode."""
    if not isinstance(t, Tensor):
        return t
    with torch.inference_mode(False):
        return t.clone()


def gradient_time(path: Path, t: Time) -> tuple[Time, bool]:
    """The time at which to ask for a gradient, and whether it is another one than t.

    The pull on the clean estimate is (σ²/α)·∇. At zero SNR x_t says nothing, so ∇ is 0 and its factor infinite; the product
    has a limit, which is taken where α/σ = 1e-3.
    """
    last = path.time(torch.tensor(2 * math.log(FAINT), dtype=torch.float64))
    times = as_time(t)
    if not bool((times > last.to(times)).any()):
        return t, False
    return torch.minimum(times, last.to(times)), True
