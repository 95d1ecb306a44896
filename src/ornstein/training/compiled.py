"""torch.compile, used only where its gradients are those of the network as it is written."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ornstein.training.batch import Part


def compile_checked(network: nn.Module, learner: nn.Module, part: Part, tell: Callable[[str], None]) -> bool:
    """Compile the network in place; whether it stays compiled.

    The learner's gradients on one part of a batch are computed as written and compiled. When they differ by more than the
    precision explains, or nothing could be compiled, the network goes back to what it was, and `tell` says so. Weights are moved
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
        expected = _gradients(learner, part, list(parameters.values()))
        network.compile()
        try:
            found = _gradients(learner, part, list(parameters.values()))
        except Exception as error:  # whatever a compiler and its tools may raise
            _undo(network)
            tell(f"Warning: the network could not be compiled ({_line(error)}); training goes on without.")
            return False
        wrong = differing(expected, found)
        if wrong:
            _undo(network)
            names = list(parameters)
            tell(
                f"Warning: the compiled gradients of {len(wrong)} of {len(names)} parameters differ from the network's own "
                f"({names[wrong[0]]} first); training goes on without compiling."
            )
        return not wrong
    finally:
        network.load_state_dict(before)
        network.train(training)


def differing(expected: Sequence[Tensor], found: Sequence[Tensor], tolerance: float = 0.05) -> list[int]:
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
