"""Samples of a run, in the data's own type and range."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ornstein.arguments import Report, as_tensor, as_whole, keywords
from ornstein.data.layout import model_shape
from ornstein.errors import UsageError
from ornstein.guidance.config import PLAIN, Guidance
from ornstein.noise import NoiseSource
from ornstein.runs.conditioning import Label, condition_rows, indexed_guide, known_numbers, must_have_condition
from ornstein.solvers import Solver

if TYPE_CHECKING:
    from ornstein.data.spec import DataSpec
    from ornstein.runs.run import Run


@keywords
def sample(
    run: "Run",
    count: int | None = None,
    *,
    label: Label | None = None,
    label_index: int | Sequence[int] | None = None,
    condition: Any = None,
    known: Any = None,
    guide: Guidance = PLAIN,
    solver: Solver | str | None = None,
    steps: int | None = None,
    seed: int = 0,
    first: int = 0,
    batch_size: int | None = None,
    shape: Sequence[int] | None = None,
    start: Tensor | None = None,
    grid: Tensor | Sequence[float] | None = None,
    noise: NoiseSource | None = None,
    progress: Report | None = None,
) -> NDArray[Any]:
    """`count` samples in one array, images (count, H, W, C), vectors (count, D): what `batches` gives, with its arguments."""
    made = batches(
        run,
        count,
        label=label,
        label_index=label_index,
        condition=condition,
        known=known,
        guide=guide,
        solver=solver,
        steps=steps,
        seed=seed,
        first=first,
        batch_size=batch_size,
        shape=shape,
        start=start,
        grid=grid,
        noise=noise,
        progress=progress,
    )
    return np.concatenate(list(made))


@keywords
def batches(
    run: "Run",
    count: int | None = None,
    *,
    label: Label | None = None,
    label_index: int | Sequence[int] | None = None,
    condition: Any = None,
    known: Any = None,
    guide: Guidance = PLAIN,
    solver: Solver | str | None = None,
    steps: int | None = None,
    seed: int = 0,
    first: int = 0,
    batch_size: int | None = None,
    shape: Sequence[int] | None = None,
    start: Tensor | None = None,
    grid: Tensor | Sequence[float] | None = None,
    noise: NoiseSource | None = None,
    progress: Report | None = None,
) -> Iterator[NDArray[Any]]:
    """`count` samples in the data's own type and range, batch by batch: images (N, H, W, C), vectors (N, D).

    label: a class of the data by number or name (3 is the class "3", whatever its place), or one for each sample;
        label_index: the same by its place among the classes. Without both, classes are drawn as often as they occur in the data.
    condition: a mapping of names to values (`Condition.names`), or the value of the one condition that is no label.
    known: of a run with `given`, an item in the data's units, or one for each sample, with NaN where it is unknown: what is known
        comes back unchanged, and the samples are draws of the rest given that.
    guide: guidance, such as `guidance.GuidanceConfig(2.0)`; any function from the model's denoiser and the condition of a
        batch, or None, to another denoiser will do.
    solver, steps: by default `ABM()` in 20 steps, of a few-step run `Jump()` in 4; a tuned solver has its own number of steps.
    seed, first: sample i depends on (seed, first + i) alone.
    shape: of one sample, in place of the data's own, for networks that allow other sizes: with all axes, or the sides alone, such
        as (H, W) of images and (L,) of series.
    start: x (count, *model shape) in model units at the first time of the solver's grid, such as `ornstein.encode` gives, in
        place of noise drawn by the seed; images (count, C, H, W). It says `count` and `shape`.

    grid: a falling tensor of times (`ornstein.grid`), in place of the solver's own for so many steps.
    noise: a source noise(x, t, s) in place of the one by the seed, which then draws the classes alone.
    progress: called as progress(done, total), in samples times steps.

    Samples are made where the network is, in the type of its numbers: see `Run.to`. Where memory is short for a batch, it and
    those after it are made in halves, with a warning.

    Raises UsageError for a label that does not exist, where a condition is left out that training never left out, for guidance
    that the run has not the means for, and a shape that the network does not take, ValueError for a bad grid.
    """
    count, shape = _sizes(run, count, shape, start)
    guide = indexed_guide(run, guide)
    rows, given = (
        condition_rows(run, count, label, condition, label_index, known),
        known_numbers(run, count, condition, known),
    )

    if rows is None:
        must_have_condition(run)

    def inputs(begin: int, end: int) -> Any:
        if rows is None:
            return run.model.drawn(begin, end, seed)
        return run.model.conditions.network_input(tuple(row[begin - first : end - first] for row in rows))

    made = run.model.sample(
        count,
        condition=inputs,
        guide=guide,
        solver=solver,
        steps=steps,
        seed=seed,
        first=first,
        batch_size=batch_size,
        shape=shape,
        start=start,
        grid=grid,
        noise=noise,
        progress=progress,
    )
    return made if given is None else _with_known(made, given)


def _with_known(made: Iterator[NDArray[Any]], given: NDArray[np.float64]) -> Iterator[NDArray[Any]]:
    """The samples with the numbers of `given` (1 or N, ...) that are not NaN in their places, to the last bit."""
    done = 0
    for batch in made:
        part = given if len(given) == 1 else given[done : done + len(batch)]
        done += len(batch)
        yield np.where(np.isnan(part), batch, np.nan_to_num(part).astype(batch.dtype))


def _sizes(
    run: "Run", count: int | None, shape: Sequence[int] | None, start: Tensor | None
) -> tuple[int, tuple[int, ...]]:
    """How many samples, and the shape of one in the model's axes. Raises UsageError for what does not fit."""
    if start is not None:
        start = as_tensor("sample", "start", start)
        if shape is not None or count not in (None, len(start)):
            raise UsageError(
                f"start: it says count and shape, {len(start)} of {tuple(start.shape[1:])}; leave these out"
            )
        count, wanted = len(start), tuple(start.shape[1:])
    else:
        wanted = run.spec.shape if shape is None else _model_shape(run, tuple(shape))
    if count is None:
        raise UsageError("count: say how many samples, such as run.sample(64)")
    if as_whole("count", count, 0) < 1:
        raise UsageError(f"count = {count}: ask for at least one sample")
    if wanted != run.spec.shape:
        _must_take(run, wanted)
    return count, wanted


