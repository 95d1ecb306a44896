"""Where a network's tensors lie in memory."""

from typing import TypeVar

import torch
from torch import nn

M = TypeVar("M", bound=nn.Module)

LANES = 16  # channels that torch's group norm on CPUs takes at once


def placed(network: M, device: torch.device | str) -> M:
    """The network on a device, in the layout that is fastest there; returns it.

    Two-dimensional convolutions work channels-last on GPUs and on CPUs: in the other layout oneDNN turns what comes and goes.
    On a CPU that is lost again, and more, unless a group of every group norm has a multiple of 16 channels: with fewer,
    torch's group norm takes them one at a time in this layout.
    """
    place = torch.device(device)
    if any(
        parameter.ndim > 4 for parameter in network.parameters()
    ):  # of three dimensions, where torch has another name for it
        return network.to(place)
    wide = all(norm.num_channels // norm.num_groups % LANES == 0 for norm in _norms(network))
    if place.type == "cuda" or (place.type == "cpu" and wide):
        return network.to(device=place, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network.to(place)


def _norms(network: nn.Module) -> list[nn.GroupNorm]:
    return [module for module in network.modules() if isinstance(module, nn.GroupNorm)]
