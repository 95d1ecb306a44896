"""Edits and restorations of a user's items by a run's model, in the data's own units."""

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ornstein import conditions
from ornstein.arguments import Report, as_whole
from ornstein.conditions import Rows
from ornstein.coupling import Independent
from ornstein.data.layout import to_model_order
from ornstein.denoiser import Denoiser, NetworkDenoiser
from ornstein.errors import UsageError
from ornstein.estimate import Estimate
from ornstein.guidance.config import PLAIN, Guidance, GuidanceConfig, WeakModel
from ornstein.names import POSTERIORS
from ornstein.noise import PerSampleNoise
from ornstein.path import Path, Time
from ornstein.runs.conditioning import Label, condition_rows, indexed_guide
from ornstein.runs.items import check_units, model_units
from ornstein.sampling import sample, shares
from ornstein.solvers import Solver

if TYPE_CHECKING:
    from ornstein.data.spec import DataSpec
    from ornstein.editing import Measurement
    from ornstein.editing.measurement import Operator
    from ornstein.runs.run import Run

    Posterior = Callable[[Denoiser, Measurement], Denoiser]

MOST = 64  # items made at once


def edit(
    run: "Run",
    items: Any,
    *,
    strength: float | None = None,
    mask: Any = None,
    count: int = 1,
    label: Label | None = None,
    label_index: int | Sequence[int] | None = None,
    condition: Any = None,
    guide: Guidance = PLAIN,
    solver: Solver | str | None = None,
    steps: int = 20,
    seed: int = 0,
    batch_size: int = MOST,
    progress: Report | None = None,
) -> NDArray[Any]:
    """Versions of items in the data's own units: noised by a `strength` and sampled from there, or filled in where masked.

    items: one item or (N, ...) of them, as `run.sample` gives them; `count` versions of each, (N · count, ...), one item's
        after the other.
    strength: in (0, 1], how much is lost (`editing.sdedit`).
    mask: not 0 where the item is painted anew, the rest stays (`editing.inpaint`): of the shape of an item, or (H, W) of images,
        (L,) of series, (D, H, W) of volumes for all channels.
    label, label_index, condition, guide: as in `sample`, for one or for each version; None: no condition.
    solver: None: the default, with a mask `editing.RePaint()`.
    seed: version i depends on (seed, i) alone.

    Raises UsageError for items, masks or conditions that do not fit the run.
    """
    if (mask is None) == (strength is None):
        raise UsageError("edit: give either a mask, to repaint what it marks, or a strength such as 0.5")
    if strength is not None and not 0 < strength <= 1:
        raise UsageError(f"strength = {strength:g} must lie above 0 (the item as it is) and up to 1")
    x = model_units(run, items).repeat_interleave(as_whole("count", count, 1), 0)
    parts = conditioned(run, len(x), label, condition, guide, batch_size, label_index)
    change = strength if strength is not None else visible_where(run, mask)
    return run.spec.from_model(edited(x, change, parts, solver, steps, seed, progress))


def edited(
    x: Tensor,
    change: float | Tensor,
    parts: Sequence[tuple[Denoiser, slice]],
    solver: Solver | str | None = None,
    steps: int = 20,
    seed: int = 0,
    progress: Report | None = None,
) -> Tensor:
    """`edit` in model units, x (N, *model shape): `change` is a strength, or a mask, 1 where x stays."""
    from ornstein.editing import RePaint, inpaint, sdedit

    made = []
    for (denoiser, rows), report in zip(parts, shares(progress, len(parts)), strict=True):
        way: dict[str, Any] = {"steps": steps, "noise": PerSampleNoise(seed, rows.start), "progress": report}
        if isinstance(change, Tensor):
            made.append(inpaint(denoiser, x[rows], change, solver=RePaint() if solver is None else solver, **way))
        else:
            made.append(sdedit(denoiser, x[rows], change, solver=solver, **way))
    return torch.cat(made)


def interpolate(
    run: "Run",
    first: Any,
    last: Any,
    frames: int = 8,
    *,
    label: Label | None = None,
    label_index: int | Sequence[int] | None = None,
    condition: Any = None,
    guide: Guidance = PLAIN,
    solver: Solver | str | None = None,
    steps: int = 40,
    progress: Report | None = None,
) -> NDArray[Any]:
    """`frames` items from one to another in the data's own units, (frames, ...): along their encodings (`editing.interpolate`).

    first, last: one item each; the first and last frame are these after a round trip. label, label_index, condition: one for all;
    None: no condition. Raises UsageError for items or conditions that do not fit the run.
    """
    from ornstein.editing import interpolate as between

    begin, end = model_units(run, first, "first"), model_units(run, last, "last")
    if len(begin) != 1 or len(end) != 1:
        raise UsageError("interpolate: give one item to begin and one to end with")
    denoiser = for_all(run, label, condition, guide, label_index)
    return run.spec.from_model(between(denoiser, begin, end, frames, solver=solver, steps=steps, progress=progress))


