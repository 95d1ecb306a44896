"""Networks as networks of diffusers, weight by weight: the same answers to 1e-5. Needs the extra `peers`."""

from typing import Any

import pytest
import torch
from torch import nn

from ornstein.errors import UsageError
from ornstein.export.weights import as_dit, as_unet2d
from ornstein.networks import DDPM, DiT, UNet

diffusers = pytest.importorskip("diffusers", reason="needs the extra `peers`")
pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore")]


def lively(network: Any) -> Any:
    """With no weight at its first value: what starts at zero would hide its place."""
    torch.manual_seed(0)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.15)
    return network.eval()


def small(**options: Any) -> UNet:
    sizes: dict[str, Any] = {
        "width": 32,
        "multipliers": (1, 2, 2),
        "blocks": 2,
        "attention_levels": (1,),
        "head_width": 64,
    }
    return UNet(3, **{**sizes, "additive": True, "group_width": 1, "frequencies": DDPM, **options})


@pytest.mark.parametrize(
    "network",
    [
        lambda: small(multipliers=(1, 1, 1), head_width=32),
        lambda: small(multipliers=(1, 1), attention_levels=(), head_width=16, classes=4, blocks=1),
        lambda: small(multipliers=(1, 1), head_width=32, classes=4, additive=False),
        lambda: UNet.preset("ddpm-cifar10"),
    ],
    ids=["attention", "classes", "adaptive", "ddpm-cifar10"],
)
def test_a_unet_of_ddpms_blocks(network: Any) -> None:
    mine = lively(network())
    arguments, state = as_unet2d(mine)
    theirs = diffusers.UNet2DModel(**arguments).eval()
    theirs.load_state_dict(state)
    x, t = torch.randn(3, 3, 16, 16), torch.tensor([0.02, 0.5, 0.97])
    labels = torch.tensor([0, 3, 4]) if mine.classes else None
    with torch.inference_mode():
        expected, answer = mine(x, t, labels), theirs(x, 1000 * t, labels).sample
    assert float((answer - expected).abs().max() / expected.abs().max()) < 1e-5


@pytest.mark.parametrize("options", [{}, {"out_channels": 8, "patch": 4}], ids=["noise", "variance"])
def test_a_dit(options: dict[str, Any]) -> None:
    sizes: dict[str, Any] = {"patch": 2, "width": 32, "depth": 2, "heads": 2, "classes": 5, "frequencies": DDPM}
    mine = lively(DiT(4, 8, **{**sizes, **options}))
    arguments, state = as_dit(mine)
    theirs = diffusers.DiTTransformer2DModel(**arguments).eval()
    assert theirs.state_dict().keys() == state.keys()
    theirs.load_state_dict(state)
    x, t, labels = torch.randn(3, 4, 8, 8), torch.tensor([0.02, 0.5, 0.97]), torch.tensor([0, 3, 5])
    with torch.inference_mode():
        expected, answer = mine(x, t, labels), theirs(x, timestep=1000 * t, class_labels=labels).sample
    assert float((answer - expected).abs().max() / expected.abs().max()) < 1e-5


@pytest.mark.parametrize("network", [small(vector=3), UNet(3), small(blocks=(1, 2, 1)), small(head_width=48)])
def test_other_layouts_are_refused_in_a_sentence(network: UNet) -> None:
    with pytest.raises(UsageError, match="has no counterpart in diffusers"):
        as_unet2d(network)
