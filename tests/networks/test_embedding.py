"""Embeddings against values written out by hand and against the properties they are chosen for."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ornstein.networks import DDPM, SLOW, Conditioning, FourierFeatures, grid_positions, sinusoidal

coordinate = st.floats(-3, 3, allow_subnormal=False)


def test_sinusoidal_values_are_ddpms():
    # DDPM's width 128: frequencies 10000^(-j/63), sines first.
    u = torch.tensor([0.0, 1.0, 637.0, 1000.0], dtype=torch.float64)
    embedding = sinusoidal(u, 128)
    for row, value in zip(embedding, u.tolist(), strict=True):
        for j in (0, 1, 31, 63):
            angle = value * 10_000 ** (-j / 63)
            assert row[j].item() == pytest.approx(math.sin(angle), abs=1e-9)
            assert row[64 + j].item() == pytest.approx(math.cos(angle), abs=1e-9)


def test_sinusoidal_keeps_precision_for_integers_and_half_types():
    expected = sinusoidal(torch.tensor([999.0]), 16)
    assert torch.equal(sinusoidal(torch.tensor([999]), 16), expected)
    assert sinusoidal(torch.tensor([1.0], dtype=torch.bfloat16), 16).dtype is torch.float32


@pytest.mark.parametrize("width", [2, 7])
def test_sinusoidal_refuses_widths_it_cannot_fill(width):
    with pytest.raises(ValueError, match="even width"):
        sinusoidal(torch.zeros(1), width)


@given(
    v=st.tuples(coordinate, coordinate), w=st.tuples(coordinate, coordinate), shift=st.tuples(coordinate, coordinate)
)
@settings(max_examples=50, deadline=None)
def test_fourier_features_inner_product_depends_on_the_difference_alone(v, w, shift):
    generator = torch.Generator().manual_seed(1)
    b = torch.randn(12, 2, generator=generator, dtype=torch.float64)
    a = torch.rand(12, generator=generator, dtype=torch.float64)
    features = FourierFeatures(b, a)
    v, w, shift = (torch.tensor(p, dtype=torch.float64) for p in (v, w, shift))
    product = features(v) @ features(w)
    assert torch.allclose(product, features(v + shift) @ features(w + shift), atol=1e-9)
    assert torch.allclose(product, (a**2 * torch.cos(2 * math.pi * (b @ (v - w)))).sum(), atol=1e-9)


def test_gaussian_features_approach_the_gaussian_kernel():
    features, scale = FourierFeatures.gaussian(2, 20_000, scale=0.3), 0.3
    v, w = torch.tensor([0.2, -0.1]), torch.tensor([-0.3, 0.4])
    kernel = torch.exp(-2 * math.pi**2 * scale**2 * (v - w).square().sum())
    assert (features(v) @ features(w) / 20_000).item() == pytest.approx(kernel.item(), abs=0.02)


def test_gaussian_features_are_fixed_by_their_seed_and_saved():
    torch.manual_seed(3)
    one = FourierFeatures.gaussian(3, 8, 16.0)
    torch.manual_seed(4)
    two = FourierFeatures.gaussian(3, 8, 16.0)
    assert torch.equal(one.frequencies, two.frequencies)
    assert not torch.equal(one.frequencies, FourierFeatures.gaussian(3, 8, 16.0, seed=1).frequencies)
    assert set(one.state_dict()) == {"frequencies", "amplitudes"}
    assert not list(one.parameters())


def test_fourier_features_are_not_rounded_by_autocast():
    features, v = FourierFeatures.gaussian(1, 8, 16.0), torch.rand(5, 1)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(features(v), features(v).float())
        rounded = features(v)
    assert torch.equal(rounded, features(v))


def test_fourier_features_refuse_shapes_that_do_not_fit():
    with pytest.raises(ValueError, match=r"\(m, d\)"):
        FourierFeatures(torch.zeros(4, 2), torch.zeros(3))
    with pytest.raises(ValueError, match=r"\(m, d\)"):
        FourierFeatures(torch.zeros(4))


def test_grid_positions_values():
    table = grid_positions((3, 5), 16)
    assert table.shape == (15, 16)
    row, column = 2, 3
    expected = []
    for index in (row, column):
        angles = [index * 10_000 ** (-j / 4) for j in range(4)]
        expected += [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
    assert torch.allclose(table[row * 5 + column], torch.tensor(expected), atol=1e-5)


@pytest.mark.parametrize("shape", [(7,), (4, 6), (2, 3, 4)])
def test_grid_positions_tell_all_places_apart(shape):
    table = grid_positions(shape, 24)
    distances = torch.cdist(table, table) + 10 * torch.eye(len(table))
    assert distances.min() > 0.1
    assert torch.allclose(table.square().sum(1), torch.full((len(table),), 12.0))  # sin² + cos²


@pytest.mark.parametrize(("shape", "width"), [((4, 4), 30), ((2, 2, 2), 16), ((), 8)])
def test_grid_positions_refuse_widths_they_cannot_fill(shape, width):
    with pytest.raises(ValueError, match="multiple of"):
        grid_positions(shape, width)


def test_conditioning_is_the_sum_of_its_parts():
    torch.manual_seed(0)
    module = Conditioning(32, 16, classes=3, vector=2)
    t, labels, vector = torch.rand(5), torch.tensor([0, 1, 2, 3, 0]), torch.randn(5, 2)
    time = module.time(sinusoidal(8 * t, 32, 8))
    expected = time + module.labels.weight[labels] + module.vectors(vector)
    assert torch.allclose(module(t, (labels, vector), 5), expected, atol=1e-6)
    alone = time + module.labels.weight[3] + module.vectors(torch.zeros(1, 2))
    assert torch.allclose(module(t, None, 5), alone, atol=1e-6)


@pytest.mark.parametrize("frequencies", [SLOW, DDPM, (0.5, 20.0)])
def test_features_of_time_have_the_frequencies_that_they_are_built_with(frequencies):
    lowest, highest = frequencies
    module = Conditioning(32, 32, frequencies=frequencies)
    module.time = nn.Linear(32, 32).double()
    nn.init.eye_(module.time.weight)
    nn.init.zeros_(module.time.bias)
    t = torch.rand(20, dtype=torch.float64)
    waves = module(t, None, 20)
    ladder = highest * (lowest / highest) ** torch.linspace(0, 1, 16, dtype=torch.float64)
    angles = t[:, None] * ladder
    assert torch.allclose(waves, torch.cat([angles.sin(), angles.cos()], 1), atol=1e-9)


def test_ddpms_frequencies_are_its_embedding_of_a_thousand_steps_bit_for_bit():
    module = Conditioning(32, 32, frequencies=DDPM)
    module.time, t = nn.Linear(32, 32), torch.rand(9)
    assert torch.equal(module(t, None, 9), module.time(sinusoidal(1000 * t, 32)))


@pytest.mark.parametrize("frequencies", [(0.0, 1.0), (2.0, 2.0), (3.0, 1.0), (1.0, math.inf), (math.nan, 1.0)])
def test_frequencies_that_are_no_range_are_refused(frequencies):
    with pytest.raises(ValueError, match="frequencies"):
        Conditioning(32, 16, frequencies=frequencies)


def test_conditioning_of_one_time_is_one_row():
    module = Conditioning(32, 16, classes=3)
    assert module(torch.tensor(0.3), None, 7).shape == (1, 16)
    assert module(torch.tensor(0.3), torch.zeros(7, dtype=torch.uint8), 7).shape == (7, 16)


def test_conditioning_with_fourier_times():
    module = Conditioning(32, 16, fourier=16.0)
    t = torch.rand(4)
    angles = 2 * math.pi * t[:, None] * module.fourier.frequencies[:, 0]
    assert torch.allclose(module(t, None, 4), module.time(torch.cat((angles.cos(), angles.sin()), 1)), atol=1e-5)
    assert "fourier.frequencies" in module.state_dict()


@pytest.mark.parametrize("t", [torch.tensor([3, 4]), torch.rand(3), torch.rand(2, 1)])
def test_conditioning_refuses_times_that_do_not_fit(t):
    with pytest.raises(ValueError, match=r"t must be a floating tensor in \[0, 1\] of shape \(\) or \(2,\)"):
        Conditioning(8, 8)(t, None, 2)
