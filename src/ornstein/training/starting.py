"""The state before the first step: the network on its device with its averages and optimiser, and the module of its loss."""

import copy
from collections.abc import Callable

from torch import nn

from ornstein import networks
from ornstein.training import compiling, parallel
from ornstein.training.batch import Batches
from ornstein.training.checkpoint import State
from ornstein.training.recipe import Recipe
from ornstein.training.uncertainty import Uncertainty


def ready(recipe: Recipe, batches: Batches, tell: Callable[[str], None]) -> tuple[State, nn.Module]:
    """The untrained state of a recipe, and the module that gives the loss of a part of a batch in this process.

    The network of the recipe's model is moved to its device, and sharded where it is to be.
    """
    settings, device = recipe.settings, recipe.device
    network = recipe.model.network
    if settings.channels_last and not settings.shard:  # FSDP2 takes contiguous weights alone
        network = networks.placed(network, device)
    else:
        network = network.to(device)
    average, half = (copy.deepcopy(network).eval().requires_grad_(False) for _ in range(2))
    uncertainty = Uncertainty().to(device) if settings.uncertainty else None
    learner = recipe.loss_module(network, recipe.model, recipe.bf16, uncertainty)
    if settings.compile:
        tell("Compiling the network, and checking its gradients: this takes a minute or more.")
        compiling.compile_checked(network, learner, next(batches.parts(0)), tell)
    bare = None
    if settings.shard:
        bare = copy.deepcopy(average).to("meta")
        learner, average, half = (
            parallel.sharded(module, device, recipe.processes) for module in (learner, average, half)
        )
    elif recipe.processes.count > 1:
        learner = parallel.copied(learner, device)
    trained = [weight for weight in network.parameters() if weight.requires_grad]
    learned = [*trained, *(uncertainty.parameters() if uncertainty is not None else ())]
    optimizer = recipe.optimizer(learned)
    for group in optimizer.param_groups:
        group.setdefault("initial_lr", group["lr"])
    return State(network, average, half, optimizer, uncertainty, bare), learner
