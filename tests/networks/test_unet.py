"""The U-Net's sizes, counts and costs."""

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from ornstein.networks import UNet
from ornstein.networks.unet import _Up


def meta(name: str, channels: int, **arguments: int) -> UNet:
    with torch.device("meta"):
        return UNet.preset(name, channels=channels, **arguments)


def parameters(network: UNet) -> int:
    return sum(p.numel() for p in network.parameters())


def gflop(network: UNet, *shape: int) -> float:
    with FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, *shape, device="meta"), torch.zeros(1, device="meta"))
    return counter.get_total_flops() / 1e9


def ddpm_parameters(base: int, multipliers: tuple[int, ...], blocks: int, attention: int) -> int:
    """Ho et al.'s network counted layer by layer: an account independent of the module."""

    def conv(i: int, o: int, k: int = 3) -> int:
        return i * o * k * k + o

    def residual(i: int, o: int) -> int:
        return 2 * i + conv(i, o) + (4 * base + 1) * o + 2 * o + conv(o, o) + (conv(i, o, 1) if i != o else 0)

    def attend(c: int) -> int:
        return 2 * c + 4 * conv(c, c, 1)

    total = conv(3, base) + (base + 1) * 4 * base + (4 * base + 1) * 4 * base
    channels, current = [base], base
    for level, m in enumerate(multipliers):
        for _ in range(blocks):
            total += residual(current, m * base) + (attend(m * base) if level == attention else 0)
            current = m * base
            channels.append(current)
        if level < len(multipliers) - 1:
            total += conv(current, current)
            channels.append(current)
    total += 2 * residual(current, current) + attend(current)
    for level in reversed(range(len(multipliers))):
        for _ in range(blocks + 1):
            new = multipliers[level] * base
            total += residual(current + channels.pop(), new) + (attend(new) if level == attention else 0)
            current = new
        if level:
            total += conv(current, current)
    return total + 2 * current + conv(current, 3)


def test_ddpm_cifar10_has_the_papers_parameters():
    assert ddpm_parameters(128, (1, 2, 2, 2), 2, 1) == 35_746_307
    network = meta("ddpm-cifar10", 3)
    assert parameters(network) == 35_746_307
    assert network.config["dropout"] == 0.1


def test_ddpm_cifar10_has_one_head_and_attends_at_16_pixels_and_in_the_middle():
    network = meta("ddpm-cifar10", 3)
    attentions = [(k, m) for k, m in network.named_modules() if hasattr(m, "heads")]
    assert len(attentions) == 2 + 1 + 3
    assert all(m.heads == 1 for _, m in attentions)


@pytest.mark.parametrize(
    ("name", "shape", "classes"),
    [("tiny", (1, 8, 8), 10), ("small", (1, 28, 28), 10), ("ddpm-cifar10", (3, 32, 32), 0)],
)
def test_the_docstring_states_the_cost(name, shape, classes):
    network = meta(name, shape[0], classes=classes)
    row = re.search(
        rf"^ *{name} .*?([\d.]+) M +([\d.]+) +{'×'.join(map(str, shape))}$", UNet.preset.__doc__, re.MULTILINE
    )
    assert row, f"no row for {name}"
    assert parameters(network) / 1e6 == pytest.approx(float(row[1]), rel=0.02)
    assert gflop(network, *shape) == pytest.approx(float(row[2]), rel=0.02)


@given(data=st.data(), dims=st.integers(1, 3))
@settings(max_examples=20, deadline=None)
def test_any_size_works(data, dims):
    shape = data.draw(st.tuples(*[st.integers(1, 13 if dims < 3 else 6)] * dims))
    network = UNet(2, width=4, multipliers=(1, 2, 2), blocks=1, attention_levels=(2,), dims=dims)
    torch.nn.init.normal_(network.head.weight)
    x = torch.randn(2, 2, *shape)
    out = network(x, torch.rand(2))
    assert out.shape == x.shape
    assert out.isfinite().all()


def test_levels_halve_rounding_up():
    network, sides = UNet(1, width=4, multipliers=(1, 1, 1), blocks=1), []
    for layer in network.down:
        layer.register_forward_hook(lambda _module, _inputs, out: sides.append(tuple(out.shape[2:])))
    network(torch.randn(1, 1, 7, 13), torch.rand(1))
    assert sides == [(7, 13), (4, 7), (4, 7), (2, 4), (2, 4)]


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_every_output_pixel_sees_every_input_pixel(dims):
    torch.manual_seed(0)
    network = UNet(1, width=8, multipliers=(1, 2), blocks=1, dims=dims)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    x = torch.randn(1, 1, *(5,) * dims, requires_grad=True)
    network(x, torch.rand(1)).flatten()[0].backward()
    assert (x.grad != 0).all()


def test_additive_blocks_differ_from_adaptive_ones():
    plain = UNet(1, width=8, multipliers=(1,), blocks=1, additive=True)
    adaptive = UNet(1, width=8, multipliers=(1,), blocks=1)
    wide = {k: v.shape for k, v in adaptive.state_dict().items() if "modulation" in k}
    narrow = {k: v.shape for k, v in plain.state_dict().items() if "modulation" in k}
    assert wide.keys() == narrow.keys()
    assert all(wide[k][0] == 2 * narrow[k][0] for k in wide)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dims": 4}, "1, 2 or 3 spatial dimensions"),
        ({"attention_levels": (3,)}, r"must lie in 0\.\.2"),
        ({"attention_levels": (-1,)}, r"must lie in 0\.\.2"),
        ({"blocks": (1, 2)}, "one count for each of the 3"),
    ],
)
def test_impossible_architectures_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        UNet(1, **arguments)


@pytest.mark.parametrize("sides", [(7,), (3, 4), (2, 3, 2)])
def test_upsampling_in_training_is_interpolation_and_convolution(sides):
    torch.manual_seed(0)
    layer, twice = _Up(len(sides), 4).double(), torch.Size(2 * n for n in sides)
    x = torch.randn(2, 4, *sides, dtype=torch.float64, requires_grad=True)
    out, expected = layer(x, twice), layer.conv(torch.nn.functional.interpolate(x, size=twice, mode="nearest"))
    assert "Convolution" in type(out.grad_fn).__name__
    weights = torch.randn_like(out)
    found, right = (torch.autograd.grad((y * weights).sum(), (x, *layer.parameters())) for y in (out, expected))
    for near, exact in zip((out, *found), (expected, *right), strict=True):
        assert torch.allclose(near, exact, atol=1e-12)
    with torch.no_grad():
        assert torch.equal(layer(x, twice), expected)
