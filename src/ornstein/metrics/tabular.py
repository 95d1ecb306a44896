"""Rows of tables beside real ones, column by column: marginals, pairs, and what a model that was trained on samples is worth.

Distances are the usual ones of the field: of a column of numbers the Kolmogorov–Smirnov statistic, of categories half the sum of
absolute differences of shares (total variation); a missing value is a category of its own, in numbers too. Of a pair of numbers
half the difference of the correlations; of all other pairs the total variation of their table of counts, numbers in tenths of the
real data. What a model says of one column given all others is scored by the CRPS of numbers, and by the Brier score of
categories, Σ_k (p_k − 1[y = k])² (Gneiting and Raftery 2007), beside values of other rows. Intervals are ±1.96 deviations over
resampled rows of both sides (the bootstrap). Two samples of one distribution have positive distances as well, so each score
stands beside that of other real data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ornstein import extras
from ornstein.data import Dataset
from ornstein.data.column_spec import ColumnSpec
from ornstein.data.columns import Column
from ornstein.errors import UsageError
from ornstein.metrics.crps import crps
from ornstein.metrics.evaluation import Evaluation, Row
from ornstein.metrics.score import Score, Z, need, smooth

DRAWS = 40  # resamplings
BINS = 10  # of numbers in a table of counts
LEAST = 100
MOST_PAIRS = 1000
LARGEST = 40  # states of a column that is foretold
TEST = 20_000  # rows that a model is tested on
FORETOLD, ENSEMBLE = 200, 32  # rows of which a column is foretold, and draws of each

Rows = NDArray[np.float64]


Foretell = Callable[[Rows, int], Rows]
"""Of rows (N, C), whose column at a place is NaN: draws of its numbers (N, K), or chances of its states (N, K)."""


@dataclass(frozen=True)
class Tabular:
    """The scores of all columns together with what other real data score, the distance of each column, and what was left out."""

    rows: tuple[Row, ...]
    by_column: Mapping[str, Score]
    notes: tuple[str, ...]


def tabular(
    samples: Rows, real: Rows, fresh: Rows | None, spec: ColumnSpec, target: str | None = None, seed: int = 0
) -> Tabular:
    """Scores of samples (N, C) beside real rows (M, C); `fresh` are other real rows in the place of the samples.

    `target` is the column that models are trained to predict; None: the last one of few categories, else the last one.
    Raises UsageError below 100 rows.
    """
    need(LEAST, "Distances of columns", samples=len(samples), real=len(real))
    rng = np.random.default_rng(seed)
    made = Coded(samples, real, spec)
    floor = None if fresh is None or len(fresh) < LEAST else Coded(fresh, real, spec)
    by_column = {name: _score(name, made, partial(_marginal, i), rng) for i, name in made.names}
    rows = []
    for name, statistic in (("marginals, mean distance", Coded.marginals), ("pairs, mean distance", Coded.pairs)):
        if name.startswith("pairs") and len(made.names) < 2:
            continue
        below = None if floor is None else _score(name, floor, statistic, rng)
        rows.append(Row(_score(name, made, statistic, rng), below))
    notes: tuple[str, ...] = ()
    try:
        rows.append(downstream(samples, fresh, real, spec, target, seed))
    except UsageError as error:
        notes = (f"the score of models trained on samples was left out: {error}",)
    return Tabular(tuple(rows), by_column, notes)


def with_columns(
    evaluation: Evaluation,
    samples: Rows,
    data: Dataset,
    training: Dataset | None,
    spec: ColumnSpec,
    target: str | None,
    foretell: Foretell | None = None,
) -> Evaluation:
    """An evaluation with the scores of columns before its own, on the same rows of the data and of the training data.

    foretell: what a model says of the target column of rows, given all others; None: it is of the joint distribution alone.
    """
    count = len(samples)
    shuffled = np.random.default_rng(0).permutation(len(data))[: 2 * count]
    half = min(count, len(data) // 2) if training is data else count
    real = np.asarray(data.items[np.sort(shuffled[:half])])
    fresh: Rows | None = None
    if training is data:
        fresh = np.asarray(data.items[np.sort(shuffled[half : 2 * half])])
    elif training is not None:
        fresh = np.asarray(training.items[np.sort(np.random.default_rng(0).permutation(len(training))[:count])])
    made = tabular(samples, real, fresh, spec, target)
    given = () if foretell is None else conditional(foretell, real, fresh, spec, target)
    return replace(
        evaluation,
        rows=(*made.rows, *given, *evaluation.rows),
        by_class=made.by_column,
        notes=(*made.notes, *evaluation.notes),
    )


class Coded:
    """Samples and real rows as codes of counts, and with weights for the rows of both sides."""

    def __init__(self, samples: Rows, real: Rows, spec: ColumnSpec) -> None:
        self.columns = spec.columns
        self.names = [(i, column.name) for i, column in enumerate(spec.columns) if column.width]
        self.sides = samples, real
        self.weights = np.full(len(samples), 1 / len(samples)), np.full(len(real), 1 / len(real))
        codes = [_codes(column, samples[:, i], real[:, i]) for i, column in enumerate(spec.columns)]
        self.codes = tuple(np.stack([code[side] for code in codes], 1) for side in (0, 1))
        self.sizes = [1 + max(int(side.max(initial=0)) for side in code) for code in codes]
        pairs = list(combinations([i for i, _ in self.names], 2))
        if len(pairs) > MOST_PAIRS:
            chosen = np.random.default_rng(0).permutation(len(pairs))[:MOST_PAIRS]
            pairs = [pairs[i] for i in sorted(chosen.tolist())]
        self.among = pairs
        self.orders = {i: _order(column, *(side[:, i] for side in self.sides)) for i, column in enumerate(self.columns)}

    def resampled(self, rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Weights of rows that are drawn anew, with replacement."""
        drawn = [rng.multinomial(len(side), np.full(len(side), 1 / len(side))) / len(side) for side in self.sides]
        return drawn[0], drawn[1]

    def marginal(self, i: int) -> float:
        """The distance of a column."""
        column = self.columns[i]
        if column.value is None:
            ours, theirs = (
                np.bincount(c[:, i], w, self.sizes[i]) for c, w in zip(self.codes, self.weights, strict=True)
            )
            return float(np.abs(ours - theirs).sum() / 2)
        order, last = self.orders[i]
        signed = np.concatenate([self.weights[0], -self.weights[1]])[order]
        return float(np.abs(np.cumsum(signed)[last]).max(initial=0.0))

    def marginals(self) -> float:
        """The mean over columns."""
        return float(np.mean([self.marginal(i) for i, _ in self.names]))

    def pairs(self) -> float:
        """The mean over pairs of columns."""
        numeric = {i for i, _ in self.names if self.columns[i].value is not None}
        plain = [i for i in sorted(numeric) if not any(np.isnan(side[:, i]).any() for side in self.sides)]
        place = {i: k for k, i in enumerate(plain)}
        matrices = [_correlations(side[:, plain], w) for side, w in zip(self.sides, self.weights, strict=True)]
        total = 0.0
        for i, j in self.among:
            if i in place and j in place:
                total += abs(float(matrices[0][place[i], place[j]] - matrices[1][place[i], place[j]])) / 2
                continue
            tables = [
                np.bincount(c[:, i] * self.sizes[j] + c[:, j], w, self.sizes[i] * self.sizes[j])
                for c, w in zip(self.codes, self.weights, strict=True)
            ]
            total += float(np.abs(tables[0] - tables[1]).sum() / 2)
        return total / len(self.among)


