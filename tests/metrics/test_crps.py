"""The score of an ensemble against closed forms."""

import math

import numpy as np
import pytest

from ornstein.errors import UsageError
from ornstein.metrics.crps import crps


def gaussian(mean, deviation, truth):
    """Gneiting and Raftery 2007, section 4.2: σ (z (2Φ(z) − 1) + 2φ(z) − 1/√π)."""
    z = (truth - mean) / deviation
    cumulative = 0.5 * (1 + math.erf(z / math.sqrt(2)))
    density = math.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    return deviation * (z * (2 * cumulative - 1) + 2 * density - 1 / math.sqrt(math.pi))


@pytest.mark.parametrize("truth", [-4.0, 0.3, 1.0, 5.0])
def test_many_draws_of_a_gaussian(truth):
    draws = np.random.default_rng(0).normal(1.0, 2.0, (400, 2000))
    each = crps(draws, np.full(400, truth))
    assert each.mean() == pytest.approx(gaussian(1.0, 2.0, truth), abs=4 * each.std() / 20)
    assert each.std() < 0.05  # so that the line above says something


@pytest.mark.parametrize("count", [2, 3, 10])
def test_is_unbiased_for_few_draws(count):
    each = crps(
        np.random.default_rng(count).normal(0.0, 1.0, (200_000 // count, count)), np.full(200_000 // count, 0.5)
    )
    error = each.std() / math.sqrt(len(each))
    assert abs(each.mean() - gaussian(0.0, 1.0, 0.5)) < 4 * error < 0.02


def test_against_the_definition_in_any_shape():
    rng = np.random.default_rng(1)
    draws, truth = rng.normal(size=(3, 5, 2, 4)), rng.normal(size=(3, 2, 4))
    truth[1, 0, 2] = np.nan
    near = np.abs(draws - truth[:, None]).mean(1)
    apart = np.abs(draws[:, :, None] - draws[:, None]).sum((1, 2)) / (5 * 4)
    np.testing.assert_allclose(crps(draws, truth), near - apart / 2, atol=1e-14)


def test_draws_that_are_missing_are_left_out():
    rng = np.random.default_rng(2)
    draws, truth = rng.normal(size=(4, 5, 2)), rng.normal(size=(4, 2))
    some = np.concatenate([draws, np.full((4, 2, 2), np.nan)], 1)[:, rng.permutation(7)]
    np.testing.assert_allclose(crps(some, truth), crps(draws, truth), atol=1e-14)
    some[0, :, 0] = [1.0, *[np.nan] * 6]  # one draw has no spread
    assert np.isnan(crps(some, truth)).sum() == 1


@pytest.mark.parametrize(("draws", "truth"), [((4, 1), (4,)), ((4, 3), (3,)), ((4, 3, 2), (4,)), ((4,), (4,))])
def test_refuses_what_does_not_fit(draws, truth):
    with pytest.raises(UsageError, match="do not fit"):
        crps(np.zeros(draws), np.zeros(truth))
