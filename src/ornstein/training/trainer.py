"""A training run in its folder: settings, metrics, sample grids, checkpoints and the model, around the loop."""

import copy
import json
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import nn

from ornstein import conditions, networks, terminal
from ornstein._version import __version__
from ornstein.data import Dataset, DataSpec, grid_image
from ornstein.data.content import is_of
from ornstein.data.stamps import Changed
from ornstein.device import choose_device
from ornstein.errors import NotFinite, OrnsteinError, UsageError, brief
from ornstein.files.atomic import new_file, write_json, written
from ornstein.files.lock import LOCK, OTHER, hold, is_lock
from ornstein.files.owner import FORM, open_here, sweep
from ornstein.files.reading import read_bytes, read_json
from ornstein.folder import checkpoints, posthoc
from ornstein.folder.config import settings_of
from ornstein.folder.layout import FOLDERS, METRICS_MOST
from ornstein.folder.publish import environment, publish
from ornstein.processes import current
from ornstein.settings import OPEN, Settings
from ornstein.training import checkpoint, compiling, parallel, recipe
from ornstein.training.batch import Batches
from ornstein.training.checkpoint import State
from ornstein.training.loop import Diverged, Progress, done, train
from ornstein.training.loss_module import LossModule, OwnLossModule
from ornstein.training.recipe import NOTHING, Objects
from ornstein.training.sample_sheet import SHARE, SampleSheet, SheetBudget, TooSlow, Watch
from ornstein.training.uncertainty import Uncertainty

GRIDS = [1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0]  # parts of the run after which samples are drawn


@dataclass(frozen=True)
class Event:
    """What happened after a step: its progress, and the files written, if any."""

    progress: Progress
    checkpoint: Path | None = None
    grid: Path | None = None


class Training:
    """A training in memory. Iterate over it for its events; `stop()` ends it after the step at work. Nothing is written.

    `objects` stand in place of names of the settings. Raises UsageError for settings that do not fit each other or the data.
    """

    def __init__(
        self,
        settings: Settings,
        dataset: Dataset,
        tell: Callable[[str], None] = terminal.write,
        objects: Objects = NOTHING,
    ) -> None:
        self.tell, self.objects, self.processes = tell, objects, current()
        self.settings = recipe.complete(settings, dataset.spec, self.processes, objects)
        self.dataset = dataset
        parts = objects.conditions
        if parts is None:
            parts = conditions.of(dataset, recipe.degradation(self.settings, dataset.spec))
        self.model = recipe.model(self.settings, dataset.spec, parts, objects)
        self.objective = recipe.loss(self.settings, self.model, objects)
        self.device = choose_device(settings.device, self.processes)
        self.peak = recipe.learning_rate(self.settings, self.model.network)
        self._stopped = False
        self.resumed: Path | None = None

    @property
    def batch_size(self) -> int:
        """Examples per optimiser step."""
        assert self.settings.batch_size is not None
        return self.settings.batch_size

    def stop(self) -> None:
        """Ends the training after the step at work."""
        self._stopped = True

    def __iter__(self) -> Iterator[Event]:
        with recipe.processor(self.settings, self.device):
            self.state, learner = self.ready()
            for progress in self._steps(learner):
                yield Event(progress)
                if self._stopped:
                    return

    def _steps(self, learner: nn.Module) -> Iterator[Progress]:
        rate = self.objects.schedule
        return train(self.settings, learner, self.batches(), self.state, self.peak, self.processes, rate)

    def batches(self) -> Batches:
        """The batches of this run."""
        model = self.model
        return Batches(
            self.settings, self.dataset, self.objective, self.device, self.processes, model.conditions, model.dtype
        )

    def ready(self) -> tuple[State, nn.Module]:
        """The untrained state, and the module that gives the loss of a part of a batch in this process."""
        network = self.model.network
        if self.settings.channels_last and not self.settings.shard:  # FSDP2 takes contiguous weights alone
            network = networks.placed(network, self.device)
        else:
            network = network.to(self.device)
        average, half = (copy.deepcopy(network).eval().requires_grad_(False) for _ in range(2))
        assert self.settings.precision is not None
        uncertainty = Uncertainty().to(self.device) if self.settings.uncertainty else None
        learner: nn.Module
        if self.objects.objective is not None and not recipe.is_plain(self.objects.objective):
            learner = OwnLossModule(network, self.model, self.objects.objective, self.settings.precision)
        else:
            learner = LossModule(network, self.model, self.objective, self.settings.precision, uncertainty)
        if self.settings.compile:
            self.tell("Compiling the network, and checking its gradients: this takes a minute or more.")
            compiling.compile_checked(network, learner, next(self.batches().parts(0)), self.tell)
        if self.settings.shard:
            self._bare = copy.deepcopy(average).to("meta")
            learner, average, half = (
                parallel.sharded(module, self.device, self.processes) for module in (learner, average, half)
            )
        elif self.processes.count > 1:
            learner = parallel.copied(learner, self.device)
        fused = self.device.type in ("cpu", "cuda", "mps")
        learned = [*network.parameters(), *(uncertainty.parameters() if uncertainty is not None else ())]
        if self.objects.optimizer is not None:
            optimizer = self.objects.optimizer(learned)
            for group in optimizer.param_groups:
                group.setdefault("initial_lr", group["lr"])
        else:
            optimizer = torch.optim.AdamW(
                learned, lr=self.peak, weight_decay=self.settings.weight_decay, betas=(0.9, 0.99), fused=fused
            )
        return State(network, average, half, optimizer, uncertainty), learner


