"""The files of a training in its run folder: settings, machine, snapshots of averages, checkpoints, and the model."""

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from ornstein._version import __version__
from ornstein.errors import OrnsteinError
from ornstein.files.atomic import new_file, write_json
from ornstein.files.lock import OTHER
from ornstein.files.owner import sweep
from ornstein.files.reading import read_json
from ornstein.folder import checkpoints, history, posthoc
from ornstein.folder.layout import FOLDERS
from ornstein.folder.publish import environment, publish
from ornstein.settings import Settings
from ornstein.training import checkpoint, parallel
from ornstein.training.checkpoint import State
from ornstein.training.choosing import Objects
from ornstein.training.continuing import must_be_new
from ornstein.training.metrics import Metrics
from ornstein.training.own import described, must_be_same
from ornstein.training.recipe import Recipe


class RunFiles:
    """What a training reads and writes in `folder`. All processes call each method; the first one writes."""

    def __init__(self, folder: Path, recipe: Recipe, objects: Objects, earlier: Settings | None, change: bool) -> None:
        self.folder, self._recipe, self._objects, self._earlier, self._change = folder, recipe, objects, earlier, change
        self.averages = folder / "averages"
        self.metrics = Metrics(folder / "metrics.jsonl")

    def begin(self, state: State, tell: Callable[[str], None]) -> Path | None:
        """The state of the newest checkpoint, and its place if there is one; then the files of before the first step.

        Raises UsageError for a run of other objects, OrnsteinError for one that cannot go on, or a disk without room.
        """
        processes = self._recipe.processes
        processes.on_first(lambda: self._prepare(state))
        resumed = checkpoint.restore(self.folder / "checkpoints", state, tell, processes)
        if resumed is None:
            processes.on_first(lambda: must_be_new(self.folder))
        processes.on_first(lambda: self._begin(state, resumed))
        return resumed

    def snap(self, state: State) -> None:
        """A snapshot of the averages."""
        settings = self._recipe.settings
        tracked = ((settings.ema, state.average), (settings.ema / 2, state.half))
        averages = {length: parallel.gather(dict(network.named_parameters())) for length, network in tracked}
        self._recipe.processes.on_first(
            lambda: posthoc.save(self.averages, state.updates, averages, settings.snapshots)
        )

    def save(self, state: State, prune: bool) -> Path:
        """A checkpoint with its model and metrics, and without `prune` all before it."""
        processes = self._recipe.processes
        processes.on_first(self.metrics.flush)
        place = checkpoint.save(self.folder / "checkpoints", state, processes)

        def finish() -> None:
            if prune:
                checkpoints.prune(self.folder / "checkpoints", self._recipe.settings.keep)
            self._export(place, state)

        processes.on_first(finish)
        return place

    def _prepare(self, state: State) -> None:
        """Work of the first process before anything is read."""
        for place in (".", *FOLDERS):  # what killed processes left half written
            sweep(self.folder / place)
        self._must_have_room(state)
        if any(checkpoints.checkpoints(self.folder / "checkpoints")):
            must_be_same(self.folder, self._environment().get("own"), self._own(state), self._change)

    def _begin(self, state: State, resumed: Path | None) -> None:
        """Files that the first process writes before the first step."""
        settings, dataset = self._recipe.settings, self._recipe.dataset
        if resumed:  # a kill may have come between a checkpoint and its model, or before older ones were removed
            self._export(resumed, state)
            if not state.skipped:  # else the newest may be of a skipped step, and an older one the last good one
                checkpoints.prune(self.folder / "checkpoints", settings.keep)
        posthoc.rewind(self.averages, state.updates)
        if self._earlier is not None and state.step:
            history.add(self.folder, state.step, self._earlier, settings)
        with new_file(self.folder / "config.yaml") as new:
            new.write_text(yaml.safe_dump({"version": __version__, **settings.to_dict()}, sort_keys=False))
        about = {
            "processes": self._recipe.processes.count,
            "content_hash": dataset.spec.content_hash,
            "own": self._own(state),
        }
        about |= {"lacking": lacking} if (lacking := dataset.lacking) else {}
        write_json(self.folder / "env.json", {**environment(), **about})
        self.metrics.go_on(state.step)

    def _own(self, state: State) -> dict[str, str]:
        teacher = {"teacher": self._recipe.teacher[:16]} if self._recipe.teacher else {}
        return described(self._objects, state.network, state.optimizer) | teacher

    def _environment(self) -> dict[str, Any]:
        """The contents of env.json; empty if it is lost."""
        try:
            return read_json(self.folder / "env.json", root=self.folder)
        except (OSError, ValueError):
            return {}

    def _must_have_room(self, state: State) -> None:
        """Raises OrnsteinError now, not after an hour, when the disk cannot hold the checkpoints."""
        settings = self._recipe.settings
        weights = sum(p.numel() * p.element_size() for p in state.network.parameters())
        there = sum(1 for _ in checkpoints.checkpoints(self.folder / "checkpoints"))
        to_come = max(min(settings.keep, 2) - there, 0) + 1  # one more for a moment, before the oldest is removed
        snapshots = max(settings.snapshots - len(posthoc.snapshots(self.averages)), 0)
        # a checkpoint is weights, two averages and two moments, a snapshot two averages in half precision; the model, old and new
        needed = (5 * to_come + snapshots + 2) * weights
        free = shutil.disk_usage(self.folder).free
        if free < needed:
            raise OrnsteinError(
                f"{self.folder} has room for {free / 1e6:,.0f} MB and the checkpoints of this network need {needed / 1e6:,.0f}; "
                f"free some space or {OTHER}"
            )

    def _export(self, place: Path, state: State) -> None:
        """The model that a checkpoint holds, for everyone who samples."""
        average = partial(shutil.copyfile, place / "average.safetensors")
        publish(self.folder, self._recipe.model, self._recipe.settings, state.step, average)
