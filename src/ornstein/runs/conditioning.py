"""From what a user says to the rows that a run's network is called with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ornstein.conditions import Rows
from ornstein.errors import UsageError
from ornstein.guidance.config import Guidance, GuidanceConfig, NegativeLabel, WeakModel, unconditional

if TYPE_CHECKING:
    from ornstein.conditions import Label as OneClass
    from ornstein.data.dataset import Dataset
    from ornstein.runs.run import Run

Label = int | str | Sequence[Any]


@dataclass(frozen=True, eq=False)
class ConditionBatch:
    """Conditions that are rows already, such as those of data (`Conditions.of_items`): a `condition` for `Run.sample`."""

    rows: Rows
    known: NDArray[np.float64] | None = None
    """The numbers that are known, in the data's own units, (1 or N, ...) with NaN where they are not."""

    def part(self, first: int, last: int) -> ConditionBatch:
        """The conditions of samples first..last−1."""
        known = self.known if self.known is None or len(self.known) == 1 else self.known[first:last]
        return ConditionBatch(tuple(row[first:last] for row in self.rows), known)

    @property
    def digest(self) -> str:
        """The hash of the conditions' values, 16 hex digits."""
        return sha256(b"".join(row.contiguous().numpy().tobytes() for row in self.rows)).hexdigest()[:16]


def condition_rows(
    run: Run, count: int, label: Label | None = None, condition: Any = None, label_index: Any = None, known: Any = None
) -> Rows | None:
    """The conditions of `count` samples, checked; None if there are none. Raises UsageError."""
    if isinstance(condition, ConditionBatch):
        if known is not None:
            raise UsageError("known: the condition says already what is known; give one of them")
        return condition.rows
    if known is not None:
        condition = with_known(run, condition, known)
    if label_index is not None and label is not None:
        raise UsageError("label, label_index: give one of them; a label is a class of the data, an index its place")
    return run.model.conditions.requested(count, run.spec, label, condition, label_index)


def different_rows(run: Run, label: Label | None = None, condition: Any = None, known: Any = None) -> Rows | None:
    """The conditions that are asked for, as many rows as the values have: one where all are equal; None if nothing is asked.

    Raises UsageError as `condition_rows` does.
    """
    refused, lengths = None, [1]
    if not isinstance(condition, ConditionBatch):
        values = (label, known, *run.model.conditions.by_name(condition).values())
        lengths = sorted({_length(run, value) for value in values}, reverse=True)
    for count in lengths:
        try:
            rows = condition_rows(run, count, label, condition, known=known)
        except UsageError as error:
            refused = refused or error
            continue
        same = rows is not None and all(bool((row == row[:1]).all()) for row in rows)
        return tuple(row[:1] for row in rows) if rows is not None and same else rows
    assert refused is not None
    raise refused


def _length(run: Run, value: Any) -> int:
    """How many conditions a value may be: its length, where it is no text, no number and no item."""
    shape = tuple(getattr(value, "shape", ()))
    if isinstance(value, str) or shape == run.spec.item_shape:
        return 1
    try:
        return max(len(value), 1)
    except TypeError:
        return 1


def must_have_condition(run: Run) -> None:
    """Raises UsageError for a run that was never trained without its condition, where none is given."""
    needed = [part for part in run.model.conditions.parts if not part.optional]
    if needed and not has_null(run):
        names = ", ".join(part.names[0] for part in needed)
        raise UsageError(
            f"condition: {run.folder} was trained with label_dropout 0, so there is no model without a condition in it; give "
            f"one ({names})"
        )


def with_known(run: Run, condition: Any, known: Any) -> dict[str, Any]:
    """A condition and known numbers as one. Raises UsageError for a run that takes none."""
    if run.model.conditions.known is None:
        raise UsageError(
            f"known: {run.folder} was not trained to take known numbers; train with --given any (vectors and tables), past:N, "
            "gaps or every:N"
        )
    return {**run.model.conditions.by_name(condition), "known": known}


def known_numbers(run: Run, count: int, condition: Any, known: Any = None) -> NDArray[np.float64] | None:
    """What is known of `count` samples, in the data's own units, by `known` or within a condition; None if nothing is."""
    if isinstance(condition, ConditionBatch):
        return condition.known
    part = run.model.conditions.known
    if part is None:
        return None
    given = run.model.conditions.by_name(condition).get("known") if known is None else known
    return None if given is None else part.read(given, count, run.spec)


