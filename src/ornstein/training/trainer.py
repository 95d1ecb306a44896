"""A training: in memory, or in its folder with settings, metrics, sample sheets, checkpoints and the model around the loop."""

import copy
import math
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn

from ornstein import networks, terminal
from ornstein._version import __version__
from ornstein.data import Dataset
from ornstein.data.stamps import Changed
from ornstein.errors import NotFinite, OrnsteinError
from ornstein.files.atomic import new_file, write_json, written
from ornstein.files.lock import OTHER, hold
from ornstein.files.owner import sweep
from ornstein.files.reading import read_json
from ornstein.folder import checkpoints, history, posthoc
from ornstein.folder.config import settings_of
from ornstein.folder.layout import FOLDERS
from ornstein.folder.publish import environment, publish
from ornstein.model import Model
from ornstein.processes import Processes, current
from ornstein.settings import OPEN, Settings
from ornstein.training import checkpoint, compiling, parallel
from ornstein.training.batch import Batches
from ornstein.training.checkpoint import State
from ornstein.training.choosing import NOTHING, Objects, choose
from ornstein.training.continuing import as_before, check_folder, must_be_new, run_folder
from ornstein.training.loggers import Loggers
from ornstein.training.loop import Diverged, TrainingProgress, train
from ornstein.training.metrics import Means, Metrics
from ornstein.training.own import described, must_be_same
from ornstein.training.recipe import Recipe
from ornstein.training.sample_sheet import Sheets
from ornstein.training.uncertainty import Uncertainty
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
        recipe, settings, device = self.recipe, self.settings, self.recipe.device
        network = recipe.model.network
        if settings.channels_last and not settings.shard:  # FSDP2 takes contiguous weights alone
            network = networks.placed(network, device)
        else:
            network = network.to(device)
        average, half = (copy.deepcopy(network).eval().requires_grad_(False) for _ in range(2))
        uncertainty = Uncertainty().to(device) if settings.uncertainty else None
        learner = recipe.loss_module(network, recipe.model, recipe.bf16, uncertainty)
        if settings.compile:
            self.tell("Compiling the network, and checking its gradients: this takes a minute or more.")
            compiling.compile_checked(network, learner, next(self.batches().parts(0)), self.tell)
        if settings.shard:
            self._bare = copy.deepcopy(average).to("meta")
            learner, average, half = (
                parallel.sharded(module, device, recipe.processes) for module in (learner, average, half)
            )
        elif recipe.processes.count > 1:
            learner = parallel.copied(learner, device)
        trained = [weight for weight in network.parameters() if weight.requires_grad]
        learned = [*trained, *(uncertainty.parameters() if uncertainty is not None else ())]
        optimizer = recipe.optimizer(learned)
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])
        return State(network, average, half, optimizer, uncertainty), learner


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

    @property
    def averages(self) -> Path:
        """The folder of the snapshots that `posthoc` combines."""
        return self.folder / "averages"

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
        processes, means, metrics = self.processes, Means(), Metrics(self.folder / "metrics.jsonl")
        processes.on_first(lambda: self._prepare(state))
        self.resumed = checkpoint.restore(self.folder / "checkpoints", state, self.tell, processes)
        if self.resumed is None:
            processes.on_first(lambda: must_be_new(self.folder))
        processes.on_first(lambda: self._begin(metrics, state))
        part = self.recipe.length.done(state.step, state.seconds)
        saved, saved_step, drawn = time.monotonic(), state.step, sum(part >= each for each in SHEETS)
        measured, validation = drawn, self._validation()
        steps = train(self.recipe, learner, self.batches(), state)
        sheets = Sheets(self.folder / "samples", self.recipe, self.tell, lambda: self._stopped)
        for progress in self._while_data_stay(steps, state, metrics):
            sheets.budget.note(progress.step, progress.seconds - state.drawing)
            if processes.is_first:
                metrics.add(line := means.add(progress))
                log.log(line)
            if self.settings.snapshots and posthoc.due(state.updates):
                self._snap(state)
            grid = place = None
            if self.settings.samples and drawn < len(SHEETS) and progress.done >= SHEETS[drawn]:
                drawn = sum(progress.done >= each for each in SHEETS)
                grid = self._draw(state, metrics, sheets, len(SHEETS) - drawn)
                log.image(progress.step, grid)
            wishes = processes.table(self._stopped, self._due(progress, saved, saved_step))
            over = progress.done >= 1 or bool(wishes[:, 0].any())
            saving, reached = over or (progress.finite and bool(wishes[0, 1])), sum(progress.done >= e for e in SHEETS)
            loss = None
            if validation is not None and progress.finite and (saving or reached > measured):
                measured, loss = reached, processes.on_first(partial(validation, state.average))
                metrics.add({"step": progress.step, "held_out": round(loss, 6)})
            if saving:
                place = self._save(state, metrics, prune=progress.finite)
                saved, saved_step = time.monotonic(), state.step
            yield Event(progress, place, grid, loss)
            if self._stopped and not over and processes.count == 1:  # asked to stop between two steps
                if place is None:
                    self._save(state, metrics, prune=progress.finite)
                return
            if over:
                return

    def _while_data_stay(
        self, steps: Iterator[TrainingProgress], state: State, metrics: Metrics
    ) -> Iterator[TrainingProgress]:
        """The steps; when a file of the data changes, what was learned before that is saved and the run ends.

        Where they diverge, nothing is saved, and the metrics say so.
        """
        try:
            yield from steps
        except Diverged:
            metrics.diverged(state)
            raise
        except Changed as error:
            if self.processes.count > 1:  # none can wait for the others, which wait for it
                raise
            if state.step:
                self._save(state, metrics, prune=False)
            raise Changed(f"training stopped after step {state.step:,}, saved in {self.folder}: {error}") from error

    def _prepare(self, state: State) -> None:
        """Work of the first process before anything is read."""
        for place in (".", *FOLDERS):  # what killed processes left half written
            sweep(self.folder / place)
        self._must_have_room(state)
        if any(checkpoints.checkpoints(self.folder / "checkpoints")):
            must_be_same(self.folder, self._environment().get("own"), self._own(state), self._change)

    def _own(self, state: State) -> dict[str, str]:
        teacher = {"teacher": self.recipe.teacher[:16]} if self.recipe.teacher else {}
        return described(self._objects, state.network, state.optimizer) | teacher

    def _environment(self) -> dict[str, Any]:
        """The contents of env.json; empty if it is lost."""
        try:
            return read_json(self.folder / "env.json", root=self.folder)
        except (OSError, ValueError):
            return {}

    def _begin(self, metrics: Metrics, state: State) -> None:
        """Files that the first process writes before the first step."""
        if self.resumed:  # a kill may have come between a checkpoint and its model, or before older ones were removed
            self._export(self.resumed, state)
            if not state.skipped:  # else the newest may be of a skipped step, and an older one the last good one
                checkpoints.prune(self.folder / "checkpoints", self.settings.keep)
        posthoc.rewind(self.averages, state.updates)
        if self._earlier is not None and state.step:
            history.add(self.folder, state.step, self._earlier, self.settings)
        _write_yaml(self.folder / "config.yaml", {"version": __version__, **self.settings.to_dict()})
        about = {
            "processes": self.processes.count,
            "content_hash": self.dataset.spec.content_hash,
            "own": self._own(state),
        }
        about |= {"lacking": lacking} if (lacking := self.dataset.lacking) else {}
        write_json(self.folder / "env.json", {**environment(), **about})
        metrics.go_on(state.step)

    def _snap(self, state: State) -> None:
        tracked = ((self.settings.ema, state.average), (self.settings.ema / 2, state.half))
        averages = {length: parallel.gather(dict(network.named_parameters())) for length, network in tracked}
        self.processes.on_first(lambda: posthoc.save(self.averages, state.updates, averages, self.settings.snapshots))

    def _due(self, progress: TrainingProgress, saved: float, saved_step: int) -> bool:
        if self.settings.save_every is not None:
            return progress.step - saved_step >= self.settings.save_every
        return time.monotonic() - saved >= 60 * self.settings.save_minutes

    def _must_have_room(self, state: State) -> None:
        """Raises OrnsteinError now, not after an hour, when the disk cannot hold the checkpoints."""
        weights = sum(p.numel() * p.element_size() for p in state.network.parameters())
        there = sum(1 for _ in checkpoints.checkpoints(self.folder / "checkpoints"))
        to_come = max(min(self.settings.keep, 2) - there, 0) + 1  # one more for a moment, before the oldest is removed
        snapshots = max(self.settings.snapshots - len(posthoc.snapshots(self.averages)), 0)
        # a checkpoint is weights, two averages and two moments, a snapshot two averages in half precision; the model, old and new
        needed = (5 * to_come + snapshots + 2) * weights
        free = shutil.disk_usage(self.folder).free
        if free < needed:
            raise OrnsteinError(
                f"{self.folder} has room for {free / 1e6:,.0f} MB and the checkpoints of this network need {needed / 1e6:,.0f}; "
                f"free some space or {OTHER}"
            )

    def _save(self, state: State, metrics: Metrics, prune: bool) -> Path:
        """After a step whose loss was not finite nothing is pruned: an older checkpoint may be the last good one."""
        self.processes.on_first(metrics.flush)
        place = checkpoint.save(self.folder / "checkpoints", state, self.processes)

        def finish() -> None:
            if prune:
                checkpoints.prune(self.folder / "checkpoints", self.settings.keep)
            self._export(place, state)

        self.processes.on_first(finish)
        return place

    def _export(self, place: Path, state: State) -> None:
        """The model that a checkpoint holds, for everyone who samples."""
        average = partial(shutil.copyfile, place / "average.safetensors")
        publish(self.folder, self.model, self.settings, state.step, average)

    def _draw(self, state: State, metrics: Metrics, sheets: Sheets, later: int) -> Path | None:
        """A sample sheet; None where it would take more of the time of the run than sheets may.

        `later` are still to come, the last one in any case.
        """
        trained = state.seconds - state.drawing
        most = self.processes.on_first(
            lambda: sheets.budget.most(state.step, trained, state.drawing, later) if later else math.inf
        )
        if not most:
            return None
        tensors = parallel.gather(state.average.state_dict()) if self.settings.shard else {}

        def draw() -> tuple[Path | None, float]:
            average = state.average
            if tensors:  # the first process holds the whole network for as long as it draws
                average = copy.deepcopy(self._bare)
                average.load_state_dict(tensors, assign=True)
                average = average.to(self.device)
            try:
                place, seconds = sheets.draw(average, state.step, most)
                metrics.flush()  # whoever looks at the sheet may look at the loss
                return place, seconds
            except NotFinite as error:  # ten such steps in a row end the run; a sheet does not
                self.tell(f"No samples after step {state.step:,}: {error}.")
                metrics.diverged(state)
                return None, 0.0

        place, seconds = self.processes.on_first(draw)
        state.drawing += seconds if later else 0.0
        return place


def _write_yaml(file: Path, values: dict[str, Any]) -> None:
    with new_file(file) as new:
        new.write_text(yaml.safe_dump(values, sort_keys=False))
