"""A training: in memory, or in its folder with settings, metrics, sample sheets, checkpoints and the model around the loop."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import nn

from ornstein import terminal
from ornstein.data import Dataset
from ornstein.data.stamps import Changed
from ornstein.files.atomic import written
from ornstein.files.lock import OTHER, hold
from ornstein.folder import posthoc
from ornstein.folder.config import settings_of
from ornstein.model import Model
from ornstein.processes import Processes, current
from ornstein.settings import OPEN, Settings
from ornstein.training.batch import Batches
from ornstein.training.checkpoint import State
from ornstein.training.choosing import NOTHING, Objects, choose
from ornstein.training.continuing import as_before, check_folder, run_folder
from ornstein.training.loggers import Loggers
from ornstein.training.loop import Diverged, TrainingProgress, train
from ornstein.training.metrics import Means
from ornstein.training.recipe import Recipe
from ornstein.training.run_files import RunFiles
from ornstein.training.sample_sheet import Sheets
from ornstein.training.starting import ready
from ornstein.training.validation import HeldOutLoss

SHEETS = [1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0]  # parts of the run after which samples are drawn


@dataclass(frozen=True)
class Event:
    """One step of a training: its progress, and the files that were written after it."""

    progress: TrainingProgress
    checkpoint: Path | None = None
    grid: Path | None = None
    held_out: float | None = None
    """The loss of the averaged weights on held-out items, where it was measured."""


class Training:
    """A training in memory. Iterate over it for its events; `stop()` ends it after the step at work. Nothing is written."""

    def __init__(self, recipe: Recipe, tell: Callable[[str], None] = terminal.write) -> None:
        self.recipe, self.tell = recipe, tell
        self._stopped = False

    @property
    def settings(self) -> Settings:
        """The record of all choices."""
        return self.recipe.settings

    @property
    def dataset(self) -> Dataset:
        """The training data, in the units of the model."""
        return self.recipe.dataset

    @property
    def model(self) -> Model:
        """The network that is trained, with all that gives its numbers a meaning."""
        return self.recipe.model

    @property
    def device(self) -> torch.device:
        """Where the network is trained."""
        return self.recipe.device

    @property
    def processes(self) -> Processes:
        """Those that train together."""
        return self.recipe.processes

    def stop(self) -> None:
        """Ends the training after the step at work."""
        self._stopped = True

    def __iter__(self) -> Iterator[Event]:
        means = Means()
        with self.recipe.processor(), self._logging() as log:
            self.state, learner = self.ready()
            measured, validation = 0, self._validation()
            for progress in train(self.recipe, learner, self.batches(), self.state):
                log.log(means.add(progress))
                reached, loss = sum(progress.done >= each for each in SHEETS), None
                if validation is not None and (reached > measured or self._stopped):
                    measured, loss = reached, validation(self.state.average)
                yield Event(progress, held_out=loss)
                if self._stopped:
                    return

    def _validation(self) -> HeldOutLoss | None:
        """The loss on held-out items, where there are any; of sharded weights no process has all."""
        return None if self.recipe.held_out is None or self.settings.shard else HeldOutLoss(self.recipe)

    def _logging(self) -> AbstractContextManager[Loggers]:
        """Within, the loggers of the first process at work."""
        loggers = self.recipe.loggers if self.processes.is_first else ()
        return Loggers(loggers, self.tell).started(self.settings.to_dict())

    def batches(self) -> Batches:
        """The batches of this run."""
        return Batches(self.recipe)

    def ready(self) -> tuple[State, nn.Module]:
        """The untrained state, and the module that gives the loss of a part of a batch in this process."""
        return ready(self.recipe, self.batches(), self.tell)


class FolderTraining(Training):
    """A training in a run folder. Iterate over it for its events; `stop()` ends it after the step at work, saved.

        training = FolderTraining(Settings(data="digits", out="runs/digits", steps=1000), data.open("digits"))
        for event in training:
            print(event.progress.loss)

    `objects` stand in place of names of the settings. `change` allows other values of the settings CHANGEABLE than those that the
    run had so far. Raises UsageError for settings that do not fit each other or the data, or
    when the folder holds a run with other settings or other data; OrnsteinError when another process is training in it, its
    checkpoints are all damaged, or the disk refuses.
    """

    def __init__(
        self,
        settings: Settings,
        dataset: Dataset,
        tell: Callable[[str], None] = terminal.write,
        objects: Objects = NOTHING,
        change: bool = False,
    ) -> None:
        self.folder, self._change, self._objects = run_folder(settings.out), change, objects
        self._earlier = earlier = settings_of(self.folder)
        if earlier is not None:  # what was left open then was chosen for that machine, and stays
            settings = replace(
                settings, **{key: getattr(earlier, key) for key in OPEN if getattr(settings, key) is None}
            )

        def checked(settings: Settings, dataset: Dataset) -> Dataset:
            check_folder(self.folder, settings, earlier, change)
            return as_before(self.folder, settings, dataset)

        super().__init__(choose(settings, dataset, current(), objects, checked), tell)
        self.resumed: Path | None = None

    def __iter__(self) -> Iterator[Event]:
        with ExitStack() as stack:
            self.processes.on_first(lambda: self._hold(stack))
            stack.enter_context(self.recipe.processor())
            yield from self._run(stack.enter_context(self._logging()))

    def _hold(self, stack: ExitStack) -> None:
        stack.enter_context(hold(self.folder))
        # another process may have trained in it since this one looked
        check_folder(self.folder, self.settings, settings_of(self.folder), self._change)
        as_before(self.folder, self.settings, self.dataset)
        with written(self.folder, OTHER):
            (self.folder / "checkpoints").mkdir(exist_ok=True)

    def _run(self, log: Loggers) -> Iterator[Event]:
        self.state, learner = state, learner = self.ready()
        files = RunFiles(self.folder, self.recipe, self._objects, self._earlier, self._change)
        processes, means, metrics = self.processes, Means(), files.metrics
        self.resumed = files.begin(state, self.tell)
        part = self.recipe.length.done(state.step, state.seconds)
        saved, saved_step, drawn = time.monotonic(), state.step, sum(part >= each for each in SHEETS)
        measured, validation = drawn, self._validation()
        steps = train(self.recipe, learner, self.batches(), state)
        sheets = Sheets(self.folder / "samples", self.recipe, self.tell, metrics, lambda: self._stopped)
        for progress in self._while_data_stay(steps, state, files):
            sheets.budget.note(progress.step, progress.seconds - state.drawing)
            if processes.is_first:
                metrics.add(line := means.add(progress))
                log.log(line)
            if self.settings.snapshots and posthoc.due(state.updates):
                files.snap(state)
            grid = place = None
            if self.settings.samples and drawn < len(SHEETS) and progress.done >= SHEETS[drawn]:
                drawn = sum(progress.done >= each for each in SHEETS)
                grid = sheets.after_step(state, len(SHEETS) - drawn)
                log.image(progress.step, grid)
            wishes = processes.table(self._stopped, self._due(progress, saved, saved_step))
            over = progress.done >= 1 or bool(wishes[:, 0].any())
            saving, reached = over or (progress.finite and bool(wishes[0, 1])), sum(progress.done >= e for e in SHEETS)
            loss = None
            if validation is not None and progress.finite and (saving or reached > measured):
                measured, loss = reached, processes.on_first(partial(validation, state.average))
                metrics.add({"step": progress.step, "held_out": round(loss, 6)})
            if saving:
                place = files.save(state, prune=progress.finite)
                saved, saved_step = time.monotonic(), state.step
            yield Event(progress, place, grid, loss)
            if self._stopped and not over and processes.count == 1:  # stopped between two steps
                if place is None:
                    files.save(state, prune=progress.finite)
                return
            if over:
                return

    def _while_data_stay(
        self, steps: Iterator[TrainingProgress], state: State, files: RunFiles
    ) -> Iterator[TrainingProgress]:
        """The steps; when a file of the data changes, what was learned before that is saved and the run ends.

        Where they diverge, nothing is saved, and the metrics say so.
        """
        try:
            yield from steps
        except Diverged:
            files.metrics.diverged(state)
            raise
        except Changed as error:
            if self.processes.count > 1:  # none can wait for the others, which wait for it
                raise
            if state.step:
                files.save(state, prune=False)
            raise Changed(f"training stopped after step {state.step:,}, saved in {self.folder}: {error}") from error

    def _due(self, progress: TrainingProgress, saved: float, saved_step: int) -> bool:
        if self.settings.save_every is not None:
            return progress.step - saved_step >= self.settings.save_every
        return time.monotonic() - saved >= 60 * self.settings.save_minutes
