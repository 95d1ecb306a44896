"""DiT against the table of Peebles & Xie 2022, and its patches."""

import re

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from ornstein.networks import DiT

# Table 4 of the paper, at 32×32×4: parameters in millions; its "Gflops" are multiply-accumulates.
MILLIONS = {"S": 33, "B": 130, "L": 458, "XL": 675}
GMACS = {
    "S/2": 6.06,
    "S/4": 1.41,
    "S/8": 0.36,
    "B/2": 23.01,
    "B/4": 5.56,
    "B/8": 1.42,
    "L/2": 80.71,
    "L/4": 19.70,
    "L/8": 5.01,
    "XL/2": 118.64,
    "XL/4": 29.05,
    "XL/8": 7.39,
}


def meta(name: str, channels: int, size: int, **arguments: int) -> DiT:
    with torch.device("meta"):
        return DiT.preset(name, channels=channels, size=size, **arguments)


def millions(network: DiT) -> float:
    return sum(p.numel() for p in network.parameters()) / 1e6


def gflop(network: DiT, *shape: int) -> float:
    with FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, *shape, device="meta"), torch.zeros(1, device="meta"))
    return counter.get_total_flops() / 1e9


@pytest.mark.parametrize("name", GMACS)
def test_presets_have_the_papers_size_and_cost(name):
    network = meta(name, 4, 32, classes=1000, out_channels=8)  # the paper predicts noise and covariance
    assert millions(network) == pytest.approx(MILLIONS[name.split("/")[0]], rel=0.01)
    assert gflop(network, 4, 32, 32) / 2 == pytest.approx(GMACS[name], rel=0.01)


def test_default_output_has_the_inputs_channels():
    with torch.no_grad():
        assert meta("S/8", 4, 32)(torch.zeros(2, 4, 32, 32, device="meta"), torch.zeros(2, device="meta")).shape[1] == 4


@pytest.mark.parametrize(("name", "shape"), [("tiny", (1, 8, 8)), ("small", (1, 28, 28))])
def test_the_docstring_states_the_cost(name, shape):
    network = meta(name, shape[0], shape[-1], classes=10)
    row = re.search(
        rf"^ *{name} .*?([\d.]+) M +([\d.]+) +{'×'.join(map(str, shape))}$", DiT.preset.__doc__, re.MULTILINE
    )
    assert row, f"no row for {name}"
    assert millions(network) == pytest.approx(float(row[1]), rel=0.02)
    assert gflop(network, *shape) == pytest.approx(float(row[2]), rel=0.02)


@pytest.mark.parametrize(("size", "patch"), [((6,), 3), ((4, 6), 2), ((2, 4, 6), 2), ((3, 5), 1)])
def test_patches_and_image_are_inverse(size, patch):
    network = DiT(3, size, patch=patch, width=24, depth=0, heads=1)
    x = torch.randn(2, 3, *size)
    patches = network._patches(x)
    assert patches.shape == (2, x[0, 0].numel() // patch ** len(size), 3 * patch ** len(size))
    assert torch.equal(network._image(patches), x)


def test_a_patch_is_a_square_of_the_image():
    x = torch.arange(2 * 4 * 6).reshape(1, 2, 4, 6).float()
    patches = DiT(2, (4, 6), patch=2, width=24, depth=0, heads=1)._patches(x)
    assert torch.equal(
        patches[0, 4], x[0, :, 2:4, 2:4].permute(1, 2, 0).flatten()
    )  # second row of patches, second column


def test_blocks_are_the_identity_at_first():
    network = DiT(1, 4, patch=2, width=16, depth=3, heads=2)
    h, c = torch.randn(2, 4, 16), torch.randn(2, 16)
    for block in network.blocks:
        assert torch.equal(block(h, c), h)


def test_positions_break_the_symmetry_of_patches():
    torch.manual_seed(0)
    network = DiT(1, (2, 4), patch=2, width=16, depth=1, heads=2)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    x, t = torch.randn(1, 1, 2, 4), torch.rand(1)
    swapped = network(x.roll(2, dims=3), t).roll(2, dims=3)
    assert (network(x, t) - swapped).abs().max() > 1e-3
    network.positions.zero_()
    assert torch.allclose(network(x, t), network(x.roll(2, dims=3), t).roll(2, dims=3), atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 9}, r"patches of 2 do not divide the size \(9, 9\)"),
        ({"size": (8, 7)}, r"patches of 2 do not divide the size \(8, 7\)"),
        ({"size": 8, "width": 34, "heads": 2}, "multiple of 4"),
        ({"size": 8, "width": 32, "heads": 5}, "5 attention heads do not divide a width of 32"),
    ],
)
def test_impossible_architectures_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        DiT(1, patch=2, depth=1, **arguments)
