"""The sample grid of a run: what is asked for in each cell, where it stands, and how long it may take."""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ornstein.conditions import Conditions, Rows
from ornstein.data import Dataset

EACH = 6  # samples that are given one image
SHARE = 0.05  # of the time of a run, which all sheets but the last may take together
LEAST = 1.5  # seconds that they may take in the shortest run
CALLS = 20  # of the network for each sample, by the default solver
TRIED = 0.1  # part of a sheet after which its pace counts as known; before that, one beyond all measure ends it
ROUGH = 4.0  # times as long as allowed


@dataclass(frozen=True, eq=False)
class SampleSheet:
    """`count` samples that are told `rows`; of a run that is given images each row shows one, the whole of it, and samples."""

    count: int
    rows: Rows | None
    conditions: Conditions
    columns: int | None
    left: NDArray[Any] | None = None
    """What samples were given, and the whole images, (items, 2, H, W, C)."""

    @staticmethod
    def of(conditions: Conditions, dataset: Dataset, count: int) -> "SampleSheet":
        """Of classes alone: each in turn. Else: what belongs to evenly spaced items of the data."""
        label, image = conditions.label, conditions.image
        if not conditions:
            return SampleSheet(count, None, conditions, None)
        if label is not None and len(conditions.parts) == 1:
            classes = len(label.classes)
            return SampleSheet(
                count, (torch.arange(count) % classes,), conditions, classes if 4 <= classes <= 16 else None
            )
        wanted = count if image is None else max(1, count // EACH)
        items = np.arange(wanted) * len(dataset) // wanted
        rows = conditions.of_items(dataset, items)
        if image is None:
            return SampleSheet(count, rows, conditions, None)
        given = dataset.spec.from_model(image.visible(rows[conditions.parts.index(image)]))
        left = np.stack([given, np.asarray(dataset.items[items])], 1)
        each = tuple(row.repeat_interleave(EACH, 0) for row in rows)
        return SampleSheet(wanted * EACH, each, conditions, EACH + 2, left)

    def told(self, first: int, last: int) -> Any:
        """What the network is told for samples first..last−1."""
        return self.conditions.network_input(None if self.rows is None else tuple(row[first:last] for row in self.rows))

    def laid(self, samples: NDArray[Any]) -> NDArray[Any]:
        """The cells of the grid, row by row."""
        if self.left is None:
            return samples
        together = np.concatenate([self.left, samples.reshape(-1, EACH, *samples.shape[1:])], 1)
        return together.reshape(-1, *samples.shape[1:])


class TooSlow(Exception):
    """A sheet would take longer than it may: about so many `seconds`."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds


class Watch:
    """A forward hook that ends the drawing of `count` samples as soon as it is seen that it takes more than so many seconds.

    The first call, which is slower than others, does not count towards the pace. Raises TooSlow out of the network call.
    """

    def __init__(self, count: int, most: float) -> None:
        self._whole, self._most, self._begun, self._asked = count * CALLS, most, time.monotonic(), 0
        self._first: tuple[float, int] | None = None

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.monotonic() - self._begun

    def __call__(self, network: object, inputs: tuple[Any, ...]) -> None:
        seconds = self.seconds
        if self._first is None and self._asked:
            self._first = seconds, self._asked
        elif self._first is not None:
            then, before = self._first
            expected = then + (seconds - then) * max(1.0, (self._whole - before) / (self._asked - before))
            known = self._asked >= TRIED * self._whole
            if seconds > self._most or expected > self._most * (1 if known else ROUGH):
                raise TooSlow(expected)
        self._asked += len(inputs[0])


class SheetBudget:
    """Which sheets before the last are drawn, so that all of them take no more than `SHARE` of the run.

    The first is drawn as soon as it fits, and then as many of the latest as do: a sheet may have its share of what is left.
    Sheets change no bit of what is learned, so a clock may decide about them; what they took goes with the checkpoints.
    """

    def __init__(self, steps: int | None, minutes: float | None) -> None:
        self._steps, self._minutes = steps, minutes
        self._first: tuple[int, float] | None = None
        self.cost: float | None = None
        """Seconds that a sheet takes, where that is known."""

    def note(self, step: int, seconds: float) -> None:
        """After each step: the seconds that the training took so far without sheets. The first step is slower than others."""
        self._first = self._first or (step, seconds)

    def most(self, step: int, seconds: float, spent: float, to_come: int) -> float:
        """Seconds that a sheet may take now, of which `to_come` are still due before the last; 0 where it would take more."""
        assert self._first is not None
        if self._minutes is not None:
            whole = 60 * self._minutes
        else:
            assert self._steps is not None
            before, then = self._first
            pace = (seconds - then) / (step - before) if step > before else seconds / step
            whole = seconds + pace * (self._steps - step)
        left = max(LEAST, SHARE * whole) - spent
        allowed = left / to_come if spent else left
        return 0.0 if self.cost is not None and self.cost > allowed else max(allowed, 0.0)
