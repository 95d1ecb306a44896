"""Decoded data, ready to be indexed: a batch is one index and one copy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ornstein.data import classes as naming
from ornstein.data.annotations import Annotations
from ornstein.data.arrays import Arrays
from ornstein.data.balance import Balance
from ornstein.data.content import DIGITS, FORM, chunks, content_hash, digest_of, item_bytes
from ornstein.data.selected import select
from ornstein.data.shuffle import order
from ornstein.data.spec import FULL_RANGE, DataSpec
from ornstein.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Dataset:
    """Items in their own type and axes (`spec.layout`), with labels and a description.

    `items` may be `Rows`, read on demand; `labels` is int64 `(N,)`, indices of the classes and `len(classes)` where a
    label is missing, or `None`; `annotations` hold what else is known of each item. `use` keeps an entry of the cache from being
    removed. `full_scale`: the items are image files, in which the full range of the type goes from black to white.
    `adopted_by`: of the run in whose units they have been put already (`adopt`).
    """

    items: NDArray[Any]
    labels: NDArray[np.int64] | None
    spec: DataSpec
    annotations: Annotations = Annotations()
    use: object = None
    full_scale: bool = False
    adopted_by: DataSpec | None = None
    is_indexed: ClassVar[bool] = True
    """Whether its order is a function of a seed, and its content known by a hash."""
    is_paired: ClassVar[bool] = False
    """Whether each item has a noise of its own (`ornstein.data.pairs`)."""

    def __len__(self) -> int:
        return len(self.items)

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes by their indices; empty without labels."""
        return self.spec.classes

    @property
    def labelled(self) -> NDArray[np.bool_]:
        """Whether an item has a label, boolean `(N,)`."""
        if self.labels is None:
            return np.zeros(len(self), np.bool_)
        return np.asarray(self.labels < len(self.classes))

    def take(self, rows: NDArray[np.int64]) -> Dataset:
        """Only these items, in this order; their hash is one of the whole and of the rows."""
        spec, digest = self.spec, sha256(f"{self.spec.content_hash} rows ".encode())
        digest.update(item_bytes(rows))
        return replace(
            self,
            items=select(self.items, rows),
            labels=None if self.labels is None else self.labels[rows],
            spec=replace(spec, count=len(rows), content_hash=FORM + digest.hexdigest()[:DIGITS]),
            annotations=self.annotations.take(rows),
        )

    def split(self, part: float) -> tuple[Dataset, Dataset]:
        """The items to learn from, and a part of all that is held out, the same for the same data: of each class its share.

        Both are in the units of the whole, and what is learned from is known by the hash of the whole. Raises UsageError for a
        part that leaves nothing on one side.
        """
        count = round(part * len(self))
        if not 0 < count < len(self):
            raise UsageError(
                f"hold_out: {part:g} of the {len(self):,} items of {self.spec.source} are {count:,}; give a part that leaves "
                "some to learn from and some to hold out"
            )
        digest = sha256(f"hold out {self.spec.content_hash}".encode()).digest()
        shuffled = np.random.default_rng(int.from_bytes(digest[:8], "little")).permutation(len(self))
        if self.labels is not None:
            shuffled = shuffled[np.argsort(self.labels[shuffled], kind="stable")]
        held = np.sort(shuffled[(2 * np.arange(count) + 1) * len(self) // (2 * count)])
        rest = np.setdiff1d(np.arange(len(self)), held)
        return replace(self.take(rest), spec=self.spec), self.take(held)

    def balanced(self, column: str | None = None) -> Dataset:
        """The same items, of which training draws each class as often; of a table each category of a column.

        Raises UsageError for data without classes, and for a column that is not there or holds no categories.
        """
        if column is not None:
            raise UsageError(f"balance_by: {self.spec.source} has no columns; give balance, for classes")
        if self.labels is None or not self.classes:
            raise UsageError(f"balance: {self.spec.source} has no classes to draw alike; leave it out")
        return BalancedDataset(self.items, self.labels, self.spec, self.annotations, self.use)

    def with_classes(self, classes: Sequence[str]) -> tuple[Dataset, str]:
        """The data with the classes of a run, matched by name, and a sentence where items are left out or classes lack.

        Raises UsageError where no item is of any of these classes.
        """
        wanted = tuple(classes)
        if self.labels is None or not wanted:
            return self, ""
        try:
            match = naming.matched(wanted, self.classes, self.labels)
        except UsageError as error:
            raise UsageError(f"{self.spec.source}: {error}") from None
        if wanted == self.classes:
            return self, match.note
        some = self if len(match.rows) == len(self) else self.take(match.rows)
        spec = replace(some.spec, classes=wanted)
        moved = replace(some, labels=match.labels, spec=spec)
        return (moved._hashed() if some is self else moved), match.note

    def whole(self) -> tuple[Dataset, str]:
        """The items that lack no number, and a sentence about the others. Raises UsageError where there is none."""
        if not self.spec.missing:
            return self, ""
        there = [~np.isnan(chunk).reshape(len(chunk), -1).any(1) for chunk in chunks(self.items)]
        rows, source = np.flatnonzero(np.concatenate(there)), self.spec.source
        if not len(rows):
            raise UsageError(f"all {len(self):,} items of {source} have missing numbers; give some that have none")
        some = self.take(rows)
        note = f"{len(self) - len(rows):,} of {len(self):,} items of {source} have missing numbers and are left out."
        return replace(some, spec=replace(some.spec, missing=False)), note

    def without_labels(self) -> Dataset:
        """The same items without classes."""
        return replace(self, labels=None, spec=replace(self.spec, classes=()))._hashed()

    def _hashed(self) -> Dataset:
        """With the hash that these items and labels would have if they had been read so."""
        spec = self.spec
        arrays = Arrays(self.items, self.labels, spec.classes, annotations=self.annotations, layout=spec.layout)
        content = content_hash(arrays, *spec.hashed_range, digest_of(self.items))
        return replace(self, spec=replace(spec, content_hash=content))

    @property
    def lacking(self) -> dict[str, int]:
        """How many items lack what others have: a label, a set of labels, a vector, a caption."""
        labels = 0 if self.labels is None else len(self) - int(self.labelled.sum())
        counts = {"label": labels, **self.annotations.lacking}
        return {name: count for name, count in counts.items() if count}

    def adopt(self, run: DataSpec) -> tuple[Dataset, tuple[str, ...]]:
        """The items for a model that was trained on data of `run`: in its units, never in their own; and sentences about
        what is not as in its training.

        Other types of the same quantity are taken as they are; the numbers of image files are parts of their type's full range
        where `run` has a declared range. Numbers outside the range of the training are counted.
        Raises UsageError for items of another kind or shape, and for those that state another range than the run's data.
        """
        own = self.spec
        if self.adopted_by == run:
            return self, ()
        if (own.kind, own.shape) != (run.kind, run.shape):
            raise UsageError(
                f"{own.source} holds {own.traits.plural} of shape {own.shape}, but the run was trained on {run.traits.plural} of "
                f"shape {run.shape}; give data of that shape"
            )
        if own.has_units_of(run):
            return replace(self, spec=own.in_units_of(run), adopted_by=run), ()
        if self.full_scale and not run.mean and not own.mean:
            other = f"{own.source} holds {own.dtype} images, and the training data {run.dtype}; "
            notes = () if own.dtype == run.dtype else (f"{other}black and white are the same in both.",)
            return replace(self, adopted_by=run), notes
        if (
            not own.mean
            and not run.mean
            and (own.low, own.high) not in ((run.low, run.high), FULL_RANGE.get(own.dtype))
        ):
            raise UsageError(
                f"{own.source} states the range {own.low:g} to {own.high:g}, and the run {run.low:g} to {run.high:g}: give "
                "them in the run's range, or leave out low and high where its numbers already are"
            )
        adopted = own.in_units_of(run)
        said = replace(adopted, dtype=run.dtype).notes_on(self.items, own.source)
        return replace(self, spec=adopted, adopted_by=run), tuple(said)

    def drawn(self, seed: int, step: int, total: int) -> tuple[Dataset, NDArray[np.int64]]:
        """The data and the indices of the items of a training step: a function of (seed, step)."""
        return self, order(seed, step, total, len(self))

    def noise(self, indices: NDArray[np.integer[Any]]) -> Tensor:
        """The noise that items are paired with, float32 (B, *shape) in model units. Raises ValueError where they are not."""
        raise ValueError(f"{self.spec.source} has no noise of its own: noise(...) is for pairs.")

    def batch(
        self, indices: NDArray[np.integer[Any]], flip: Tensor | None = None, wide: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """The items `indices` in model units: float32 `(B, C, H, W)` or `(B, D)`, and int64 labels `(B,)` or `None`.

        `wide`: in float64. `flip`, boolean `(B,)`, mirrors those images left to right; the caller's generator makes that choice.
        Raises `ValueError` when items that have no left and right are to be flipped.
        """
        import torch

        x = self.spec.to_model(self.spec.within(np.asarray(self.items[indices])), wide)
        if flip is not None:
            if not self.spec.traits.mirrors:
                raise ValueError(f"{self.spec.traits.plural} have no left and right: batch(flip=...) is for images.")
            x = torch.where(flip[:, None, None, None], x.flip(-1), x)
        return x, None if self.labels is None else torch.from_numpy(self.labels[indices])


@dataclass(frozen=True, eq=False)
class BalancedDataset(Dataset):
    """Data of which training draws each class as often, with replacement; items without a label as often as they occur."""

    def drawn(self, seed: int, step: int, total: int) -> tuple[Dataset, NDArray[np.int64]]:
        """The data and the indices of the items of a training step: a function of (seed, step)."""
        return self, self._balance.drawn(seed, step, total)

    @cached_property
    def _balance(self) -> Balance:
        assert self.labels is not None
        return Balance.of(self.labels, len(self.classes))