def restore(
    run: "Run",
    measured: Any,
    operator: "Operator",
    noise: float,
    *,
    count: int = 1,
    method: "str | Posterior" = "mmps",
    label: Label | None = None,
    label_index: int | Sequence[int] | None = None,
    condition: Any = None,
    guide: Guidance = PLAIN,
    solver: Solver | str | None = None,
    steps: int = 20,
    seed: int = 0,
    batch_size: int = MOST,
    progress: Report | None = None,
) -> NDArray[Any]:
    """`count` draws of an item given a degraded one, in the data's own units (posterior sampling).

    measured: the degraded item, in the units and the axes of the data, or the sides alone of one channel.
    operator: of `ornstein.editing.operators`, such as `Downsample(4)`; what a `Mask` hides may hold anything.
    noise: the standard deviation of the measurement's noise, in the units of the data, of each channel in its own.
    method: a name of `names.POSTERIORS`, or a function of (denoiser, measurement) such as `editing.MMPS`.
    label, label_index, condition, guide: as in `sample`, one for all draws; None: no condition.
    seed: draw i depends on (seed, i) alone.

    Raises UsageError for an operator that does not fit the items (vectors are masked alone), and for a measurement that is not
    what the operator makes of one.
    """
    if not 0 < noise < float("inf"):
        raise UsageError(f"noise = {noise:g} must be positive, a standard deviation in the units of the data")
    y = _measured(run, measured, operator)
    measurement = weighed(operator, y, noise, run.spec.slopes)
    maker: Posterior = POSTERIORS.pick(method, run.spec.data_std) if isinstance(method, str) else method
    return run.spec.from_model(
        restored(
            run,
            maker(for_all(run, label, condition, guide, label_index), measurement),
            count,
            solver,
            steps,
            seed,
            batch_size,
            progress,
        )
    )


def weighed(operator: "Operator", y: Tensor, noise: float, scales: NDArray[np.float64]) -> "Measurement":
    """A measurement whose noise has the deviation noise·scales[c] in channel c of y (1, C, ...), in model units.

    Where these differ, both sides are multiplied in each channel by what makes them one; a channel with infinite noise counts
    for nothing. Raises UsageError for an operator that gives other channels than an item has, where channels differ.
    """
    from ornstein.editing import Measurement, operators

    least = float(scales.min())
    if not math.isfinite(least):
        raise UsageError("all channels of the data are constant, so there is nothing to restore")
    if len(set(scales.tolist())) == 1:
        return Measurement(operator, y, noise * least)
    weights = torch.from_numpy(least / scales).to(y).reshape(-1, *(1,) * (y.ndim - 2))
    return Measurement(operators.Rescale(operator, weights), y * weights, noise * least)


def restored(
    run: "Run",
    posterior: Denoiser,
    count: int,
    solver: Solver | str | None = None,
    steps: int = 20,
    seed: int = 0,
    batch_size: int = MOST,
    progress: Report | None = None,
) -> Tensor:
    """Draws from a posterior in model units, (count, *model shape)."""
    made, parts = [], range(0, as_whole("count", count, 1), as_whole("batch_size", batch_size, 1))
    for first, report in zip(parts, shares(progress, len(parts)), strict=True):
        shape = (min(batch_size, count - first), *run.spec.shape)
        way: dict[str, Any] = {
            "solver": solver,
            "steps": steps,
            "noise": PerSampleNoise(seed, first),
            "progress": report,
        }
        made.append(sample(posterior, shape, device=run.model.device, dtype=run.model.dtype, **way))
    return torch.cat(made)


def visible_where(run: "Run", mask: Any) -> Tensor:
    """1 where an item stays and 0 where it is painted anew, broadcasting against items (B, *model shape), of `spread` masks."""
    hidden = np.asarray(mask) != 0
    marked = spread(run.spec, hidden, "mask")
    if hidden.all() or not hidden.any():
        raise UsageError("mask: it must mark a part of the item, with numbers other than 0 where to paint anew")
    return (~marked).to(run.model.device, run.model.dtype)


