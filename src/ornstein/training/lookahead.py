"""One step ahead of what is read: a GPU begins the gradient of the next step before the host has read the loss of this one.

Reading a number of the GPU waits until it is there, and a GPU that is waited for has no work queued. So the GPU itself decides
whether a step is finite and is taken, and the host reads the loss one step later; weights, averages, counters and
metrics are those of a loop that reads each loss at once.
"""

import torch
from torch import Tensor

from ornstein.training.checkpoint import State
from ornstein.training.recipe import Recipe

DEVICES = ("cuda",)  # a CPU computes each number at once, and there is nothing to wait for
FLAG = "found_inf"  # the attribute by which torch's fused optimisers leave a step out


def possible(recipe: Recipe, state: State) -> bool:
    """Whether a training can: in one process, with an optimiser that leaves out a step where a tensor says so.

    Buffers of an own network may change with each forward pass, and an event would show those of the next step.
    """
    changing = recipe.model.is_own and any(True for _ in state.network.buffers())
    alone = recipe.processes.count == 1 and not state.sharded
    skips = getattr(state.optimizer, "_step_supports_amp_scaling", False)
    return recipe.settings.prefetch and recipe.device.type in DEVICES and alone and skips and not changing


def update_if_finite(optimizer: torch.optim.Optimizer, total: Tensor, norm: Tensor) -> None:
    """A step of the optimiser, which changes nothing where the loss or the norm of the gradient is not finite."""
    vars(optimizer)[FLAG] = (~(total.isfinite() & norm.isfinite())).float()
    try:
        optimizer.step()
    finally:
        del vars(optimizer)[FLAG]
