"""Distances of columns and pairs against those that are known, and scores of models trained on samples."""

from itertools import combinations

import numpy as np
import pytest

from ornstein.data.arrays import Arrays
from ornstein.data.cells import NameCells, NumberCells
from ornstein.data.column_spec import ColumnSpec, measure_columns
from ornstein.data.column_types import Guess
from ornstein.errors import UsageError
from ornstein.metrics.tabular import Coded, conditional, tabular, target_of

Rows = np.ndarray


def rows(count: int, seed: int, shift: float = 0.0, tie: float = 0.8) -> Rows:
    """Two correlated numbers, the second missing at times, and a category that goes with the first."""
    rng = np.random.default_rng(seed)
    a = rng.normal(size=count) + shift
    b = tie * a + np.sqrt(1 - tie**2) * rng.normal(size=count)
    c = (a > 0).astype(float) + (rng.random(count) < 0.1)
    b[rng.random(count) < 0.2] = np.nan
    return np.stack([a, b, c], 1)


def spec() -> ColumnSpec:
    guesses = (Guess("a", "numeric", NumberCells(), ""), Guess("b", "numeric", NumberCells(), ""))
    names = Guess("c", "category", NameCells(("no", "yes", "more")), "")
    return measure_columns(Arrays(rows(2000, 0), layout="NK", columns=(*guesses, names)), "here")


def test_distances_of_columns_are_those_of_the_literature() -> None:
    from scipy.stats import ks_2samp

    ours, theirs = rows(900, 1, shift=0.3), rows(1100, 2)
    coded = Coded(ours, theirs, spec())
    assert coded.marginal(0) == pytest.approx(ks_2samp(ours[:, 0], theirs[:, 0]).statistic)
    shares = [np.bincount(side[:, 2].astype(int), minlength=3) / len(side) for side in (ours, theirs)]
    assert coded.marginal(2) == pytest.approx(np.abs(shares[0] - shares[1]).sum() / 2)
    lacking = theirs.copy()
    lacking[:, 1] = np.nan  # a missing value is beyond all numbers
    assert Coded(lacking, theirs, spec()).marginal(1) == pytest.approx((~np.isnan(theirs[:, 1])).mean())


def test_pairs_are_seen_where_columns_alone_are_alike() -> None:
    fresh, real = rows(4000, 1), rows(4000, 2)
    apart = np.stack([np.random.default_rng(i).permutation(column) for i, column in enumerate(fresh.T)], 1)
    scores = {row.score.name: row for row in tabular(apart, real, fresh, spec()).rows}
    marginals, pairs = scores["marginals, mean distance"], scores["pairs, mean distance"]
    assert marginals.score.low <= marginals.floor.value <= marginals.score.high  # type: ignore[union-attr]
    assert pairs.score.low > 3 * pairs.floor.high  # type: ignore[union-attr]
    assert len(list(combinations(range(3), 2))) == len(Coded(apart, real, spec()).among)


def test_too_few_rows_are_refused_and_the_target_is_a_category() -> None:
    with pytest.raises(UsageError, match="would mean nothing"):
        tabular(rows(50, 0), rows(500, 1), None, spec())
    assert target_of(spec(), None) == 2
    guesses = (Guess("a", "numeric", NumberCells(), ""), Guess("same", "numeric", NumberCells(), ""))
    one = measure_columns(Arrays(np.stack([np.arange(9.0), np.ones(9)], 1), layout="NK", columns=guesses), "here")
    with pytest.raises(UsageError, match="column same is constant"):
        target_of(one, "same")
    assert target_of(spec(), "a") == 0
    with pytest.raises(UsageError, match="no column 'd'"):
        target_of(spec(), "d")


def test_models_trained_on_samples_are_worth_less_where_these_are_wrong() -> None:
    pytest.importorskip("sklearn")
    fresh, real = rows(2000, 1), rows(2000, 2)
    apart = np.stack([np.random.default_rng(i).permutation(column) for i, column in enumerate(fresh.T)], 1)
    for target, name in (("c", "accuracy of c, trained on samples"), ("b", "R² of b, trained on samples")):
        (row,) = (r for r in tabular(apart, real, fresh, spec(), target).rows if r.score.name == name)
        assert row.score.high < row.floor.low  # type: ignore[union-attr]


def test_what_is_foretold_given_the_rest_has_the_scores_of_the_true_distribution() -> None:
    real, fresh, rng = rows(4000, 1), rows(4000, 2), np.random.default_rng(3)

    def numbers(some: Rows, place: int) -> Rows:
        assert np.isnan(some[:, place]).all()
        return 0.8 * some[:, :1] + 0.6 * rng.normal(size=(len(some), 32))

    def chances(some: Rows, place: int) -> Rows:
        first = (some[:, 0] > 0)[:, None]
        return np.where(first, [0.0, 0.9, 0.1], [0.9, 0.1, 0.0])

    (told,) = conditional(numbers, real, fresh, spec(), "b")  # of a true N(m, s²) it is s/√π
    assert told.score.name == "CRPS of b, given the rest"
    assert told.score.low < 0.6 / np.sqrt(np.pi) < told.score.high < told.floor.low  # type: ignore[union-attr]
    (told,) = conditional(chances, real, fresh, spec(), "c")  # of true chances p it is Σ p(1 − p)
    assert told.score.name == "Brier score of c, given the rest"
    assert told.score.low < 0.18 < told.score.high < told.floor.low  # type: ignore[union-attr]