def sized(run: "Run", shape: Sequence[int], name: str = "shape") -> "DataSpec":
    """What samples of a `shape` are. Raises UsageError, which calls it by this name, where the network takes none such."""
    wanted = _model_shape(run, tuple(shape), name)
    if wanted != run.spec.shape:
        _must_take(run, wanted, name)
    return replace(run.spec, shape=wanted)


def _model_shape(run: "Run", shape: tuple[int, ...], name: str = "shape") -> tuple[int, ...]:
    """The model shape of that of an item in the layout of the data, or of its sides without the channels."""
    spec, own = run.spec, run.spec.item_shape
    wanted: tuple[int, ...] = ()
    if spec.traits.spatial and all(isinstance(side, int) and side > 0 for side in shape):
        if len(shape) == len(own):
            wanted = model_shape(shape, spec.layout)
        elif len(shape) == spec.traits.spatial:
            wanted = (spec.shape[0], *shape)
    if wanted[:1] != spec.shape[:1]:
        sizes = " or ".join(map(str, dict.fromkeys((own, spec.shape[1:] if spec.traits.spatial else own))))
        raise UsageError(
            f"{name} = {shape}: one sample of {run.folder} has shape {sizes}; give other sides of that kind"
        )
    return wanted


def _must_take(run: "Run", shape: tuple[int, ...], name: str = "shape") -> None:
    """Raises UsageError for a shape that the network does not take, which one call of it tells."""
    conditions, model = run.model.conditions, run.model
    if conditions.image is not None or conditions.known is not None:
        raise UsageError(f"{name}: the condition of {run.folder} has the shape {run.spec.item_shape}; leave {name} out")
    x = torch.zeros(1, *shape, device=model.device, dtype=model.dtype)
    try:
        with torch.inference_mode():
            fits = model.denoiser()(x, 0.5).clean.shape == x.shape
        reason = "it answers in another shape"
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        fits, reason = False, next(iter(str(error).splitlines()), type(error).__name__)
    if not fits:
        raise UsageError(
            f"{name}: the network of {run.folder} ({type(model.network).__name__}) does not take items of shape {shape} "
            f"({reason}); its own is {run.spec.shape}"
        )


def compile(run: "Run", guide: Guidance = PLAIN, batch_size: int | None = None) -> str | None:
    """Compile the network by torch.compile for sampling, which takes a minute; None, or why it is as it was.

    It stays as it was where nothing can be compiled, or where that would change its answers, which are compared once.
    """
    from ornstein.compiling import compile_for_sampling

    rows, guide = batch_size or run.model.batch_size, indexed_guide(run, guide)
    labels = run.model.labels(0, rows, 0)
    guided = guide(run.denoiser, None if labels is None else labels.to(run.model.device))
    return compile_for_sampling(run.model.network, guided, (rows, *run.spec.shape))
