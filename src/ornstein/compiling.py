"""torch.compile, used only where it leaves what a network computes as it is."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ornstein.denoiser import Denoiser

TOLERANCE = 1e-3  # of compiled answers, relative to the network's own: sums in another order
TIMES = (1.0, 0.7, 0.4, 0.1)


def compile_alike(
    network: nn.Module,
    ask: Callable[[], Sequence[Tensor]],
    differs: Callable[[list[int]], str],
    tolerance: float,
    dynamic: bool | None = None,
) -> str | None:
    """Compile a network in place; None, or why it is as it was.

    `ask()` uses the network, first as written and then compiled. Results that differ by more than the `tolerance`, relative, are
    passed to `differs`, which words the reason. `dynamic` compiles for batches of any size.
    """
    expected = ask()
    network.compile(dynamic=dynamic)
    try:
        compiled = ask()
    except Exception as error:  # whatever a compiler and its tools may raise
        _undo(network)
        return f"the network could not be compiled ({_line(error)})"
    if wrong := differing(expected, compiled, tolerance):
        _undo(network)
        return differs(wrong)
    return None


def compile_for_sampling(
    network: nn.Module, denoiser: Denoiser, shape: Sequence[int], times: Sequence[float] = TIMES
) -> str | None:
    """Compile a network in place for a denoiser that uses it, on batches (B, ...) of any size; None, or why it is as it was.

    Estimates of clean data at some times must stay alike, up to rounding in float32.
    """
    device = next(network.parameters()).device
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(0)).to(device)

    def ask() -> list[Tensor]:
        with torch.inference_mode():  # as in sampling: another mode is another compilation
            return [denoiser(x, t).clean for t in times]

    def differs(wrong: list[int]) -> str:
        return f"the compiled network answers otherwise than the network as written (first at t = {times[wrong[0]]:g})"

    return compile_alike(network, ask, differs, TOLERANCE, dynamic=True)


def differing(expected: Sequence[Tensor], actual: Sequence[Tensor], tolerance: float) -> list[int]:
    """The places of the tensors that are further from what is expected than that part of its norm, or that are not numbers."""
    floor = 1e-3 * max(float(gradient.norm()) for gradient in expected)
    pairs = enumerate(zip(expected, actual, strict=True))
    return [i for i, (a, b) in pairs if not float((a - b).norm()) <= tolerance * float(a.norm()) + floor]


def _undo(network: nn.Module) -> None:
    network._compiled_call_impl = None  # the inverse of `Module.compile`


def _line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