def spread(spec: "DataSpec", marked: NDArray[np.bool_], where: str) -> Tensor:
    """What is marked in an item, bool, broadcasting against items (B, *model shape).

    `marked` has the shape of an item, or that without its channels: (H, W) of images, (L,) of series, (D, H, W) of volumes.
    Raises UsageError, which begins with `where`, for another.
    """
    sides = spec.shape[1:] if spec.traits.spatial else spec.shape
    if spec.traits.spatial and marked.shape == (*sides, 1):
        marked = marked[..., 0]
    if marked.shape == sides:
        return torch.from_numpy(np.array(marked)).reshape(1, *([1] if spec.traits.spatial else []), *sides)
    if marked.shape == spec.item_shape:
        return torch.from_numpy(np.array(to_model_order(marked[None], spec.layout)))
    shapes = " or ".join(map(str, dict.fromkeys((sides, spec.item_shape))))
    raise UsageError(f"{where}: it has shape {marked.shape}, and for these {spec.traits.plural} it is {shapes}")


@dataclass(frozen=True, eq=False)
class Conditioned:
    """A network's denoiser with one condition, whatever the size of the batch."""

    denoiser: NetworkDenoiser
    conditions: conditions.Conditions
    rows: Rows | None  # of one sample
    guide: Guidance

    @property
    def path(self) -> Path:
        return self.denoiser.path

    def __call__(self, x_t: Tensor, t: Time) -> Estimate:
        rows = None if self.rows is None else tuple(row.expand(len(x_t), *row.shape[1:]) for row in self.rows)
        condition = None if rows is None else self.conditions.network_input(rows)
        return self.guide(self.denoiser, conditions.to(condition, x_t.device, x_t.dtype))(x_t, t)


def for_all(
    run: "Run", label: Label | None, condition: Any, guide: Guidance, label_index: int | Sequence[int] | None = None
) -> Denoiser:
    """The run's denoiser with one condition, or none, guided. Raises UsageError for guidance towards no condition."""
    rows = condition_rows(run, 1, label, condition, label_index)
    guide = _checked(run, rows, guide)
    return Conditioned(run.denoiser, run.model.conditions, rows, guide)


def conditioned(
    run: "Run",
    count: int,
    label: Label | None,
    condition: Any,
    guide: Guidance,
    size: int = MOST,
    label_index: int | Sequence[int] | None = None,
) -> list[tuple[Denoiser, slice]]:
    """The denoisers of `count` items, in batches, each with its rows."""
    rows, known = condition_rows(run, count, label, condition, label_index), run.model.conditions
    guide = _checked(run, rows, guide)
    parts = [slice(first, min(first + size, count)) for first in range(0, count, as_whole("batch_size", size, 1))]

    def bound(part: slice) -> Denoiser:
        inputs = None if rows is None else known.network_input(tuple(row[part] for row in rows))
        return guide(run.denoiser, conditions.to(inputs, run.model.device, run.model.dtype))

    return [(bound(part), part) for part in parts]


def _checked(run: "Run", rows: Rows | None, guide: Guidance) -> Guidance:
    towards = isinstance(guide, GuidanceConfig) and not guide.plain and not isinstance(guide.negative, WeakModel)
    if rows is None and towards:
        raise UsageError("guide: guidance needs something to guide towards; give a label or condition with it")
    if not isinstance(run.model.coupling, Independent):
        warnings.warn(
            f"this model was trained with the coupling {run.model.coupling}, under which noised data are not what it "
            "knows; results are approximate",
            stacklevel=3,
        )
    return indexed_guide(run, guide)


def _measured(run: "Run", measured: Any, operator: "Operator") -> Tensor:
    """A measurement in model units, (1, C, ...), checked against what the operator makes of an item."""
    from ornstein.editing import operators

    spec = run.spec
    array = np.asarray(measured)
    try:
        expected = operator(torch.zeros(1, *spec.shape, device=run.model.device, dtype=run.model.dtype)).shape[1:]
    except ValueError as error:
        raise UsageError(f"operator: {error}") from error
    own = spec.of_shape(tuple(expected), spec.layout)
    array = array[..., None] if (*array.shape, 1) == own.item_shape else array
    if array.dtype.kind not in "biuf" or array.shape != own.item_shape:
        raise UsageError(
            f"measured: {operator} makes {spec.traits.plural} of shape {own.item_shape} of the run's {spec.item_shape}, "
            f"and this is {array.shape}"
        )
    check_units(run, array, "measured")
    y = own.to_model(array[None]).to(run.model.device, run.model.dtype)
    y = operator.seen(y) if isinstance(operator, operators.Mask) else y
    if not bool(y.isfinite().all()):
        raise UsageError("measured: it holds NaN or infinite numbers where the operator looks")
    return y
