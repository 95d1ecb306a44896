"""Parameters that are not trained, by patterns of their names: of a network that starts from another run, for one."""

from difflib import get_close_matches
from fnmatch import fnmatchcase

from torch import nn

from ornstein.errors import UsageError, brief


def freeze(network: nn.Module, patterns: str) -> None:
    """The parameters whose names match one of the patterns, with commas between them, need no gradients from now on.

    Raises UsageError for a pattern that matches none, or where nothing is left to train.
    """
    names = dict(network.named_parameters())
    for pattern in (part.strip() for part in patterns.split(",")):
        matching = [name for name in names if fnmatchcase(name, pattern)]
        if not matching:
            near = get_close_matches(pattern, names, n=1, cutoff=0.0)
            raise UsageError(
                f"freeze: no parameter is named {brief(pattern)}; one is {near[0]}, and '*' stands for any part of a name"
            )
        for name in matching:
            names[name].requires_grad_(False)
    if not any(weight.requires_grad for weight in names.values()):
        raise UsageError("freeze: nothing is left to be trained; give patterns that leave some parameters")


def train_mode(network: nn.Module) -> nn.Module:
    """The network in training mode, but for frozen layers with running statistics, which stay as they are too."""
    for module in network.train().modules():
        weights = list(module.parameters(recurse=False))
        if (
            weights
            and not any(weight.requires_grad for weight in weights)
            and any(True for _ in module.buffers(recurse=False))
        ):
            module.eval()
    return network
