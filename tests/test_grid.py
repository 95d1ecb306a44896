"""Grids: every one falls strictly and ends at exactly 0; the published ones have the published numbers."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ornstein import grid, path
from ornstein.path import Path

SampleSheet = Callable[..., Tensor]


@given(p=st.sampled_from(path.ALL), make=st.sampled_from(grid.ALL), steps=st.integers(1, 50))
def test_grids_fall_strictly_to_zero(p: Path, make: SampleSheet, steps: int) -> None:
    times = make(p, steps)
    assert times.shape == (steps + 1,)
    assert times.dtype == torch.float64
    assert times[-1] == 0
    assert 0 < times[0] <= 1
    assert bool((times.diff() < 0).all())
    assert torch.equal(grid.explicit(times), times)


@pytest.mark.parametrize("p", path.ALL, ids=str)
@pytest.mark.parametrize("make", [grid.uniform, grid.polynomial, grid.trailing])
def test_grids_of_the_whole_path_begin_at_its_end(make: SampleSheet, p: Path) -> None:
    assert make(p, 7)[0] == 1


@pytest.mark.parametrize("make", grid.ALL)
@pytest.mark.parametrize("steps", [0, -1])
def test_no_steps_is_refused(make: SampleSheet, steps: int) -> None:
    with pytest.raises(ValueError, match=f"steps = {steps}: a grid has at least one step"):
        make(path.Linear(), steps)


def test_uniform() -> None:
    assert torch.allclose(grid.uniform(path.EDM(), 4), torch.tensor([1, 0.75, 0.5, 0.25, 0], dtype=torch.float64))


def test_trailing_counts_down_from_the_last_step() -> None:
    assert (grid.trailing(path.Betas.linear(), 10) * 1000).round().tolist() == list(range(1000, -1, -100))
    # numpy.round(numpy.arange(1000, 0, -1000/7)), the rule of Lin et al. 2024, table 2
    assert (grid.trailing(path.Linear(), 7) * 1000).round().tolist() == [1000, 857, 714, 571, 429, 286, 143, 0]


def test_leading_counts_up_from_the_first_step() -> None:
    assert (grid.leading(path.Betas.linear(), 10) * 1000).round().tolist() == [*range(901, 0, -100), 0]
    assert (grid.leading(path.Linear(), 3) * 1000).round().tolist() == [667, 334, 1, 0]


@pytest.mark.parametrize("make", [grid.trailing, grid.leading])
def test_whole_steps_are_those_of_the_table(make: SampleSheet) -> None:
    p = path.Betas.linear(20)
    assert torch.equal(make(p, 20), torch.arange(20, -1, -1, dtype=torch.float64) / 20)
    with pytest.raises(ValueError, match=r"steps = 21: a table of 20 β has at most 20 steps"):
        make(p, 21)


@pytest.mark.parametrize("p", path.ALL, ids=str)
def test_log_snr_is_even_in_log_snr(p: Path) -> None:
    levels = p.log_snr(grid.log_snr(p, 9, smallest=-5.0, largest=5.0)[:-1])
    assert torch.allclose(levels, torch.linspace(-5, 5, 9, dtype=torch.float64), atol=1e-9)


def test_log_snr_reaches_its_largest_value_unless_the_path_ends_before() -> None:
    assert float(path.Linear().log_snr(grid.log_snr(path.Linear(), 5, largest=7.0)[-2])) == pytest.approx(7)
    limited = path.VarianceExploding()  # its own log-SNR at t = 0 is 9.2, so the last even step goes there
    levels = limited.log_snr(grid.log_snr(limited, 5))
    assert torch.allclose(levels.diff(), levels.diff()[0].expand(5))


def test_karras_is_equation_5() -> None:
    p, steps, rho = path.EDM(), 18, 7
    largest, smallest = 80 ** (1 / rho), 0.002 ** (1 / rho)
    published = [(largest + i / (steps - 1) * (smallest - largest)) ** rho for i in range(steps)]
    sigmas = p.sigma(grid.karras(p, steps))
    assert torch.allclose(sigmas, torch.tensor([*published, 0.0], dtype=torch.float64), rtol=1e-12)


@pytest.mark.parametrize("p", path.ALL, ids=str)
def test_karras_gives_the_same_ratios_on_every_path(p: Path) -> None:
    times = grid.karras(p, 8, sigma_min=0.02, sigma_max=10.0)[:-1]
    reference = path.EDM()
    expected = reference.sigma(grid.karras(reference, 8, sigma_min=0.02, sigma_max=10.0)[:-1])
    assert torch.allclose(p.sigma(times) / p.alpha(times), expected, rtol=1e-9)


def test_bounds_outside_the_path_move_to_its_ends() -> None:
    p = path.EDM(sigma_max=10.0)
    assert float(p.sigma(grid.karras(p, 5))[0]) == pytest.approx(10)
    assert float(grid.log_snr(p, 5, smallest=-100.0)[0]) == pytest.approx(1)


@pytest.mark.parametrize("p", path.ALL, ids=str)
def test_polynomial_is_even_in_the_root_of_the_flow_clock(p: Path) -> None:
    times = grid.polynomial(p, 10, power=2.0)
    clock = p.sigma(times) / (p.alpha(times) + p.sigma(times))
    roots = ((clock - clock[-1]) / (clock[0] - clock[-1])).sqrt()
    assert torch.allclose(roots, torch.arange(10, -1, -1, dtype=torch.float64) / 10, atol=1e-9)


@pytest.mark.parametrize("p", path.ALL, ids=str)
def test_two_ended_follows_its_exponents_at_both_ends(p: Path) -> None:
    clock = (p.sigma(t := grid.two_ended(p, 1000, data=2.0, noise=1.5)) / (p.alpha(t) + p.sigma(t))).flip(0)
    part = (clock - clock[0]) / (clock[-1] - clock[0])
    assert float(part[1]) == pytest.approx(0.001**2, rel=0.01)  # u^2 at the data
    assert float(1 - part[-2]) == pytest.approx(0.001**1.5, rel=0.01)  # (1 − u)^1.5 at the noise


def test_two_ended_takes_even_quantiles_of_a_logistic_distribution() -> None:
    p = path.Linear()
    times = grid.two_ended(p, 20, data=1.2, noise=1.2)[1:-1]
    u = torch.arange(19, 0, -1, dtype=torch.float64) / 20
    assert torch.allclose((p.sigma(times) / p.alpha(times)).log(), 1.2 * torch.logit(u), atol=1e-9)


@pytest.mark.parametrize(
    ("times", "sentence"),
    [
        ([1.0], "at least two times, not of shape (1,)"),
        ([[1.0, 0.0]], "at least two times, not of shape (1, 2)"),
        ([1.0, 0.5, -0.1], "grid[2] = -0.1 lies outside [0, 1]"),
        ([1000.0, 500.0, 0.0], "grid[0] = 1000 lies outside [0, 1]"),
        ([1.0, math.nan, 0.0], "grid[1] = nan lies outside [0, 1]"),
        ([1.0, 0.5, 0.5, 0.0], "grid[1] = 0.5 is followed by 0.5"),
        ([1.0, 0.5, 0.7, 0.0], "grid[1] = 0.5 is followed by 0.7"),
        ([0.0, 0.5, 0.4], "grid[1] = 0.5 is followed by 0.4"),
        ([0.5, 0.5, 0.4], "grid[0] = 0.5 is followed by 0.5"),
    ],
)
def test_a_bad_grid_is_refused_in_one_sentence(times: list[float], sentence: str) -> None:
    with pytest.raises(ValueError) as caught:
        grid.explicit(times)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_explicit_takes_lists_tensors_and_rising_times() -> None:
    assert grid.explicit([1, 0.5, 0]).tolist() == [1, 0.5, 0]
    assert grid.explicit(torch.tensor([0.0, 0.25], requires_grad=True)).tolist() == [0, 0.25]


@pytest.mark.parametrize("make", [grid.polynomial, grid.two_ended, grid.log_snr, grid.karras], ids=lambda g: g.__name__)
@pytest.mark.parametrize("steps", [1, 2, 10, 50, 200, 700])
def test_no_call_is_made_below_the_first_level_of_a_beta_table(make: Any, steps: int) -> None:
    for p in (path.Betas.linear(), path.Betas.scaled_linear(), path.Betas.squared_cosine(), path.Betas.linear(10)):
        times = make(p, steps)
        assert len(times) == steps + 1
        assert bool((times.diff() < 0).all())
        assert times[-1] == 0
        assert float(times[-2]) >= (1 / p.steps) * (1 - 1e-9)


@pytest.mark.parametrize("make", [grid.polynomial, grid.two_ended], ids=lambda g: g.__name__)
def test_a_lower_first_level_is_used_where_it_is_wanted(make: Any) -> None:
    free, usual = path.Betas.scaled_linear(lowest=0), path.Betas.scaled_linear()
    assert make(free, 200)[-2] < 1 / 1000 <= make(usual, 200)[-2] * (1 + 1e-9)
    assert torch.equal(make(free, 8), make(usual, 8))
    assert free.zero_terminal_snr().lowest == 0 != usual.zero_terminal_snr().lowest
