"""Where weights lie changes the speed, and no answer beyond rounding."""

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from ornstein.networks import DiT, UNet, placed


def is_last(network: nn.Module) -> bool:
    """Whether the 3×3 weights of a network, which are all alike in this, are channels-last."""
    found = {
        m.weight.is_contiguous(memory_format=torch.channels_last) and not m.weight.is_contiguous()
        for m in network.modules()
        if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3) and m.in_channels > 1
    }
    (last,) = found
    return last


@pytest.mark.parametrize(("preset", "last"), [("tiny", True), ("small", True), ("ddpm-cifar10", False)])
def test_unets_with_wide_groups_are_channels_last_on_the_cpu(preset: str, last: bool) -> None:
    network = UNet.preset(preset, channels=3)
    assert placed(network, "cpu") is network
    assert is_last(network) == last
    groups = {m.num_channels // m.num_groups for m in network.modules() if isinstance(m, nn.GroupNorm)}
    assert all(width % 16 == 0 for width in groups) == last
    assert preset != "ddpm-cifar10" or all(m.num_groups == 32 for m in network.modules() if isinstance(m, nn.GroupNorm))


@pytest.mark.parametrize("preset", ["tiny", "small"])
def test_no_convolution_copies_what_it_is_given_or_gives(preset: str) -> None:
    """As each does in the other layout, on processors where oneDNN works channels-last."""
    network = placed(UNet.preset(preset, channels=1), "cpu")
    x, t = torch.randn(4, 1, 16, 16), torch.rand(4)
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as found, torch.autocast("cpu", torch.bfloat16):
        network(x, t)
    convolutions = [event for event in found.events() if event.name == "aten::convolution"]
    assert len(convolutions) > 12
    clones = [child.input_shapes[0] for event in convolutions for child in _below(event) if child.name == "aten::clone"]
    assert [shape for shape in clones if shape[0] == len(x) and shape[1] > 1] == []  # weights are cast


def _below(event):
    for child in event.cpu_children:
        yield child
        yield from _below(child)


def test_what_has_no_group_norm_moves_too() -> None:
    network = DiT(channels=1, size=8, width=16, depth=1, heads=2)
    assert placed(network, torch.device("cpu")) is network
    assert next(placed(network, "meta").parameters()).device.type == "meta"
