"""torch.compile, used only where it leaves what a network computes as it is: gradients in training, answers in sampling."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ornstein.denoiser import Denoiser
from ornstein.training.batch import Part

GRADIENTS, ANSWERS = (
    0.05,
    1e-3,
)  # how far compiled ones may be from the network's own: bfloat16 or sums in another order
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
    told by their numbers to `differs`, which words the reason. `dynamic` compiles for batches of any size.
    """
    expected = ask()
    network.compile(dynamic=dynamic)
    try:
        found = ask()
    except Exception as error:  # whatever a compiler and its tools may raise
        _undo(network)
        return f"the network could not be compiled ({_line(error)})"
    if wrong := differing(expected, found, tolerance):
        _undo(network)
        return differs(wrong)
    return None


def compile_checked(network: nn.Module, learner: nn.Module, part: Part, tell: Callable[[str], None]) -> bool:
    """Compile the network in place; whether it stays compiled.

    What must stay alike are the learner's gradients on one part of a batch, up to what the precision explains; where they do
    not, `tell` says so. Weights are moved
    a little for the trial (a network that starts at zero has hardly a gradient) and come back as they were.
    """
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    training = network.training
    network.train(not any(isinstance(layer, nn.Dropout) and layer.p > 0 for layer in network.modules()))
    draws = torch.Generator().manual_seed(0)
    try:
        with torch.no_grad():
            for weight in network.parameters():
                weight.add_(0.02 * torch.randn(weight.shape, generator=draws).to(weight))
        parameters = dict(network.named_parameters())
        names = list(parameters)
        reason = compile_alike(
            network,
            lambda: _gradients(learner, part, list(parameters.values())),
            lambda wrong: (
                f"the compiled gradients of {len(wrong)} of {len(names)} parameters differ from the network's own "
                f"({names[wrong[0]]} first)"
            ),
            GRADIENTS,
        )
        if reason is not None:
            tell(f"Warning: {reason}; training goes on without compiling.")
        return reason is None
    finally:
        network.load_state_dict(before)
        network.train(training)


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

    return compile_alike(network, ask, differs, ANSWERS, dynamic=True)


def differing(expected: Sequence[Tensor], found: Sequence[Tensor], tolerance: float = GRADIENTS) -> list[int]:
    """The places of the tensors that are further from what is expected than that part of its norm, or that are not numbers."""
    floor = 1e-3 * max(float(gradient.norm()) for gradient in expected)
    pairs = enumerate(zip(expected, found, strict=True))
    return [i for i, (a, b) in pairs if not float((a - b).norm()) <= tolerance * float(a.norm()) + floor]


def _gradients(learner: nn.Module, part: Part, parameters: Sequence[nn.Parameter]) -> list[Tensor]:
    cost, _ = learner(part)
    found = torch.autograd.grad(cost, parameters, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]


def _undo(network: nn.Module) -> None:
    network._compiled_call_impl = None  # the inverse of `Module.compile`


def _line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
