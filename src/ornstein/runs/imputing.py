"""Holes of items filled with draws of a run's model, given the rest of each item."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ornstein.arguments import Report, as_whole
from ornstein.errors import UsageError
from ornstein.guidance.config import PLAIN, Guidance
from ornstein.noise import mix
from ornstein.runs.conditioning import Label, with_known
from ornstein.runs.sampling import batches
from ornstein.solvers import Solver

if TYPE_CHECKING:
    from ornstein.runs.run import Run

ROUNDS = 30  # draws of rows in which a value is missing


def impute(
    run: Run,
    items: Any,
    draws: int | None = None,
    *,
    label: Label | None = None,
    label_index: int | Sequence[int] | None = None,
    condition: Any = None,
    guide: Guidance = PLAIN,
    solver: Solver | str | None = None,
    steps: int | None = None,
    seed: int = 0,
    batch_size: int | None = None,
    progress: Report | None = None,
    present: bool = True,
) -> NDArray[Any]:
    """Items with their holes filled, (draws, N, ...), or (N, ...) where `draws` is None: the data's own type, units and axes.

    items: (N, ...) or one item, in the units of the data, with NaN in the holes. What is no hole comes back unchanged, and items
        without holes as they are.
    draws: each is a draw of all holes from the posterior given the rest, so their spread is the uncertainty. Draw j of item i is
        a function of (seed, i, j) alone.
    present: of a table, a hole is filled with a value, never with a missing one: rows in which one is drawn are drawn anew.
    progress: called with (done, total) in items. The other arguments are those of `sample`.

    Raises UsageError for a run that was not trained with `given`, and for items that do not fit it.
    """
    with_known(run, None, None)
    rounds = 1 if draws is None else as_whole("draws", draws, 1)
    array = np.asarray(items.detach().cpu().numpy() if isinstance(items, Tensor) else items)
    array = array[None] if array.shape == run.spec.item_shape else array
    if array.ndim == 0 or not len(array):
        raise UsageError("items: there are none; give (N, ...) of them with NaN in the holes")
    made = []

    def again(rows: NDArray[Any], seed: int) -> NDArray[Any]:
        drawn = batches(
            run, len(rows), known=rows, guide=guide, solver=solver, steps=steps, seed=seed, batch_size=batch_size
        )
        return np.concatenate(list(drawn))

    for draw in range(rounds):
        done = list[NDArray[Any]]()
        for batch in batches(
            run,
            len(array),
            label=label,
            label_index=label_index,
            condition=condition,
            known=array,
            guide=guide,
            solver=solver,
            steps=steps,
            seed=seed if draw == 0 else mix(seed, draw),
            batch_size=batch_size,
        ):
            done.append(batch)
            if progress is not None:
                progress(draw * len(array) + sum(map(len, done)), rounds * len(array))
        filled = np.concatenate(done)
        if present and run.spec.may_lack:
            filled = _present(run, array, filled, again)
        made.append(filled)
    return made[0] if draws is None else np.stack(made)


def _present(
    run: Run, rows: NDArray[Any], filled: NDArray[Any], again: Callable[[NDArray[Any], int], NDArray[Any]]
) -> NDArray[Any]:
    """Rows of a table without missing values: those with any are drawn anew, so that what comes is the posterior of values that
    are there. What is missing in all of `ROUNDS` draws, or in all of the training data, stays so, with a warning."""
    filled = filled.copy()
    for attempt in range(ROUNDS):
        left = np.flatnonzero(np.isnan(filled).any(1))
        if not len(left):
            return filled
        filled[left] = again(rows[left], mix(attempt, 0x91D5))
    if count := int(np.isnan(filled).any(1).sum()):
        warnings.warn(f"{count:,} rows have holes that the model leaves missing in {ROUNDS} draws", stacklevel=3)
    return filled