class Run(Training):
    """A run being trained. Iterate over it for its events; `stop()` ends it after the step at work, saved.

        run = Run(Settings(data="digits", out="runs/digits", steps=1000), data.open("digits"))
        for event in run:
            print(event.progress.loss)

    Raises UsageError when the folder holds a run with other settings or other data, OrnsteinError when another process is
    training in it, its checkpoints are all damaged, or the disk refuses.
    """

    def __init__(
        self,
        settings: Settings,
        dataset: Dataset,
        tell: Callable[[str], None] = terminal.write,
        objects: Objects = NOTHING,
    ) -> None:
        if settings.text is not None and (not settings.text or dataset.annotations.encoder != settings.text):
            dataset = conditions.encoded(dataset, settings.text)
        self.folder = run_folder(settings.out)
        before = settings_of(self.folder)
        if before is not None:  # what was left open then was chosen for that machine, and stays
            settings = replace(
                settings, **{key: getattr(before, key) for key in OPEN if getattr(settings, key) is None}
            )
        settings = recipe.complete(settings, dataset.spec, current(), objects)
        check_folder(self.folder, settings, before)
        super().__init__(settings, as_before(self.folder, settings, dataset), tell, objects)

    @property
    def averages(self) -> Path:
        """The folder of the snapshots that `posthoc` combines."""
        return self.folder / "averages"

    def __iter__(self) -> Iterator[Event]:
        with ExitStack() as held:
            self.processes.on_first(lambda: self._hold(held))
            held.enter_context(recipe.processor(self.settings, self.device))
            yield from self._run()

    def _hold(self, held: ExitStack) -> None:
        held.enter_context(hold(self.folder))
        # another process may have trained in it since this one looked
        check_folder(self.folder, self.settings, settings_of(self.folder))
        as_before(self.folder, self.settings, self.dataset)
        with written(self.folder, OTHER):
            (self.folder / "checkpoints").mkdir(exist_ok=True)

    def _run(self) -> Iterator[Event]:
        self.state, learner = state, learner = self.ready()
        processes, metrics = self.processes, Metrics(self.folder / "metrics.jsonl")
        processes.on_first(lambda: self._prepare(state))
        self.resumed = checkpoint.restore(self.folder / "checkpoints", state, self.tell, processes)
        processes.on_first(lambda: self._begin(metrics, state))
        saved, saved_step, drawn = (
            time.monotonic(),
            state.step,
            sum(done(self.settings, state) >= part for part in GRIDS),
        )
        budget = SheetBudget(self.settings.steps, self.settings.minutes)
        for progress in self._while_data_stay(self._steps(learner), state, metrics):
            budget.note(progress.step, progress.seconds - state.drawing)
            if processes.is_first:
                metrics.add(progress)
            if self.settings.snapshots and posthoc.due(state.updates):
                self._snap(state)
            grid = place = None
            if self.settings.samples and drawn < len(GRIDS) and progress.done >= GRIDS[drawn]:
                drawn = sum(progress.done >= part for part in GRIDS)
                grid = self._draw(state, metrics, budget, len(GRIDS) - drawn)
            asked = processes.table(self._stopped, self._due(progress, saved, saved_step))
            over = progress.done >= 1 or bool(asked[:, 0].any())
            if over or (progress.finite and bool(asked[0, 1])):
                place = self._save(state, metrics, prune=progress.finite)
                saved, saved_step = time.monotonic(), state.step
            yield Event(progress, place, grid)
            if self._stopped and not over and processes.count == 1:  # asked to stop between two steps
                if place is None:
                    self._save(state, metrics, prune=progress.finite)
                return
            if over:
                return

    def _while_data_stay(self, steps: Iterator[Progress], state: State, metrics: "Metrics") -> Iterator[Progress]:
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
        """What the first process does before anything is read."""
        _sweep(self.folder)
        self._must_have_room(state)

    def _begin(self, metrics: "Metrics", state: State) -> None:
        """What the first process writes before the first step."""
        if self.resumed:  # a kill may have come between a checkpoint and its model, or before older ones were removed
            self._export(self.resumed, state)
            if not state.skipped:  # else the newest may be of a skipped step, and an older one the last good one
                checkpoints.prune(self.folder / "checkpoints", self.settings.keep)
        posthoc.rewind(self.averages, state.updates)
        _write_yaml(self.folder / "config.yaml", {"version": __version__, **self.settings.to_dict()})
        about = {"processes": self.processes.count, "content_hash": self.dataset.spec.content_hash}
        write_json(self.folder / "env.json", {**environment(), **about})
        metrics.go_on(state.step)

    def _averages(self, state: State) -> posthoc.Averages:
        tracked = ((self.settings.ema, state.average), (self.settings.ema / 2, state.half))
        return {length: parallel.gather(dict(network.named_parameters())) for length, network in tracked}

    def _snap(self, state: State) -> None:
        averages = self._averages(state)
        self.processes.on_first(lambda: posthoc.save(self.averages, state.updates, averages, self.settings.snapshots))

    def _due(self, progress: Progress, saved: float, saved_step: int) -> bool:
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

    def _save(self, state: State, metrics: "Metrics", prune: bool) -> Path:
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

    def _draw(self, state: State, metrics: "Metrics", budget: SheetBudget, later: int) -> Path | None:
        """The sample grid: always the same seeds and conditions, so that grids of different steps can be compared.

        None where it would take more of the time of the run than grids may; `later` are still to come, the last one in any case.
        """
        trained = state.seconds - state.drawing
        most = self.processes.on_first(
            lambda: budget.most(state.step, trained, state.drawing, later) if later else math.inf
        )
        if not most:
            return None
        tensors = parallel.gather(state.average.state_dict()) if self.settings.shard else {}

        def draw() -> tuple[Path | None, float]:
            average: nn.Module = state.average
            if tensors:
                average = copy.deepcopy(self._bare)  # the first process holds the whole network for as long as it draws
                average.load_state_dict(tensors, assign=True)
                average = average.to(self.device)
            try:
                return self._drawn(average, state.step, metrics, budget, most)
            except NotFinite as error:  # ten such steps in a row end the run; a grid does not
                self.tell(f"No samples after step {state.step:,}: {error}.")
                metrics.diverged(state)
                return None, 0.0

        place, seconds = self.processes.on_first(draw)
        state.drawing += seconds if later else 0.0
        return place

    def _drawn(
        self, average: nn.Module, step: int, metrics: "Metrics", budget: SheetBudget, most: float
    ) -> tuple[Path | None, float]:
        """The file of a grid, if it came to its end, and the seconds that it took."""
        grid = SampleSheet.of(self.model.conditions, self.dataset, self.settings.samples)
        watch = Watch(grid.count, most)

        def stop_here(*_: object) -> None:
            if self._stopped:  # a run that is to stop saves at once
                raise _Stopped

        hooks = [average.register_forward_pre_hook(hook) for hook in (stop_here, watch)]
        try:
            arrays = np.concatenate(list(self.model.sample(grid.count, told=grid.told, network=average)))
            if not np.isfinite(arrays).all():
                raise NotFinite("they hold NaN or infinite numbers")
        except _Stopped:
            return None, watch.seconds
        except TooSlow as slow:
            if budget.cost is None:
                self.tell(
                    f"A sample grid takes about {slow.seconds:.2g} s: some of the early ones are left out, so that they take "
                    f"{100 * SHARE:g} % of the time at most."
                )
            budget.cost = slow.seconds
            return None, watch.seconds
        finally:
            for hook in hooks:
                hook.remove()
        place = self._write_grid(grid, arrays, step)
        metrics.flush()  # whoever looks at the grid may look at the loss
        budget.cost = watch.seconds
        return place, watch.seconds

    def _write_grid(self, grid: SampleSheet, arrays: np.ndarray[Any, Any], step: int) -> Path:
        place = self.folder / "samples" / f"step-{step:08d}.png"
        if self.model.spec.kind == "vector":
            place = place.with_suffix(".npz")
            with new_file(place) as file, file.open("wb") as stream:
                np.savez_compressed(stream, samples=arrays)
            return place
        with new_file(place) as file:
            grid_image(grid.laid(arrays), grid.columns, spec=self.model.spec).save(file)
        return place