def label_ids(run: Run, label: Label, count: int) -> Tensor:
    """The indices of the classes of `count` samples, checked. Raises UsageError that names what is wrong."""
    part = run.model.conditions.label
    if part is None:
        takes = ", ".join(part.description for part in run.model.conditions.parts)
        raise UsageError(
            f"label: {run.folder} was trained without classes{f' (it takes {takes})' if takes else ''}; leave the label out"
        )
    return part.requested({"label": label}, count, run.spec)


def like(run: Run, dataset: Dataset, part: range, seed: int = 0) -> ConditionBatch | None:
    """Conditions for samples of these numbers that can be compared with data: those of items of the data.

    The items are those of the data in random order, again and again. Of a run of classes alone, they are classes drawn as often
    as in the training, of those that the data have; None where these are all, or of no conditions: such a run draws them itself.
    Raises UsageError for data that lack a condition of the run.
    """
    known = run.model.conditions
    if not known:
        return None
    if known.label is not None and len(known.parts) == 1:
        some = _present(known.label, dataset)
        return None if some is known.label else ConditionBatch((some.drawn(part.start, part.stop, seed),))
    dataset = known.fitted(dataset, run.folder)
    return ConditionBatch(known.of_items(dataset, _items(dataset, part, seed), seed))


def like_labels(run: Run, dataset: Dataset, count: int, seed: int = 0) -> Tensor | None:
    """The classes of the first `count` samples made as `like` has it; None without classes."""
    known = run.model.conditions
    if known.label is None:
        return None
    if len(known.parts) == 1:
        return _present(known.label, dataset).drawn(0, count, seed)
    dataset = known.fitted(dataset, run.folder)
    assert dataset.labels is not None
    return torch.from_numpy(dataset.labels[_items(dataset, range(count), seed)])


def _present(part: OneClass, dataset: Dataset) -> OneClass:
    """The classes without those that labelled data lack; the same object where they lack none, or have no labels."""
    if dataset.labels is None or dataset.classes != part.classes:
        return part
    there = np.bincount(dataset.labels[dataset.labelled], minlength=len(part.classes)) > 0
    frequencies = tuple(f if has else 0.0 for f, has in zip(part.frequencies, there.tolist(), strict=True))
    return part if frequencies == part.frequencies or not any(frequencies) else replace(part, frequencies=frequencies)


def _items(dataset: Dataset, part: range, seed: int) -> NDArray[np.int64]:
    return np.random.default_rng(seed).permutation(len(dataset))[np.arange(part.start, part.stop) % len(dataset)]


def has_null(run: Run) -> bool:
    """Whether the model can also be called without conditions: it has none, or training left some out."""
    settings = run._settings()
    return not run.model.conditions or settings is None or settings.label_dropout > 0


def indexed_guide(run: Run, guide: Guidance) -> Guidance:
    """The guidance with the index of the class that a `NegativeLabel` names. Raises UsageError as `check_guide` does."""
    check_guide(run, guide)
    if not isinstance(guide, GuidanceConfig) or guide.plain or not isinstance(guide.negative, NegativeLabel):
        return guide
    if guide.negative.index is not None:
        return guide
    return replace(guide, negative=replace(guide.negative, index=int(label_ids(run, guide.negative.label, 1))))


def check_guide(run: Run, guide: Guidance) -> None:
    """Raises UsageError for a `GuidanceConfig` that the run has not the means for."""
    if not isinstance(guide, GuidanceConfig) or guide.plain or isinstance(guide.negative, WeakModel):
        return
    known = run.model.conditions
    if not known:
        raise UsageError(
            f"guidance: {run.folder} was trained without classes or other conditions, so there is nothing to guide it "
            "towards; leave guidance out, or guide it away from a weaker model"
        )
    if isinstance(guide.negative, NegativeLabel) and (known.label is None or len(known.parts) > 1):
        raise UsageError(
            f"guidance: {run.folder} has other conditions than a class, and is guided away from no condition or from a weaker "
            "model; leave the other label out"
        )
    if guide.negative is unconditional and not has_null(run):
        raise UsageError(
            f"guidance: {run.folder} was trained with label_dropout 0, so there is no unconditional model in it to guide "
            "away from; train with label dropout, or guide away from another label or a weaker model"
        )
