"""torch.compile for training, used only where it leaves the gradients as they are."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ornstein.compiling import compile_alike
from ornstein.training.batch import Part

TOLERANCE = 0.05  # of compiled gradients, relative to the network's own: bfloat16 or sums in another order


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
        parameters = {name: weight for name, weight in network.named_parameters() if weight.requires_grad}
        names = list(parameters)
        reason = compile_alike(
            network,
            lambda: _gradients(learner, part, list(parameters.values())),
            lambda wrong: (
                f"the compiled gradients of {len(wrong)} of {len(names)} parameters differ from the network's own "
                f"({names[wrong[0]]} first)"
            ),
            TOLERANCE,
        )
        if reason is not None:
            tell(f"Warning: {reason}; training goes on without compiling.")
        return reason is None
    finally:
        network.load_state_dict(before)
        network.train(training)


def _gradients(learner: nn.Module, part: Part, parameters: Sequence[nn.Parameter]) -> list[Tensor]:
    cost, _ = learner(part)
    gradients = torch.autograd.grad(cost, parameters, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, gradients, strict=True)]
