"""The MLP's sizes."""

import re

import pytest
import torch

from ornstein.networks import MLP
from ornstein.networks.mlp import PRESETS


def test_the_docstring_states_the_parameters():
    stated = re.findall(r"`([\w-]+)` \(([\d.]+) M", MLP.preset.__doc__)
    assert [name for name, _ in stated] == list(PRESETS)
    for name, millions in stated:
        count = sum(p.numel() for p in MLP.preset(name, dim=2).parameters())
        assert count / 1e6 == pytest.approx(float(millions), rel=0.01)


def test_overrides_replace_the_presets_arguments():
    network = MLP.preset("tiny", dim=3, classes=2, depth=1)
    assert network.config["depth"] == 1
    assert network.config["width"] == 128
    assert network.classes == 2


def test_a_linear_path_is_linear_in_x_and_the_vector_beside_it():
    """Without the blocks' part the output is linear in (x, vector) at each time, with a gain that the condition may change."""
    torch.manual_seed(0)
    network = MLP(dim=3, width=16, depth=1, vector=2, linear=True)
    x, vector, t = torch.randn(8, 3), torch.randn(8, 2), torch.tensor(0.3)
    assert not network(x, t, vector).any()  # zero at first
    torch.nn.init.normal_(network.tail.weight)
    torch.nn.init.normal_(network.stem.bias)
    start = network(torch.zeros(8, 3), t, torch.zeros(8, 2))
    first, second = network(x, t, torch.zeros(8, 2)) - start, network(torch.zeros(8, 3), t, vector) - start
    torch.testing.assert_close(network(x, t, vector), start + first + second)
    torch.testing.assert_close(network(2 * x, t, torch.zeros(8, 2)), start + 2 * first)
    assert second.abs().max() > 0.1
    torch.testing.assert_close(network(x, t), start + first)  # no vector is the null vector
    assert MLP(**network.config).load_state_dict(network.state_dict())