class _Stopped(Exception):
    """The run is to stop while its samples are being drawn."""


class Metrics:
    """metrics.jsonl: one line per step at first, then per 10 and per 100, each the mean of the finite steps since the line
    before; no line where there were none."""

    def __init__(self, file: Path) -> None:
        self._file, self._waiting, self._sums, self._count = file, "", np.zeros(2), 0

    def go_on(self, step: int) -> None:
        """Removes the lines of steps after the checkpoint that the run goes on from."""
        file = self._file
        try:
            lines = read_bytes(file, METRICS_MOST, file.parent).decode("utf-8", "replace").splitlines()
        except FileNotFoundError:
            lines = []
        except (OSError, ValueError) as error:
            raise OrnsteinError(f"{file} cannot be gone on with ({error}); remove it") from error
        kept = [line for line in lines if _step_of(line) <= step]
        if len(kept) < len(lines):
            with new_file(file) as new:
                new.write_text("".join(line + "\n" for line in kept))

    def add(self, progress: Progress) -> None:
        interval = 1 if progress.step <= 100 else 10 if progress.step <= 10_000 else 100
        if progress.finite:
            self._sums += progress.loss, progress.gradient
            self._count += 1
        if progress.step % interval or not self._count:
            return
        loss, gradient = self._sums / self._count
        line = {
            "step": progress.step,
            "loss": round(float(loss), 6),
            "gradient": round(float(gradient), 6),
            "rate": progress.rate,
            "seconds": round(progress.seconds, 3),
            "images": progress.images,
            "skipped": progress.skipped,
        }
        self._waiting += json.dumps(line) + "\n"
        self._sums, self._count = np.zeros(2), 0

    def diverged(self, state: State) -> None:
        """A line without a loss, which tells if it is the last one; a run that goes on from the checkpoint before removes it."""
        line = {"step": state.step, "seconds": round(state.seconds, 3), "skipped": state.skipped, "diverged": True}
        self._waiting += json.dumps(line) + "\n"
        self.flush()

    def flush(self) -> None:
        with written(self._file, OTHER):
            handle = open_here(self._file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            with open(handle, "a") as stream:
                stream.write(self._waiting)
        self._waiting = ""


def run_folder(out: str) -> Path:
    """The folder of a run. Raises UsageError for a name that no folder can have, or that has another use."""
    folder = Path(out)
    if "\0" in out:
        raise UsageError("out: a name cannot hold a NUL; give another folder")
    try:
        if folder.exists() and not folder.is_dir():
            raise UsageError(f"out: {folder} is a file; give a folder")
        if folder.is_dir():
            next(folder.iterdir(), None)
    except OSError as error:
        raise UsageError(f"out: {brief(out)} cannot be used ({error.strerror}); give another folder") from error
    return folder


def check_folder(folder: Path, settings: Settings, before: Settings | None) -> None:
    """Raises UsageError, with the differences, when the folder holds a run of other settings."""
    for name in FOLDERS:
        if (folder / name).is_symlink():
            raise UsageError(
                f"{folder / name} is a link, and links in a run are not followed; put the folder itself there, or give another "
                "--out"
            )
    if before is None:
        strange = next((place for place in folder.iterdir() if not _is_begun(place)), None) if folder.exists() else None
        if strange is None:
            return
        before = settings_of(folder)  # another process may have begun a run since this one looked
        if before is None:
            raise UsageError(
                f"out: {folder} is not empty and holds no run ({strange.name} is none of one); give a new folder"
            )
    differences = settings.differences(before)
    if differences:
        raise UsageError(
            f"{folder} was trained with other settings ({'; '.join(differences)}): repeat them to go on, or give another --out"
        )


def as_before(folder: Path, settings: Settings, dataset: Dataset) -> Dataset:
    """The data in the units that the run in the folder was trained in, whatever another machine would measure today.

    Raises UsageError when they are other data, OrnsteinError for a description that cannot be read.
    """
    known = _known_data(folder)
    if known is None:
        return dataset
    spec = dataset.spec
    if isinstance(known, str):
        same = is_of(dataset, known)
    else:
        same = is_of(dataset, known.content_hash) and _is_like(known, spec)
    if not same:
        said = known if isinstance(known, str) else known.content_hash
        raise UsageError(
            f"{folder} was trained on other data ({said}, now {spec.content_hash} in {settings.data}): "
            "bring the same data to go on, or give another --out"
        )
    if isinstance(known, str):
        return dataset
    return replace(dataset, spec=replace(known, content_hash=spec.content_hash))


def _known_data(folder: Path) -> DataSpec | str | None:
    """What a run was trained on, or its hash alone where no model was written yet; None where nothing was learned."""
    file = folder / "model" / "config.json"
    try:
        if os.path.lexists(file):
            return DataSpec.from_json(read_json(file, root=folder)["data"])
        if not any(checkpoints.checkpoints(folder / "checkpoints")):
            return None
        file = folder / "env.json"
        known = read_json(file, root=folder).get("content_hash") if os.path.lexists(file) else None
        return None if known is None else str(known)
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise OrnsteinError(f"{file} cannot be read ({error}); remove it: going on writes it anew") from error


def _is_like(one: DataSpec, other: DataSpec) -> bool:
    """Whether data are described alike, up to the rounding of what was measured."""
    exact = [
        (spec.kind, spec.shape, spec.dtype, spec.classes, spec.count, spec.low, spec.high) for spec in (one, other)
    ]
    measured = [(*spec.mean, *spec.std, spec.data_std) for spec in (one, other)]
    near = 1e-12 * max(1.0, abs(one.high))
    return exact[0] == exact[1] and np.allclose(measured[0], measured[1], rtol=1e-6, atol=near)


def _is_begun(place: Path) -> bool:
    """Whether a file or folder is what a run has made before its settings were written, when it may have been killed."""
    if place.name == LOCK:
        begun = is_lock(place)
    elif FORM.fullmatch(place.name):
        begun = place.is_dir()
    else:
        begun = place.name == "checkpoints" and place.is_dir() and not place.is_symlink() and not any(place.iterdir())
    return begun or not os.path.lexists(place)  # another process removes its lock and its temporary folders


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError, RecursionError, OverflowError):  # a line cut short by a kill
        return float("inf")


def _sweep(folder: Path) -> None:
    """What killed processes left half written, where only the one that holds the folder writes."""
    for place in (".", *FOLDERS):
        sweep(folder / place)


def _write_yaml(file: Path, values: dict[str, Any]) -> None:
    with new_file(file) as new:
        new.write_text(yaml.safe_dump(values, sort_keys=False))
