"""Calibration of a run: its draws given the conditions of items, beside the items themselves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ornstein.arguments import Report, as_whole
from ornstein.conditions import Conditions, Known, Rows
from ornstein.data.column_spec import ColumnSpec
from ornstein.errors import UsageError
from ornstein.masking import AnyColumns
from ornstein.metrics.calibration import Calibration, calibration
from ornstein.noise import mix
from ornstein.runs.conditioning import ConditionBatch
from ornstein.solvers import Solver

if TYPE_CHECKING:
    from ornstein.data.dataset import Dataset
    from ornstein.runs.run import Run

Map = Callable[[NDArray[Any]], NDArray[np.float64]]


def calibrate(
    run: Run,
    dataset: Dataset,
    count: int = 200,
    draws: int = 100,
    *,
    density: bool = False,
    solver: Solver | str | None = None,
    steps: int | None = None,
    seed: int = 0,
    batch_size: int | None = None,
    units: Map | None = None,
    names: tuple[str, ...] = (),
    progress: Report | None = None,
) -> Calibration:
    """Ranks and coverage of `count` items of the data among `draws` samples each, given what the run is given of them.

    Of a run with conditions these are each item's own (a vector, for a posterior). Of a run with known numbers, those that its
    mask law draws are given, and the others are judged; of a table whole columns, where a missing value is an outcome like
    others and each column of numbers has a CRPS in its own unit. Items are best held out from the training.
    density: also by regions of highest density, which takes draws + 1 likelihoods of each item.
    units: from samples and items (N, D) in the run's units to those in which they are judged.
    names: of the numbers of an item, in order.

    Raises UsageError for data that do not fit the run, or a run that is given nothing.
    """
    known = run.model.conditions
    if not known:
        raise UsageError(
            f"calibrate: {run.folder} has no conditions, so its samples say nothing of an item; use evaluate"
        )
    if density and known.known is not None:
        raise UsageError("density: regions of highest density are for runs with other conditions than known numbers")
    dataset, _ = dataset.adopt(run.spec)
    dataset, table = known.fitted(dataset, run.folder), run.spec if isinstance(run.spec, ColumnSpec) else None
    if table is not None:
        known, names = _by_columns(known, table), tuple(column.name for column in table.columns)
    count, draws = min(as_whole("count", count, 1), len(dataset)), as_whole("draws", draws, 2)
    indices = np.sort(np.random.default_rng(seed).permutation(len(dataset))[:count])
    rows = rows_as_trained(known, dataset, indices, seed)
    items = np.asarray(dataset.items[indices], np.float64)
    judged = known.scored(rows)
    made, done, each = [], 0, 64
    for first in range(0, count, each):
        some = tuple(row[first : first + each].repeat_interleave(draws, 0) for row in rows)
        size = len(some[0])
        made.append(
            run.sample(
                size,
                condition=ConditionBatch(some),
                solver=solver,
                steps=steps,
                seed=mix(seed, 1),
                first=first * draws,
                batch_size=batch_size,
            )
        )
        done += size
        if progress is not None:
            progress(done, count * draws)
    samples = np.concatenate(made).astype(np.float64)
    chances = None
    if density:
        both = np.concatenate([samples.reshape(count, draws, *items.shape[1:]), items[:, None]], 1)
        values = _densities(run, both, rows)
        chances = values[:, :-1], values[:, -1]
    move = units or (lambda x: np.asarray(x, np.float64))
    truth = move(items).reshape(count, -1)
    measured = move(samples).reshape(count, draws, -1)
    if judged is not None and table is not None:
        hidden = np.stack([judged[:, own.all].numpy().any(1) for own in table.dimensions], 1)
        made_of = calibration(measured, truth, seed, None, names, hidden)
        numbers = [column.is_numeric for column in table.columns]  # those of categories are places in a list
        return replace(made_of, crps=np.where(numbers, made_of.crps, np.nan))
    if judged is not None:
        truth = np.where(_flat(run, judged).numpy() > 0, truth, np.nan)
        if np.isnan(truth).all(1).any():
            keep = ~np.isnan(truth).all(1)
            truth, measured = truth[keep], measured[keep]
    return calibration(measured, truth, seed, chances, names)


def _by_columns(known: Conditions, table: ColumnSpec) -> Conditions:
    """Conditions that give or hide a column as a whole, whether there is a number and which it is."""
    law = AnyColumns(tuple(column.width for column in table.columns if column.width))
    return replace(known, parts=tuple(replace(p, law=law) if isinstance(p, Known) else p for p in known.parts))


def rows_as_trained(known: Conditions, dataset: Dataset, indices: NDArray[np.int64], seed: int) -> Rows:
    """The conditions of items as in training, also what a mask law draws: a function of (seed, index)."""
    x = dataset.batch(indices)[0]
    numbers, generator = torch.zeros(len(indices), known.numbers), torch.Generator()
    for row, index in zip(numbers, indices.tolist(), strict=True):
        row.uniform_(generator=generator.manual_seed(mix(seed, index, 0xCA11)))
    return known.of(dataset, indices, x, numbers)


def _flat(run: Run, marks: Tensor) -> Tensor:
    """Marks (N, *model shape) in the axes of the data, flat."""
    from ornstein.data.layout import from_model_order

    return torch.from_numpy(np.array(from_model_order(marks.numpy(), run.spec.layout))).flatten(1)


def _densities(run: Run, both: NDArray[np.float64], rows: Rows) -> NDArray[np.float64]:
    count, each = both.shape[:2]
    some = ConditionBatch(tuple(row.repeat_interleave(each, 0) for row in rows))
    items = both.reshape(count * each, *both.shape[2:]).astype(run.spec.dtype)
    return run.log_prob(items, condition=some, steps=24).reshape(count, each)