def _marginal(i: int, coded: Coded) -> float:
    return coded.marginal(i)


def _score(name: str, coded: Coded, statistic: Callable[[Coded], float], rng: np.random.Generator) -> Score:
    value, plain = statistic(coded), coded.weights
    drawn = []
    for _ in range(DRAWS):
        coded.weights = coded.resampled(rng)
        drawn.append(statistic(coded))
    coded.weights = plain
    error = Z * float(np.std(drawn, ddof=1))
    return Score(name, value, max(0.0, value - error), value + error)


def _codes(column: Column, samples: Rows, real: Rows) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """States of categories; tenths of the real numbers, and one more for missing ones."""
    if column.value is None:
        return (column.state_of(samples), column.state_of(real)) if column.width else (_zeros(samples), _zeros(real))
    there = real[~np.isnan(real)]
    edges = np.unique(np.quantile(there, np.arange(1, BINS) / BINS)) if len(there) else np.zeros(1)
    ours, theirs = (
        np.where(np.isnan(side), len(edges) + 1, np.searchsorted(edges, side, side="left")) for side in (samples, real)
    )
    return ours, theirs


def _zeros(rows: Rows) -> NDArray[np.int64]:
    return np.zeros(len(rows), np.int64)


def _order(column: Column, samples: Rows, real: Rows) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Both sides in ascending order, missing numbers last, and the last place of each value among them."""
    both = np.concatenate([samples, real])
    order = np.argsort(both, kind="stable")
    ordered = np.nan_to_num(both[order], nan=np.inf)
    return order, np.flatnonzero(np.concatenate([ordered[1:] != ordered[:-1], [True]]))


def _correlations(values: Rows, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    centred = values - weights @ values
    covariance = (centred * weights[:, None]).T @ centred
    spread = np.sqrt(np.diag(covariance))
    return covariance / np.maximum(np.outer(spread, spread), 1e-300)


def conditional(
    foretell: Foretell, real: Rows, fresh: Rows | None, spec: ColumnSpec, target: str | None = None
) -> tuple[Row, ...]:
    """The CRPS of numbers of the target column, in their unit, or the Brier score of its categories, given the rest of each row.

    Beside it that of values of other rows, without looking at the rest. None where the column is missing in nearly all rows.
    """
    place = target_of(spec, target)
    column = spec.columns[place]
    rows = _filled(real, column, place)[:FORETOLD]
    others = _filled(rows[:0] if fresh is None else fresh, column, place)[:, place]
    if len(rows) < 2:
        return ()
    truth, answers = rows[:, place], foretell(np.where(np.arange(rows.shape[1]) == place, np.nan, rows), place)
    marginal: Rows | None = None
    if column.is_numeric:
        name, each = f"CRPS of {column.name}, given the rest", crps(answers, truth)
        if len(others) > 1:
            marginal = crps(np.tile(others[None, :LEAST], (len(truth), 1)), truth)
    else:
        name, each = f"Brier score of {column.name}, given the rest", _brier(answers, truth)
        if len(others):
            shares = np.bincount(others.astype(np.int64), minlength=answers.shape[1]) / len(others)
            marginal = _brier(np.tile(shares, (len(truth), 1)), truth)
    return (Row(_mean(name, each), None if marginal is None else _mean(name, marginal)),)


def _brier(chances: Rows, truth: Rows) -> Rows:
    return np.asarray(np.square(chances - np.eye(chances.shape[1])[truth.astype(np.int64)]).sum(1))


def _mean(name: str, each: Rows) -> Score:
    return smooth(name, float(each.mean()), torch.from_numpy(each))


def target_of(spec: ColumnSpec, name: str | None) -> int:
    """The place of the column that is foretold. Raises UsageError for a name that is none, and for a constant column."""
    if name is not None:
        place = spec.place(name)
        if not spec.columns[place].width:
            raise UsageError(f"column {name} is constant in the training data; there is nothing to predict")
        return place
    few = [
        i for i, c in enumerate(spec.columns) if c.states is not None and c.value is None and c.states.count <= LARGEST
    ]
    return (few or [i for i, column in enumerate(spec.columns) if column.width])[-1]


def downstream(
    samples: Rows, training: Rows | None, real: Rows, spec: ColumnSpec, target: str | None = None, seed: int = 0
) -> Row:
    """Boosted trees trained on samples and tested on real rows, beside those trained on as many training rows.

    The area under the ROC curve of two categories, the accuracy of more, R² of numbers. Raises UsageError where scikit-learn is
    not installed, or a side lacks what is to be foretold.
    """
    ensemble = extras.library("sklearn.ensemble", "predicting a column")
    place = target_of(spec, target)
    column, known = spec.columns[place], [i for i, c in enumerate(spec.columns) if i != place and c.width]
    if not known:
        raise UsageError("there is one column alone")
    test = _filled(real[:TEST], column, place)
    categories = [k for k, i in enumerate(known) if spec.columns[i].value is None]
    kind = ensemble.HistGradientBoostingRegressor if column.value else ensemble.HistGradientBoostingClassifier

    def scored(rows: Rows) -> Score:
        rows = _filled(rows, column, place)
        if len(rows) < LEAST or len(np.unique(rows[:, place])) < 2:
            raise UsageError(f"column {column.name} does not vary in {len(rows):,} rows")
        small = [k for k in categories if len(np.unique(rows[:, known[k]])) < 250]
        model = kind(random_state=seed, categorical_features=small or None)
        x = [np.where(np.isnan(side[:, known]), np.nan, side[:, known]) for side in (rows, test)]
        model.fit(x[0], rows[:, place])
        return _tested(model, x[1], test[:, place], column, seed)

    ours = scored(samples)
    return Row(ours, None if training is None else scored(training[: len(samples)]))


def _filled(rows: Rows, column: Column, place: int) -> Rows:
    return rows[~np.isnan(rows[:, place])]


def _tested(model: Any, x: Rows, truth: Rows, column: Column, seed: int) -> Score:
    """The score on rows that were held back, and its interval over resampled ones."""
    rng, measure = np.random.default_rng(seed), _accuracy
    if column.value is not None:
        foretold, measure, name = model.predict(x), _explained, f"R² of {column.name}"
    elif len(model.classes_) == 2:
        foretold, measure, name = model.predict_proba(x)[:, 1], _area, f"AUC of {column.name}"
        truth = (truth == model.classes_[1]).astype(np.float64)
    else:
        foretold, name = model.predict(x), f"accuracy of {column.name}"
    value = measure(foretold, truth)
    drawn = []
    for _ in range(DRAWS):
        rows = rng.integers(len(truth), size=len(truth))
        drawn.append(measure(foretold[rows], truth[rows]))
    error = Z * float(np.std(drawn, ddof=1))
    return Score(f"{name}, trained on samples", value, value - error, min(1.0, value + error))


def _accuracy(foretold: Rows, truth: Rows) -> float:
    return float((foretold == truth).mean())


def _explained(foretold: Rows, truth: Rows) -> float:
    return float(1 - np.square(foretold - truth).mean() / max(truth.var(), 1e-300))


def _area(foretold: Rows, truth: Rows) -> float:
    """The Mann–Whitney statistic, ties by half."""
    _, places, counts = np.unique(foretold, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[places]
    ones = truth.sum()
    zeros = len(truth) - ones
    return float((ranks[truth == 1].sum() - ones * (ones + 1) / 2) / max(ones * zeros, 1))
