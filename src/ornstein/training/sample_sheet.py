"""The sample sheet of a run: samples of fixed seeds and conditions, drawn as the training goes, and how long they may take."""

import copy
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ornstein.conditions import Conditions, Rows
from ornstein.data import Dataset, grid_image
from ornstein.errors import NotFinite
from ornstein.files.atomic import new_file
from ornstein.training import parallel
from ornstein.training.checkpoint import State
from ornstein.training.metrics import Metrics
from ornstein.training.recipe import Length, Recipe

EACH = 6  # samples of one image condition
SHARE = 0.05  # of the time of a run, which all sheets but the last may take together
LEAST = 1.5  # seconds that they may take in the shortest run
CALLS = 20  # of the network for each sample, by the default solver
TRIED = 0.1  # part of a sheet after which its pace counts as known; before that, one beyond all measure ends it
ROUGH = 4.0  # times as long as allowed


@dataclass(frozen=True, eq=False)
class SampleSheet:
    """`count` samples under the conditions `rows`. With an image condition each line of the sheet has the condition, the whole
    image, and samples."""

    count: int
    rows: Rows | None
    conditions: Conditions
    columns: int | None
    left: NDArray[Any] | None = None
    """Image conditions and the whole images, (items, 2, H, W, C)."""

    @staticmethod
    def of(conditions: Conditions, dataset: Dataset, count: int) -> "SampleSheet":
        """Conditions of a sample sheet: each class in turn, if there are only classes; else those of evenly spaced items."""
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
        visible = dataset.spec.from_model(image.visible(rows[conditions.parts.index(image)]))
        left = np.stack([visible, np.asarray(dataset.items[items])], 1)
        each = tuple(row.repeat_interleave(EACH, 0) for row in rows)
        return SampleSheet(wanted * EACH, each, conditions, EACH + 2, left)

    def condition(self, first: int, last: int) -> Any:
        """The condition of samples first..last−1, for the network."""
        return self.conditions.network_input(None if self.rows is None else tuple(row[first:last] for row in self.rows))

    def laid(self, samples: NDArray[Any]) -> NDArray[Any]:
        """The cells of the sheet, row by row."""
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
        self._whole, self._most, self._begun, self._called = count * CALLS, most, time.monotonic(), 0
        self._first: tuple[float, int] | None = None

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.monotonic() - self._begun

    def __call__(self, network: object, inputs: tuple[Any, ...]) -> None:
        seconds = self.seconds
        if self._first is None and self._called:
            self._first = seconds, self._called
        elif self._first is not None:
            then, before = self._first
            expected = then + (seconds - then) * max(1.0, (self._whole - before) / (self._called - before))
            known = self._called >= TRIED * self._whole
            if seconds > self._most or expected > self._most * (1 if known else ROUGH):
                raise TooSlow(expected)
        self._called += len(inputs[0])


class SheetBudget:
    """The time for sheets before the last: all of them take at most `SHARE` of the run.

    The first is drawn as soon as it fits, and then as many of the latest as do: a sheet may have its share of what is left.
    Sheets change no bit of what is learned, so a clock may decide about them; what they took goes with the checkpoints.
    """

    def __init__(self, length: Length) -> None:
        self._length = length
        self._first: tuple[int, float] | None = None
        self.cost: float | None = None
        """Seconds that a sheet takes, where that is known."""

    def note(self, step: int, seconds: float) -> None:
        """After each step: the seconds that the training took so far without sheets. The first step is slower than others."""
        self._first = self._first or (step, seconds)

    def most(self, step: int, seconds: float, spent: float, to_come: int) -> float:
        """Seconds that a sheet may take now, of which `to_come` are still due before the last; 0 where it would take more."""
        before, then = self._first or (step, seconds)
        pace = (seconds - then) / (step - before) if step > before else seconds / step
        whole = self._length.whole(step, seconds, pace)
        left = max(LEAST, SHARE * whole) - spent
        allowed = left / to_come if spent else left
        return 0.0 if self.cost is not None and self.cost > allowed else max(allowed, 0.0)


