"""A column of a table foretold from the others: the chances of its states, and draws of its numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from ornstein import conditions
from ornstein.arguments import Report, as_whole
from ornstein.data.column_spec import ColumnSpec
from ornstein.errors import UsageError
from ornstein.noise import PerSampleNoise, mix
from ornstein.runs.conditioning import condition_rows, with_known
from ornstein.runs.imputing import impute
from ornstein.sampling import begin

if TYPE_CHECKING:
    from ornstein.runs.run import Run


@dataclass(frozen=True, eq=False)
class ColumnPrediction:
    """Of each row: `chances` (N, K) of the states that `states` names (None of a column of numbers alone), and of numbers `draws`
    (N, M) from their distribution where there is a number."""

    states: tuple[str, ...]
    chances: NDArray[np.float64] | None
    draws: NDArray[np.float64] | None


def predict(
    run: Run,
    items: Any,
    column: str,
    *,
    draws: int = 100,
    steps: int | None = None,
    seed: int = 0,
    batch_size: int | None = None,
    progress: Report | None = None,
) -> ColumnPrediction:
    """What a run of a table says of one of its columns, given the others.

    items: (N, C) in the units of the data, as `ornstein.data.open(FILE, like=run.spec)` reads them; the column itself is not
        looked at, and NaN is not known.
    draws: of each number. Of categories they are noises, over which the network's answer at t = 1 is averaged: there x_t says
        nothing, so the mean of the data given the rest is the chances of the states, without any sampling.

    Raises UsageError for a run of no table, one that was not trained with `given`, and an unknown column.
    """
    spec = run.spec
    if not isinstance(spec, ColumnSpec):
        raise UsageError(f"predict: {run.folder} was trained on {spec.traits.plural}, which have no columns")
    with_known(run, None, None)
    place, count = spec.place(column), as_whole("draws", draws, 1)
    rows = spec.adopt(np.array(items, np.float64), "items").items.copy()
    rows[:, place] = np.nan
    what = spec.columns[place]
    if not what.width:
        raise UsageError(f"predict: column {column} is constant in the training data; there is nothing to predict")
    chances = None if what.states is None else states(run, rows, place, min(count, 64), seed, batch_size)
    if what.value is None:
        return ColumnPrediction(what.state_names, chances, None)
    drawn = []
    for draw in range(count):
        filled = impute(run, rows, steps=steps, seed=mix(seed, draw), batch_size=batch_size, present=False)
        drawn.append(filled[:, place])
        if progress is not None:
            progress(draw + 1, count)
    return ColumnPrediction(what.state_names, chances, np.stack(drawn, 1))


def states(
    run: Run, rows: NDArray[np.float64], place: int, noises: int, seed: int = 0, batch_size: int | None = None
) -> NDArray[np.float64]:
    """The chances (N, K) of the states of a column given what is known of rows (N, C), by the network's answer at t = 1."""
    spec = run.spec
    assert isinstance(spec, ColumnSpec)
    coder = spec.columns[place].states
    assert coder is not None
    known = condition_rows(run, len(rows), known=rows)
    assert known is not None
    where = list(spec.dimensions[place].states)
    return coder.probabilities(mean_at_noise(run, known, noises, seed, batch_size)[:, where])


def mean_at_noise(
    run: Run, rows: conditions.Rows, noises: int, seed: int = 0, batch_size: int | None = None, first: int = 0
) -> NDArray[np.float64]:
    """The mean of items (N, D) in model units given conditions: the answers of the denoiser to noise alone, averaged."""
    model, count = run.model, len(rows[0])
    size = batch_size or max(1, min(2048, 2**19 // run.spec.shape[0]))
    made = []
    for start in range(0, count, size):
        part = tuple(row[start : start + size] for row in rows)
        inputs = conditions.to(model.conditions.network_input(part), model.device, model.dtype)
        denoiser = model.denoiser().given(inputs)
        total = torch.zeros(len(part[0]), *run.spec.shape, device=model.device, dtype=torch.float64)
        for noise in range(noises):
            like = torch.zeros(len(part[0]), *run.spec.shape, device=model.device, dtype=model.dtype)
            x = begin(model.path, like, 1.0, PerSampleNoise(mix(seed, noise), first + start))
            with torch.inference_mode():
                total += denoiser(x, 1.0).clean.double()
        made.append((total / noises).cpu().numpy())
    return np.concatenate(made)
