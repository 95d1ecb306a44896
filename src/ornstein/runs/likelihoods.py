"""Likelihoods of a run's model, in nats and in the data's own units."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ornstein import conditions
from ornstein.arguments import as_whole
from ornstein.data.layout import to_model_order
from ornstein.denoiser import NetworkDenoiser
from ornstein.errors import UsageError
from ornstein.known import Rest
from ornstein.noise import PerSampleNoise, RowsOf
from ornstein.runs.conditioning import Label, condition_rows, has_null
from ornstein.runs.items import model_units

if TYPE_CHECKING:
    from ornstein.data.dataset import Dataset
    from ornstein.likelihood import Measured, Method, Units, Variational
    from ornstein.runs.run import Run


def log_prob(
    run: Run,
    items: Any,
    *,
    label: Label | None = None,
    label_index: int | Sequence[int] | None = None,
    condition: Any = None,
    known: Any = None,
    method: Method | None = None,
    steps: int = 96,
    seed: int = 0,
    batch_size: int | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> NDArray[np.float64]:
    """log p of items in the data's own units, (N,) nats: probabilities of whole numbers, else densities.

    items: one item or (N, ...) of them, as `run.sample` gives them.
    label, label_index, condition: what is given of them, for one or for each; None: the density without conditions.
    known: of a run with `given`, booleans of the shape of an item, or one for each: the result is log p of the others given the
        numbers that are marked, densities of these alone.
    method: of `ornstein.likelihood`, such as `ODE(...)`; None: along the ODE in that many `steps`. Bounds are bounds from below.
    seed: item i is measured with (seed, i) alone.

    Raises UsageError for items or conditions that do not fit the run.
    """
    from ornstein.likelihood import ODE, FixedSteps

    if method is None:
        try:
            method = ODE(solver=FixedSteps(as_whole("steps", steps, 1)))
        except ValueError as error:
            raise UsageError(f"log_prob: {str(error).removeprefix('FixedSteps: ')}") from None
    if known is not None:
        return _of_rest(run, items, known, label, label_index, condition, method, steps, seed, batch_size, progress)
    if run.spec.may_lack:
        return _of_rows(run, items, method, seed, batch_size, progress)
    x = model_units(run, items)
    run.spec.must_be_levels(np.asarray(items), "items")
    rows = condition_rows(run, len(x), label, condition, label_index)
    if rows is None:
        _must_have_null(run, "give a label or condition")
    denoiser, units = _exact(run), _units(run)

    def nats(first: int, last: int) -> Tensor:
        bound = denoiser if rows is None else _bound(run, denoiser, tuple(row[first:last] for row in rows))
        return method(bound, x[first:last], units, PerSampleNoise(seed, first), False).nats

    return _by_batch(nats, len(x), batch_size or _batch_size(run), progress)


def _of_rows(
    run: Run,
    items: Any,
    method: Method,
    seed: int,
    batch_size: int | None,
    progress: Callable[[int, int], object] | None,
) -> NDArray[np.float64]:
    """log p of rows of a table (`runs.row_likelihoods`)."""
    from ornstein.runs.row_likelihoods import measured

    rows = run.spec.adopt(np.asarray(items, np.float64), "items").items
    denoiser = _exact(run)

    def nats(first: int, last: int) -> Tensor:
        return measured(run, denoiser, rows[first:last], method, seed, first).nats

    return _by_batch(nats, len(rows), batch_size or _batch_size(run), progress)


def _by_batch(
    nats: Callable[[int, int], Tensor], count: int, size: int, progress: Callable[[int, int], object] | None
) -> NDArray[np.float64]:
    """log p of `count` items from the −log p of items first..last−1."""
    results = []
    for first in range(0, count, size):
        last = min(first + size, count)
        results.append(-nats(first, last).double().cpu())
        if progress is not None:
            progress(last, count)
    return torch.cat(results).numpy()


def _of_rest(
    run: Run,
    items: Any,
    known: Any,
    label: Label | None,
    label_index: int | Sequence[int] | None,
    condition: Any,
    method: Method | None,
    steps: int,
    seed: int,
    batch_size: int | None,
    progress: Callable[[int, int], object] | None,
) -> NDArray[np.float64]:
    """log p of the numbers that are not `known` given those that are: items with as many unknown numbers are one batch."""
    from ornstein.likelihood import ODE, FixedSteps, Units

    x, spec, method = model_units(run, items), run.spec, method or ODE(solver=FixedSteps(steps))
    spec.must_be_levels(np.asarray(items), "items")
    whole = np.asarray(items, np.float64).reshape(len(x), *spec.item_shape)
    marked = np.asarray(known, bool)
    if marked.shape not in (spec.item_shape, whole.shape):
        raise UsageError(
            f"known: it has shape {marked.shape}, and must have shape {spec.item_shape}, or {whole.shape} with one for each item"
        )
    marked = np.broadcast_to(marked, whole.shape)
    rows = condition_rows(run, len(x), label, condition, label_index, np.where(marked, whole, np.nan))
    assert rows is not None
    hidden = ~torch.from_numpy(to_model_order(np.array(marked), spec.layout)).flatten(1)
    counts, slopes = hidden.sum(1), torch.from_numpy(spec.log_slopes.reshape(1, -1))
    denoiser, results, done = _exact(run), torch.zeros(len(x), dtype=torch.float64), 0
    size = batch_size or _batch_size(run)
    for count in sorted(set(counts.tolist()) - {0}):
        for part in (counts == count).nonzero()[:, 0].split(size):
            places = hidden[part].nonzero()[:, 1].reshape(-1, count)
            slope = slopes.expand(len(part), -1).gather(1, places)
            levels = slope.exp().to(x.device) if spec.is_whole else None
            bound = Rest(_bound(run, denoiser, tuple(row[part] for row in rows)), places.to(x.device), spec.shape)
            unknown = x[part].flatten(1).gather(1, places.to(x.device))
            units = Units(levels, 0.0, *spec.level_bounds)
            measured = method(bound, unknown, units, RowsOf(PerSampleNoise(seed), tuple(part.tolist())), False)
            volume = 0.0 if spec.is_whole else slope.sum(1)
            results[part] = volume - measured.nats.double().cpu()
            done += len(part)
            if progress is not None:
                progress(done, len(x))
    return results.numpy()


def likelihood(
    run: Run,
    dataset: Dataset,
    indices: NDArray[np.int64],
    method: Method,
    *,
    seed: int = 0,
    unconditional: bool = False,
    checked: int = 8,
    batch_size: int | None = None,
) -> Iterator[Measured]:
    """−log p in nats of those items, batch by batch: probabilities of whole numbers, else densities in the data's units.

    Of a run with conditions, given each item's own (its label, for one), unless `unconditional`. Item i of `indices` is
    measured with seed and i alone; the solver's error is measured on the first `checked`. `likelihood.summarise` gives the
    mean with its error.
    Raises UsageError where the data do not fit the model.
    """
    measured = _of_table(run, dataset, indices, method, seed) if run.spec.may_lack else None
    if measured is None:
        items, units = _measurable(run, dataset, unconditional)

        def measured(start: int, stop: int, check: bool) -> Measured:
            denoiser, x = items(indices[start:stop])
            return method(denoiser, x, units, PerSampleNoise(seed, start), check)

    size = batch_size or _batch_size(run)
    checked = min(checked, size, len(indices))
    edges = [0, *range(checked, len(indices), size), len(indices)]
    return (measured(start, stop, stop <= checked) for start, stop in pairwise(edges) if stop > start)


def _of_table(
    run: Run, dataset: Dataset, indices: NDArray[np.int64], method: Method, seed: int
) -> Callable[[int, int, bool], Measured]:
    """What measures rows of a table, by places among the indices."""
    from ornstein.runs.row_likelihoods import measured

    dataset, notes = dataset.adopt(run.spec)
    for note in notes:
        warnings.warn(note, stacklevel=4)
    denoiser = _exact(run)
    return lambda start, stop, check: measured(
        run, denoiser, np.asarray(dataset.items[indices[start:stop]]), method, seed, start, check
    )


def dequantisation(
    run: Run,
    dataset: Dataset,
    steps: int = 300,
    *,
    seed: int = 0,
    unconditional: bool = False,
    batch_size: int = 32,
    progress: Callable[[int, int], None] | None = None,
) -> Variational:
    """Noise within the bins of whole numbers that is fitted to this model (`likelihood.fit_dequantisation`), for its `ODE`.

    `dataset` gives the items to fit to: the training data, not those to be measured. Raises UsageError where the data do not
    fit the model, or are no whole numbers.
    """
    from ornstein.likelihood import fit_dequantisation
    from ornstein.likelihood.methods import level

    items, units = _measurable(run, dataset, unconditional)
    if units.width is None:
        raise UsageError(
            f"{run.folder} was trained on {run.spec.dtype}, no whole numbers: there is nothing to dequantise"
        )
    rng = np.random.default_rng(seed)
    batches = (items(np.sort(rng.integers(len(dataset), size=batch_size))) for _ in range(steps))
    ratio = level(run.denoiser, units, 0.0)
    return fit_dequantisation(batches, units.width, ratio, steps, seed=seed, progress=progress)


def _measurable(
    run: Run, dataset: Dataset, unconditional: bool
) -> tuple[Callable[[NDArray[np.int64]], tuple[NetworkDenoiser, Tensor]], Units]:
    """Items of the data, by place, in model units with the denoiser that has their conditions; and what these units are."""
    if dataset.spec.missing:
        raise UsageError(
            f"items of {dataset.spec.source} have missing numbers; give those that are whole: data.whole()"
        )
    dataset, notes = dataset.adopt(run.spec)
    for note in notes:
        warnings.warn(note, stacklevel=3)
    known = run.model.conditions
    conditional = bool(known) and not unconditional
    if conditional:
        dataset = known.fitted(dataset, run.folder)
    else:
        _must_have_null(run, "leave --unconditional out")
    device, dtype = run.model.device, run.model.dtype
    denoiser = _exact(run)

    def items(indices: NDArray[np.int64]) -> tuple[NetworkDenoiser, Tensor]:
        x, _ = dataset.batch(indices)
        run.spec.must_be_levels(np.asarray(dataset.items[indices]), dataset.spec.source)
        bound = _bound(run, denoiser, known.of_items(dataset, indices)) if conditional else denoiser
        return bound, x.to(device, dtype)

    return items, _units(run)


def _exact(run: Run) -> NetworkDenoiser:
    """The denoiser with weights in the layout in which torch takes derivatives along many vectors at once."""
    return run.model.denoiser(deepcopy(run.model.network).to(memory_format=torch.contiguous_format))  # type: ignore[call-overload]


def _bound(run: Run, denoiser: NetworkDenoiser, rows: conditions.Rows) -> NetworkDenoiser:
    condition = run.model.conditions.network_input(rows)
    return denoiser.given(conditions.to(condition, run.model.device, run.model.dtype))


def _units(run: Run) -> Units:
    from ornstein.likelihood import Units

    spec, width = run.spec, run.spec.level_width
    levels = None if width is None else torch.as_tensor(width, device=run.model.device)
    return Units(levels, spec.log_volume, *spec.level_bounds)


def _batch_size(run: Run) -> int:
    return max(1, min(256, 2**17 // math.prod(run.spec.shape)))


def _must_have_null(run: Run, instead: str) -> None:
    if not has_null(run):
        raise UsageError(
            f"{run.folder} was trained with label_dropout 0, so there is no unconditional model in it; {instead}"
        )