class _Stopped(Exception):
    """The training is to stop while its samples are being drawn."""


class Sheets:
    """The files of sample sheets in a folder, all of the same seeds and conditions, so that they can be compared."""

    def __init__(
        self,
        folder: Path,
        recipe: Recipe,
        tell: Callable[[str], None],
        metrics: Metrics,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        self._folder, self._recipe, self._tell, self._metrics, self._stopped = folder, recipe, tell, metrics, stopped
        self.budget = SheetBudget(recipe.length)

    def after_step(self, state: State, later: int) -> Path | None:
        """A sheet; None where it would take more of the time of the run than sheets may. All processes call this.

        `later` are still to come, the last one in any case.
        """
        processes, trained = self._recipe.processes, state.seconds - state.drawing
        most = processes.on_first(
            lambda: self.budget.most(state.step, trained, state.drawing, later) if later else math.inf
        )
        if not most:
            return None
        tensors = parallel.gather(state.average.state_dict()) if state.bare is not None else {}

        def draw() -> tuple[Path | None, float]:
            average = state.average
            if state.bare is not None:  # the first process holds the whole network for as long as it draws
                average = copy.deepcopy(state.bare)
                average.load_state_dict(tensors, assign=True)
                average = average.to(self._recipe.device)
            try:
                place, seconds = self._draw(average, state.step, most)
                self._metrics.flush()  # whoever looks at the sheet may look at the loss
                return place, seconds
            except NotFinite as error:  # ten such steps in a row end the run; a sheet does not
                self._tell(f"No samples after step {state.step:,}: {error}.")
                self._metrics.diverged(state)
                return None, 0.0

        place, seconds = processes.on_first(draw)
        state.drawing += seconds if later else 0.0
        return place

    def _draw(self, average: nn.Module, step: int, most: float) -> tuple[Path | None, float]:
        """The file of a sheet, if it came to its end within `most` seconds, and the seconds that it took.

        Raises NotFinite for samples that are no numbers.
        """
        model = self._recipe.model
        sheet = SampleSheet.of(model.conditions, self._recipe.dataset, self._recipe.settings.samples)
        watch = Watch(sheet.count, most)

        def stop_here(*_: object) -> None:
            if self._stopped():  # a run that is to stop saves at once
                raise _Stopped

        hooks = [average.register_forward_pre_hook(hook) for hook in (stop_here, watch)]
        try:
            arrays = np.concatenate(list(self._samples(sheet, average)))
            if not (self._recipe.model.spec.may_lack or np.isfinite(arrays).all()):
                raise NotFinite("they hold NaN or infinite numbers")
        except _Stopped:
            return None, watch.seconds
        except TooSlow as slow:
            if self.budget.cost is None:
                self._tell(
                    f"A sample grid takes about {slow.seconds:.2g} s: some of the early ones are left out, so that they take "
                    f"{100 * SHARE:g} % of the time at most."
                )
            self.budget.cost = slow.seconds
            return None, watch.seconds
        finally:
            for hook in hooks:
                hook.remove()
        place = self._write(sheet, arrays, step)
        self.budget.cost = watch.seconds
        return place, watch.seconds

    def _samples(self, sheet: SampleSheet, average: nn.Module) -> Iterator[NDArray[Any]]:
        solver, steps = self._recipe.solver, self._recipe.settings.sample_steps
        return self._recipe.model.sample(
            sheet.count, condition=sheet.condition, solver=solver, steps=steps, network=average
        )

    def _write(self, sheet: SampleSheet, arrays: NDArray[Any], step: int) -> Path:
        place, spec = self._folder / f"step-{step:08d}.png", self._recipe.model.spec
        if not spec.traits.drawn:
            place = place.with_suffix(".npz")
            with new_file(place) as file, file.open("wb") as stream:
                np.savez_compressed(stream, samples=arrays)
            return place
        with new_file(place) as file:
            grid_image(sheet.laid(arrays), sheet.columns, spec=spec).save(file)
        return place
