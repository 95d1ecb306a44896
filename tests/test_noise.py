"""Noise of one sample: the same bits in any batch, other bits for anything else, and standard normal."""

import numpy as np
import pytest
import torch
from scipy import stats

from ornstein.noise import PerSampleNoise, bits, mix

SHAPES = [(), (1,), (7,), (3, 5, 5), (1, 28, 28)]
DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_row_is_the_same_alone_and_among_others(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    batch = PerSampleNoise(seed=3)(torch.zeros(64, *shape, dtype=dtype), 0.5, 0.4)
    assert batch.dtype == dtype
    assert batch.shape == (64, *shape)
    for i in (0, 1, 63):
        alone = PerSampleNoise(seed=3, first=i)(torch.zeros(1, *shape, dtype=dtype), 0.5, 0.4)
        assert torch.equal(alone[0], batch[i])


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_rounds_the_same_numbers(dtype: torch.dtype) -> None:
    drawn = [PerSampleNoise()(torch.zeros(5, 9, dtype=kind), 1.0, 1.0) for kind in (torch.float32, dtype)]
    assert torch.equal(drawn[0].to(dtype), drawn[1])


def test_memory_layout_does_not_matter() -> None:
    x = torch.zeros(4, 3, 6, 6)
    strided = PerSampleNoise()(x.to(memory_format=torch.channels_last), 0.5, 0.4)
    assert torch.equal(strided, PerSampleNoise()(x, 0.5, 0.4))


def test_the_numbers_are_philox_with_the_documented_key_and_counter() -> None:
    drawn = PerSampleNoise(seed=11, first=2)(torch.zeros(3, 40), 0.75, 0.5)
    for i, row in enumerate(drawn, 2):
        generator = np.random.Generator(np.random.Philox(key=[11, i], counter=[0, 0, bits(0.75), bits(0.5)]))
        assert np.array_equal(row.numpy(), generator.standard_normal(40, dtype=np.float32))


def test_seed_row_and_both_times_each_change_the_noise() -> None:
    x = torch.zeros(1, 16)
    drawn = [
        PerSampleNoise()(x, 0.5, 0.4),
        PerSampleNoise(seed=1)(x, 0.5, 0.4),
        PerSampleNoise(seed=-1)(x, 0.5, 0.4),
        PerSampleNoise(seed=1 << 32)(x, 0.5, 0.4),  # generators that read 32 bits of a seed repeat themselves here
        PerSampleNoise(first=1)(x, 0.5, 0.4),
        PerSampleNoise(first=1 << 32)(x, 0.5, 0.4),
        PerSampleNoise()(x, 0.6, 0.4),
        PerSampleNoise()(x, 0.5, 0.3),
        PerSampleNoise()(x, 0.4, 0.5),
    ]
    values = torch.cat(drawn)
    assert len(values.unique(dim=0)) == len(drawn)
    assert values.flatten().unique().numel() == values.numel()  # no stream is another one shifted


def test_standard_normal_and_independent_of_row_step_and_seed() -> None:
    x = torch.zeros(2000, 50, dtype=torch.float64)
    drawn = PerSampleNoise()(x, 1.0, 0.9)
    assert stats.kstest(drawn.flatten().numpy(), "norm").pvalue > 0.01
    assert stats.kstest(drawn[:, 0].numpy(), "norm").pvalue > 0.01  # the first number of every stream
    others = [drawn.roll(1, 0), drawn.roll(1, 1), PerSampleNoise()(x, 0.9, 0.8), PerSampleNoise(seed=1)(x, 1.0, 0.9)]
    for other in others:
        correlation = float((drawn * other).mean()) * drawn.numel() ** 0.5
        assert abs(correlation) < 3.5


def test_an_empty_batch_is_empty() -> None:
    assert PerSampleNoise()(torch.zeros(0, 3, 4), 1.0, 1.0).shape == (0, 3, 4)


def test_global_generators_are_neither_read_nor_moved() -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    first = PerSampleNoise()(torch.zeros(2, 3), 1.0, 1.0)
    torch.manual_seed(5)
    assert torch.equal(first, PerSampleNoise()(torch.zeros(2, 3), 1.0, 1.0))
    torch.manual_seed(0)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])


def test_mix_tells_order_sign_and_length_apart() -> None:
    seeds = [mix(), mix(0), mix(0, 0), mix(1), mix(-1), mix(1, 2), mix(2, 1), mix(1 << 63), mix(3, 0)]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 1 << 63 for seed in seeds)


def test_mix_flips_half_of_the_bits() -> None:
    flips = [bin(mix(7, i) ^ mix(7, i ^ (1 << b))).count("1") for i in range(64) for b in range(0, 40, 3)]
    assert abs(sum(flips) / len(flips) - 31.5) < 0.5
