"""Noise along one Brownian path: exact covariance, increments that compose, the same bits in any batch and order."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from ornstein import PerSampleNoise, exact, path, sample, solvers
from ornstein.noise import BrownianNoise, _tree, repeat

F64 = torch.float64


def increment(noise: BrownianNoise, t: float, s: float, shape: tuple[int, ...] = (3, 5)) -> Tensor:
    """W(s) − W(t)."""
    return noise(torch.zeros(shape, dtype=F64), t, s) * math.sqrt(abs(t - s))


@pytest.mark.parametrize("depth", [1, 12, 30])
def test_the_weights_have_the_covariance_of_brownian_motion(depth: int) -> None:
    """W(t) = Σ weight·Z, so cov(W(t), W(s)) is known without drawing: min(t, s), where t and s lie in different cells."""
    times = [0.0, 0.2, 0.77, 1.0] if depth == 1 else [0.0, 1e-3, 0.07, 0.25, 1 / 3, 0.334, 0.5, 0.9, 0.999, 1.0]
    weights = [_tree(t, depth) for t in times]
    for t, mine in zip(times, weights, strict=True):
        for s, theirs in zip(times, weights, strict=True):
            covariance = sum(weight * theirs.get(name, 0.0) for name, weight in mine.items())
            assert covariance == pytest.approx(min(t, s), abs=1e-12)


@given(st.lists(st.floats(0, 1), min_size=3, max_size=3, unique=True).map(sorted))
def test_increments_of_adjoining_steps_compose(times: list[float]) -> None:
    r, s, t = times
    noise = BrownianNoise(seed=4)
    whole, parts = increment(noise, t, r), increment(noise, t, s) + increment(noise, s, r)
    if min(t - s, s - r) > 1e-3:  # two times in one cell of the tree have a distance that is not quite |t − s|
        assert torch.allclose(whole, parts, atol=2e-6)


def test_uneven_and_fine_steps_add_up_to_the_whole() -> None:
    noise, times = BrownianNoise(), (torch.linspace(1, 0, 301, dtype=F64) ** 1.5).tolist()
    assert torch.allclose(
        sum(increment(noise, t, s) for t, s in pairwise(times)), increment(noise, 1.0, 0.0), atol=2e-5
    )


def test_the_way_back_is_the_same_path() -> None:
    noise = BrownianNoise()
    assert torch.allclose(increment(noise, 0.7, 0.2), -increment(noise, 0.2, 0.7), atol=1e-6)


def test_draws_are_standard_normal_and_those_of_disjoint_steps_independent() -> None:
    noise, x = BrownianNoise(seed=1), torch.zeros(3000, 10, dtype=F64)
    drawn = [noise(x, t, s) for t, s in ((1.0, 0.62), (0.62, 0.6), (0.6, 0.013), (0.0131, 1e-7), (2e-8, 1e-8))]
    for one in drawn:
        assert stats.kstest(one.flatten().numpy(), "norm").pvalue > 0.01
    for i, one in enumerate(drawn):
        for other in drawn[:i]:
            assert abs(float((one * other).mean())) * x.numel() ** 0.5 < 3.5
    rows = drawn[0]
    for shifted in (rows.roll(1, 0), rows.roll(1, 1)):
        assert abs(float((rows * shifted).mean())) * x.numel() ** 0.5 < 3.5


def test_overlapping_steps_are_correlated_by_their_overlap() -> None:
    noise, x = BrownianNoise(), torch.zeros(4000, 10, dtype=F64)
    a, b = noise(x, 0.9, 0.5), noise(x, 0.6, 0.1)
    expected = 0.1 / math.sqrt(0.4 * 0.5)
    assert float((a * b).mean()) == pytest.approx(expected, abs=3.5 / x.numel() ** 0.5)


@pytest.mark.parametrize("shape", [(), (1,), (17,), (3, 5, 5)])
@pytest.mark.parametrize("dtype", [torch.float32, F64, torch.bfloat16])
def test_a_row_is_the_same_alone_and_among_others(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    batch = BrownianNoise(seed=3)(torch.zeros(64, *shape, dtype=dtype), 0.5, 0.4)
    assert batch.dtype == dtype
    assert batch.shape == (64, *shape)
    for i in (0, 1, 63):
        alone = BrownianNoise(seed=3, first=i)(torch.zeros(1, *shape, dtype=dtype), 0.5, 0.4)
        assert torch.equal(alone[0], batch[i])


def test_queries_in_any_order_give_the_same_bits() -> None:
    pairs = [(1.0, 0.5), (0.5, 0.3), (0.3, 0.0), (0.9, 0.1)]
    first = [increment(BrownianNoise(), *pair) for pair in pairs]
    again = [increment(BrownianNoise(), *pair) for pair in reversed(pairs)]
    assert all(torch.equal(a, b) for a, b in zip(first, reversed(again), strict=True))


@pytest.mark.parametrize("noise", [PerSampleNoise(5), BrownianNoise(5)], ids=str)
def test_rows_may_have_times_of_their_own(noise: PerSampleNoise | BrownianNoise) -> None:
    x, t, s = torch.zeros(3, 4), torch.tensor([0.9, 0.5, 0.3], dtype=F64), torch.tensor([0.5, 0.5, 0.1], dtype=F64)
    together = noise(x, t, s)
    for i in range(3):
        assert torch.equal(together[i], noise(x, float(t[i]), float(s[i]))[i])


def test_seed_row_stream_and_path_each_change_the_noise() -> None:
    x = torch.zeros(1, 16)
    sources = [
        BrownianNoise(),
        BrownianNoise(1),
        BrownianNoise(-1),
        BrownianNoise(first=1),
        BrownianNoise(first=1 << 40),
    ]
    sources += [BrownianNoise().repeat(1), BrownianNoise().repeat(2)]
    values = torch.cat([source(x, 0.5, 0.4) for source in sources])
    assert len(values.unique(dim=0)) == len(sources)


def test_the_start_is_that_of_per_sample_noise() -> None:
    x = torch.zeros(4, 7)
    assert torch.equal(BrownianNoise(2, first=3)(x, 1.0, 1.0), PerSampleNoise(2, first=3)(x, 1.0, 1.0))


@pytest.mark.parametrize("noise", [PerSampleNoise(), BrownianNoise()], ids=str)
def test_repeated_draws_at_one_level_differ(noise: PerSampleNoise | BrownianNoise) -> None:
    x = torch.zeros(500, 40, dtype=F64)
    drawn = [noise(x, 0.5, 0.5), *(repeat(noise, k)(x, 0.5, 0.5) for k in (1, 2, 3))]
    assert torch.equal(drawn[1], repeat(noise, 1)(x, 0.5, 0.5))
    for i, one in enumerate(drawn):
        for other in drawn[:i]:
            assert abs(float((one * other).mean())) * x.numel() ** 0.5 < 3.5


def test_a_plain_function_repeats_itself() -> None:
    def fresh(x: Tensor, t: float, s: float) -> Tensor:
        return torch.randn_like(x)

    assert repeat(fresh, 3) is fresh


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(ValueError, match=r"BrownianNoise: the time 1.5 lies outside \[0, 1\]"):
        BrownianNoise()(torch.zeros(1, 1), 1.5, 0.5)
    with pytest.raises(ValueError, match=r"BrownianNoise: depth = 0 must lie in 1..40"):
        BrownianNoise(depth=0)


def distances(
    solver: solvers.Solver, noise: PerSampleNoise | BrownianNoise, steps: list[int], finest: int
) -> list[float]:
    """RMS distance of runs in so many steps to the same run in the finest."""
    denoiser = exact.GaussianMixture([0.5, 0.5], [[-1.0], [1.0]], 0.1, path.VariancePreserving())
    start = torch.linspace(-2, 2, 64, dtype=F64)[:, None]
    ends = [
        sample(denoiser, start=start, solver=solver, grid=torch.linspace(1, 0.02, n + 1, dtype=F64), noise=noise)
        for n in (*steps, finest)
    ]
    return [float((end - ends[-1]).square().mean().sqrt()) for end in ends[:-1]]


@pytest.mark.parametrize("solver", [solvers.EulerMaruyama(), solvers.Ancestral()], ids=str)
def test_an_sde_refined_along_one_path_converges_to_one_result(solver: solvers.Solver) -> None:
    """Strong convergence, of order 1 since the noise does not depend on x; fresh noise for each grid has no such limit."""
    steps = [50, 100, 200]
    errors = distances(solver, BrownianNoise(), steps, 800)
    x, y = torch.tensor(steps, dtype=F64).log(), torch.tensor(errors, dtype=F64).log()
    x, y = x - x.mean(), y - y.mean()
    assert -float((x * y).sum() / (x * x).sum()) > 0.8
    assert errors[-1] < 0.15
    assert min(distances(solver, PerSampleNoise(), [50, 100], 200)) > 0.5
