"""log p of rows of a table: the chances of all states one after the other, then the density of all numbers given these.

p(row) = ∏_k p(s_k | s_1 … s_{k−1}) · p(numbers | all states)

with s_k the states of the columns: the category, or whether there is a number, an atom or nothing. Each factor is a conditional
of the one model that was trained on random subsets. The first are read off at t = 1, where the mean of a one-hot code given the
rest is the chances of its states; a part of 10⁻³ is shared out evenly, so that no state is impossible. The last is the density
along the ODE in the dimensions of the numbers alone, with the Jacobian of their coders; a whole number has the probability of its
bin, of which one point drawn in it gives a bound from below, in the mean.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ornstein import conditions
from ornstein.data.column_spec import ColumnSpec
from ornstein.data.columns import NARROW
from ornstein.data.table_rows import uniform
from ornstein.errors import UsageError
from ornstein.known import Rest
from ornstein.noise import PerSampleNoise, RowsOf
from ornstein.runs.predicting import mean_at_noise

if TYPE_CHECKING:
    from ornstein.denoiser import NetworkDenoiser
    from ornstein.likelihood import Measured, Method
    from ornstein.runs.run import Run

NOISES = 16  # over which an answer at t = 1 is averaged
EVEN = 1e-3  # of the chances, shared out evenly


def measured(
    run: Run,
    denoiser: NetworkDenoiser,
    rows: NDArray[np.float64],
    method: Method,
    seed: int = 0,
    first: int = 0,
    check: bool = False,
) -> Measured:
    """−log p in nats of rows (N, C) in the data's own units; row i is measured with (seed, first + i) alone.

    Raises UsageError for a run that was not trained to take known columns, and rows with what no training row can have.
    """
    from ornstein.likelihood import Measured

    spec, part = run.spec, run.model.conditions.known
    assert isinstance(spec, ColumnSpec)
    if part is None:
        raise UsageError(
            f"{run.folder} was trained with --given none, and the likelihood of categories needs the model given other columns; "
            "train without that"
        )
    strange = spec.unseen(rows)
    if strange.any():
        row, column = np.argwhere(strange)[0]
        raise UsageError(
            f"row {first + row} has {rows[row, column]:g} in column {spec.columns[column].name}, which no row of the training "
            "data has, so its probability is 0; leave the row out"
        )
    dither = uniform(seed, 0x11CE, np.arange(first, first + len(rows)), rows.shape[1]) - 0.5
    x = spec.to_model(rows, dither=dither)
    marks, states = torch.zeros_like(x), np.zeros(len(rows))
    for i, (column, dims) in enumerate(zip(spec.columns, spec.dimensions, strict=True)):
        if column.states is None:
            continue
        mean = mean_at_noise(run, (part.rows(x, marks),), NOISES, seed, first=first)
        chances = column.states.probabilities(mean[:, list(dims.states)])
        chance = chances[np.arange(len(rows)), column.state_of(rows[:, i])]
        states -= np.log((1 - EVEN) * chance + EVEN / column.states.count)
        marks[:, list(dims.states)] = 1.0
    volume = np.zeros(len(rows))
    for i, (column, dims) in enumerate(zip(spec.columns, spec.dimensions, strict=True)):
        if column.value is None:
            continue
        there, step = column.has_number(rows[:, i]), column.value.step
        marks[torch.from_numpy(~there).nonzero(), list(dims.values)] = 1.0
        at = np.where(there, rows[:, i] + dither[:, i] * NARROW * step, 0.0)
        volume += np.where(there, column.value.log_slope(at) + (np.log(step) if step else 0.0), 0.0)
    numbers, probe, solver = _numbers(run, denoiser, x, marks, part.rows(x, marks), method, seed, first, check)
    states_nats, numbers_nats = torch.from_numpy(states), numbers - torch.from_numpy(volume)
    terms = {"states of columns": states_nats, "numbers, given these": numbers_nats}
    return Measured(states_nats + numbers_nats, probe, solver, terms)


def _numbers(
    run: Run,
    denoiser: NetworkDenoiser,
    x: Tensor,
    marks: Tensor,
    known: Tensor,
    method: Method,
    seed: int,
    first: int,
    check: bool,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """−log p in model units of what is not marked, of rows with as many such dimensions together; errors of probes and solver."""
    from ornstein.likelihood import Units

    device, dtype = run.model.device, run.model.dtype
    hidden, counts = marks == 0, (marks == 0).sum(1)
    nats, probe, solver = (torch.zeros(len(x), dtype=torch.float64) for _ in range(3))
    for count in sorted(set(counts.tolist()) - {0}):
        part = (counts == count).nonzero()[:, 0]
        places = hidden[part].nonzero()[:, 1].reshape(-1, count)
        condition = conditions.to(run.model.conditions.network_input((known[part],)), device, dtype)
        rest = Rest(denoiser.given(condition), places.to(device), run.spec.shape)
        noise = RowsOf(PerSampleNoise(seed), tuple((part + first).tolist()))
        done = method(rest, x[part].gather(1, places).to(device, dtype), Units(None, 0.0), noise, check)
        nats[part], probe[part] = done.nats.double().cpu(), done.probe.double().cpu()
        if done.solver is not None:
            solver[part] = done.solver.double().cpu()
    return nats, probe, solver if check else None
