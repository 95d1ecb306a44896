"""The MLP's sizes."""

import re

import pytest

from ornstein.networks import MLP


def test_the_docstring_states_the_parameters():
    stated = re.findall(r"`(\w+)` \(([\d.]+) M", MLP.preset.__doc__)
    assert [name for name, _ in stated] == ["tiny", "small"]
    for name, millions in stated:
        count = sum(p.numel() for p in MLP.preset(name, dim=2).parameters())
        assert count / 1e6 == pytest.approx(float(millions), rel=0.01)


def test_overrides_replace_the_presets_arguments():
    network = MLP.preset("tiny", dim=3, classes=2, depth=1)
    assert network.config["depth"] == 1
    assert network.config["width"] == 128
    assert network.classes == 2
