"""A trained run in two lines: `run = ornstein.load("RUN")`, `images = run.sample(64, label=3)`."""

import json
import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from hashlib import file_digest, sha256
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ornstein import conditions
from ornstein.compiling import compile_for_sampling
from ornstein.conditions import Condition, Rows
from ornstein.data import Dataset, DataSpec
from ornstein.denoiser import Denoiser, NetworkDenoiser
from ornstein.errors import OrnsteinError, UsageError
from ornstein.files.atomic import new_file, new_folder
from ornstein.files.lock import hold
from ornstein.files.owner import sweep
from ornstein.files.reading import read_bytes, read_json, read_lines
from ornstein.folder import checkpoints, config, posthoc
from ornstein.folder.config import settings_of
from ornstein.folder.layout import METRICS_MOST, must_be_run
from ornstein.folder.posthoc import Archive
from ornstein.folder.publish import publish
from ornstein.folder.tensors import save_tensors
from ornstein.guidance import PLAIN, Guidance, GuidanceConfig, NegativeLabel, WeakModel, unconditional
from ornstein.likelihood import Measured, Method, Units, Variational, fit_dequantisation
from ornstein.likelihood.methods import level
from ornstein.model import Model, hashed, read
from ornstein.model import weights as load_weights
from ornstein.networks import placed
from ornstein.noise import PerSampleNoise
from ornstein.settings import Settings
from ornstein.solvers import Solver
from ornstein.tuning import Effort, Progress, Tuned, effort, fit

Label = int | str | Sequence[Any]


@dataclass(frozen=True, eq=False)
class ConditionBatch:
    """Conditions that are rows already, such as those of data (`Conditions.items`): a `condition` for `Run.sample`."""

    rows: Rows

    def part(self, first: int, last: int) -> "ConditionBatch":
        """Those of samples first..last−1."""
        return ConditionBatch(tuple(row[first:last] for row in self.rows))

    @property
    def digest(self) -> str:
        """The hash of the conditions' values, 16 hex digits."""
        return sha256(b"".join(row.contiguous().numpy().tobytes() for row in self.rows)).hexdigest()[:16]


@dataclass(frozen=True, eq=False)
class Run:
    """A run folder and the model in it."""

    folder: Path
    model: Model
    weights_hash: str
    """The sha256 of the file that the weights in memory were read from: what everything made with them belongs to."""

    @property
    def spec(self) -> DataSpec:
        """What the data are."""
        return self.model.spec

    @property
    def denoiser(self) -> NetworkDenoiser:
        """For everything that takes a denoiser; `.given(labels)` binds a condition."""
        return self.model.denoiser()

    @property
    def settings(self) -> dict[str, Any]:
        """The settings in config.yaml by name. Raises OrnsteinError where there are none, or they cannot be read."""
        found = config.of_run(self.folder)
        if found is None:
            raise OrnsteinError(f"{self.folder / 'config.yaml'} is missing; bring back the one of the training")
        return Settings(**found).to_dict()

    def metrics(self) -> list[dict[str, float]]:
        """The lines of metrics.jsonl, without a last one that a kill cut short."""
        return read_lines(self.folder / "metrics.jsonl", ("step", "loss"), self.folder)

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.model.network.parameters()).device

    def to(self, device: str | torch.device) -> "Run":
        """The same run with its network moved to a device."""
        if self.model.is_own:
            self.model.network.to(device)
        else:
            placed(self.model.network, device)
        return self

    def is_outdated(self) -> bool:
        """Whether the folder has other weights by now than those in memory, or none."""
        try:
            with (self.folder / "model" / "model.safetensors").open("rb") as file:
                return file_digest(file, "sha256").hexdigest() != self.weights_hash
        except OSError:
            return True

    def tune(
        self,
        steps: int = 6,
        *,
        label: int | str | None = None,
        guide: Guidance = PLAIN,
        seconds: float = 60.0,
        starts: int = 768,
        teacher: int = 100,
        seed: int = 0,
        tell: Callable[[Effort], None] | None = None,
        progress: Callable[[Progress], None] | None = None,
        stop: Callable[[], bool] | None = None,
        save: Callable[[str, dict[str, Any]], object] | None = None,
    ) -> Tuned:
        """Fit a solver of so many network calls to this model (`tuning.fit`) and save it for `tuned`.

        With classes, each start has one, drawn as often as it occurs in the data, or the `label`; the model is asked for it by
        `guide`. There are as many starts, up to `starts`, as the time allows (`tuning.effort`), which `tell` is told. A file for
        each number of steps, label and guidance in RUN/tuned holds the table, its errors on held-out starts, the sha256 of the
        weights, and all that is needed to repeat the fit; or its name and content go to `save`.
        Raises UsageError for guidance that the run has not the means for, or that has no name to be kept under; OrnsteinError for
        a model of numbers that are not finite, where another process tunes this run, and when the disk refuses.
        """
        guide = self.indexed_guide(guide)
        file, asked = self._tuned_place(steps, label, guide)
        shape = self.spec.shape
        device = self.device
        most = 2 * max(starts, 32)  # with those held out; the cost of a call is measured on 32
        labels = self.model.labels(0, most, seed) if label is None else self.label_ids(label, most)
        labels = None if labels is None else labels.to(device)

        def given(rows: Tensor) -> Denoiser:
            return guide(self.denoiser, None if labels is None else labels[rows.to(device)])

        denoiser = given(torch.arange(32))
        with hold(file.parent, "tuned") if save is None else nullcontext():
            chosen = effort(denoiser, shape, steps, seconds, starts=starts, teacher=teacher, device=device)
            if tell is not None:
                tell(chosen)
            found = fit(
                denoiser,
                shape,
                steps,
                bind=given,
                **chosen._asdict(),
                seconds=seconds,
                teacher=teacher,
                seed=seed,
                model=self.weights_hash,
                device=device,
                progress=progress,
                stop=stop,
            )
            made = {"seconds": seconds, "teacher": teacher, "seed": seed, "device": device.type, **chosen._asdict()}
            (save or partial(_save_json, file.parent))(file.name, {**found.to_dict(), "asked": asked, "made": made})
        return found

    def tuned(
        self,
        steps: int,
        *,
        label: Label | None = None,
        guide: Guidance = PLAIN,
        file: str | Path | None = None,
        command: str | None = None,
    ) -> Tuned:
        """The solver of so many steps that `tune` (or `ornstein tune`) saved for this label or for all, and this guidance.

        `file` is one of another place (`ornstein tune --out`), which is used for any label and guidance.
        Raises UsageError where there is none or the model has changed since, OrnsteinError for a file that is damaged; both say
        with which `command` it is made.
        """
        command = command or f"`ornstein tune {self.folder} --steps {steps}`"
        if file is not None:
            return self._tuned_in(Path(file), steps, None, command)
        own, asked = self._tuned_place(steps, label if isinstance(label, (int, str)) else None, guide)
        if not os.path.lexists(own):
            own, asked = self._tuned_place(steps, None, guide)
        if not os.path.lexists(own):
            guided = "" if asked["guidance"] == str(PLAIN) else f" with {guide}"
            raise UsageError(
                f"{own} is missing: no solver of {steps} steps is tuned{guided} yet; make it with {command}"
            )
        return self._tuned_in(own, steps, asked, command)

    def _tuned_in(self, file: Path, steps: int, asked: dict[str, Any] | None, command: str) -> Tuned:
        """The solver in a file, which must be for so many steps and what was asked, unless that is None."""
        try:
            data = read_json(file, root=None if asked is None else self.folder)  # links in a run are not followed
            found = Tuned.from_dict(data, self.model.path)
            if found.fitted.calls != steps:
                raise ValueError(f"it holds {found.fitted.calls} steps")
            kept = data.get("asked", {"label": None, "guidance": str(PLAIN)})
            if asked is not None and kept != asked:
                raise ValueError(f"it was tuned for label {kept['label']} with {kept['guidance']}")
        except FileNotFoundError:
            raise UsageError(f"{file} is missing; make it with {command}") from None
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, OverflowError) as error:
            raise OrnsteinError(
                f"{file} cannot be read ({type(error).__name__}: {error}); make it anew with {command}"
            ) from error
        if found.model != self.weights_hash:
            raise UsageError(
                f"{file} was tuned for other weights than {self.folder} has now; tune again with {command}"
            )
        return found

    @property
    def averages(self) -> Archive:
        """The averages of the weights that the training kept: `.error(length)`, `.reach()`, `.average(length)`.

        Raises OrnsteinError where no checkpoint is whole.
        """
        names = [name for name, _ in self.model.network.named_parameters()]
        for place in checkpoints.checkpoints(self.folder / "checkpoints"):
            if checkpoints.damage(place) is None:
                length = float(self.settings["ema"])
                files = {length: "average", length / 2: "half"}
                tensors = {
                    own: load_weights(place / f"{name}.safetensors", self.model.network, self.folder)
                    for own, name in files.items()
                }
                last = {own: {name: found[name] for name in names} for own, found in tensors.items()}
                return Archive(last, checkpoints.counters(place).updates, self.folder / "averages")
        raise OrnsteinError(
            f"{self.folder / 'checkpoints'} holds no whole checkpoint; resume the training to write one"
        )

    def ema(self, length: float, out: str | Path | None = None) -> "Run":
        """The run with its weights averaged over another length, relative to the training (`folder.posthoc`).

        They become the model of this run, until it is trained on or asked for another length; or of the new folder `out`, which
        appears whole or not at all, and may hold that very model already.
        Raises UsageError for a length beyond the reach of the snapshots, or an `out` that is not empty; OrnsteinError when
        the run is being trained, or the disk refuses.
        """
        device = self.device
        if out is None:
            with hold(self.folder, "averaged"):
                settings, archive, state = self._averaged(length)
                publish(self.folder, self.model, settings, archive.updates, partial(save_tensors, state))
            return self._reread(self.folder).to(device)
        folder = Path(out)
        settings, archive, state = self._averaged(length)
        if folder.exists() and not folder.is_dir():
            raise UsageError(f"out: {folder} is a file; give a new folder")
        if folder.is_dir() and any(folder.iterdir()):
            return self._there(folder, state).to(device)
        with new_folder(folder, replace=False) as new:
            for name in ("config.yaml", "metrics.jsonl"):
                try:
                    (new / name).write_bytes(read_bytes(self.folder / name, METRICS_MOST, self.folder))
                except FileNotFoundError:
                    continue
                except ValueError as error:
                    raise OrnsteinError(f"{self.folder / name} cannot be read ({error}); take it away") from error
            publish(folder, self.model, settings, archive.updates, partial(save_tensors, state), into=new)
        return self._reread(folder).to(device)

    def _reread(self, folder: Path) -> "Run":
        """The run in a folder, of a network and conditions like these."""
        if not self.model.is_own:
            return load(folder)
        return load(folder, network=deepcopy(self.model.network), conditions=self.model.conditions.parts)

    def _averaged(self, length: float) -> tuple[Settings, Archive, dict[str, Tensor]]:
        """The settings of the run with this length, its averages, and the network's state with that one."""
        settings = Settings(**self.settings)
        archive = self.averages
        try:
            average = archive.average(length)
        except ValueError as error:
            raise UsageError(f"length: {error}") from error
        # buffers are the same in all averages
        return replace(settings, ema=length), archive, {**self.model.network.state_dict(), **average}

    def _there(self, folder: Path, state: dict[str, Tensor]) -> "Run":
        """The run in a folder that this model was written to before. Raises UsageError for any other folder."""
        other = UsageError(f"out: {folder} is not empty; give a new folder")
        try:
            found = self._reread(folder)
        except OrnsteinError:
            raise other from None
        theirs = found.model.network.state_dict()
        same = theirs.keys() == state.keys() and all(torch.equal(theirs[key], state[key].cpu()) for key in theirs)
        if not same or found.model.config() != self.model.config():
            raise other
        sweep(folder.parent)  # that process may have been killed just afterwards
        return found

    def compile(self, guide: Guidance = PLAIN, batch_size: int | None = None) -> str | None:
        """Compile the network by torch.compile for sampling, which takes a minute; None, or why it is as it was.

        It stays as it was where nothing can be compiled, or where that would change its answers, which are compared once.
        """
        rows, guide = batch_size or self.model.batch_size, self.indexed_guide(guide)
        labels = self.model.labels(0, rows, 0)
        asked = guide(self.denoiser, None if labels is None else labels.to(self.device))
        return compile_for_sampling(self.model.network, asked, (rows, *self.spec.shape))

    def earlier(self, place: str | Path) -> "Run":
        """The same run with the weights of an earlier time: a snapshot (RUN/averages/update-N.safetensors) or a checkpoint.

        In memory alone: such as a weaker model for `guidance.WeakModel`. Raises UsageError for a place that holds none, or those
        of another network, OrnsteinError that names a file which is damaged.
        """
        place, network = Path(place), deepcopy(self.model.network)
        if (place / "average.safetensors").is_file():
            found, digest = hashed(
                place / "average.safetensors", lambda file: load_weights(file, network, place), place
            )
        elif place.is_file() and posthoc.NAME.fullmatch(place.name):
            found, digest = hashed(place, lambda file: dict(next(iter(posthoc.read(file).values()))))
        else:
            raise UsageError(f"{place} is no snapshot in {self.folder / 'averages'} and no checkpoint")
        try:
            network.load_state_dict({**network.state_dict(), **found})
        except RuntimeError as error:
            raise UsageError(f"{place} holds the weights of another network than that of {self.folder}") from error
        return replace(self, model=replace(self.model, network=network), weights_hash=digest)

    def likelihood(
        self,
        dataset: Dataset,
        indices: NDArray[np.int64],
        method: Method,
        *,
        seed: int = 0,
        unconditional: bool = False,
        checked: int = 8,
        batch_size: int | None = None,
    ) -> Iterator[Measured]:
        """−log p in nats of those items, batch by batch: probabilities of whole numbers, else densities in the data's units.

        Of a run with conditions, given each item's own (its label, for one), unless `unconditional`. Item i of `indices` is
        measured with seed and i alone; the solver's error is measured on the first `checked`. `likelihood.summarise` gives the
        mean with its error.
        Raises UsageError where the data do not fit the model.
        """
        items, units = self._measurable(dataset, unconditional)

        def measured(start: int, stop: int) -> Measured:
            denoiser, x = items(indices[start:stop])
            return method(denoiser, x, units, PerSampleNoise(seed, start), stop <= checked)

        size = batch_size or max(1, min(256, 2**17 // math.prod(self.spec.shape)))
        checked = min(checked, size, len(indices))
        edges = [0, *range(checked, len(indices), size), len(indices)]
        return (measured(start, stop) for start, stop in pairwise(edges) if stop > start)

    def dequantisation(
        self,
        dataset: Dataset,
        steps: int = 300,
        *,
        seed: int = 0,
        unconditional: bool = False,
        batch_size: int = 32,
        progress: Callable[[int, int], None] | None = None,
    ) -> Variational:
        """Noise within the bins of whole numbers that is fitted to this model (`likelihood.fit_dequantisation`), for its `ODE`.

        `dataset` gives the items to fit to: the training data, not those to be measured. Raises UsageError where the data do not
        fit the model, or are no whole numbers.
        """
        items, units = self._measurable(dataset, unconditional)
        if units.width is None:
            raise UsageError(
                f"{self.folder} was trained on {self.spec.dtype}, no whole numbers: there is nothing to dequantise"
            )
        rng = np.random.default_rng(seed)
        batches = (items(np.sort(rng.integers(len(dataset), size=batch_size))) for _ in range(steps))
        ratio = level(self.denoiser, units, 0.0)
        return fit_dequantisation(batches, units.width, ratio, steps, seed=seed, progress=progress)

    def _measurable(
        self, dataset: Dataset, unconditional: bool
    ) -> tuple[Callable[[NDArray[np.int64]], tuple[NetworkDenoiser, Tensor]], Units]:
        """Items of the data, by place, in model units with the denoiser that is told what they are; and what these units are."""
        mine, theirs, where = self.spec, dataset.spec, dataset.spec.source
        if (theirs.kind, theirs.shape) != (mine.kind, mine.shape):
            raise UsageError(
                f"{where} holds {theirs.kind}s of shape {theirs.shape}, but {self.folder} was trained on {mine.kind}s of "
                f"shape {mine.shape}; give data of that shape"
            )
        if (theirs.dtype != mine.dtype) or (
            mine.kind == "image" and (theirs.low, theirs.high) != (mine.low, mine.high)
        ):
            raise UsageError(
                f"{where} holds {theirs.dtype} from {theirs.low:g} to {theirs.high:g}, but {self.folder} was trained on "
                f"{mine.dtype} from {mine.low:g} to {mine.high:g}; give data in the same units"
            )
        told = self.model.conditions
        conditional = bool(told) and not unconditional
        if conditional:
            told.must_fit(dataset, self.folder)
        if told and unconditional and not self.unconditional:
            raise UsageError(
                f"{self.folder} was trained with label_dropout 0, so there is no unconditional model in it; leave "
                "--unconditional out"
            )
        dataset = dataset.in_units_of(mine)
        width, device, dtype = mine.level_width, self.device, self.model.dtype
        bounds = (-1.0, 1.0) if mine.kind == "image" else (-math.inf, math.inf)
        units = Units(None if width is None else torch.as_tensor(width, device=device), mine.log_volume, *bounds)
        # torch takes derivatives along many vectors at once in this layout alone
        network = deepcopy(self.model.network).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        denoiser = self.model.denoiser(network)

        def items(indices: NDArray[np.int64]) -> tuple[NetworkDenoiser, Tensor]:
            x, _ = dataset.batch(indices)
            if not conditional:
                return denoiser, x.to(device, dtype)
            given = told.network_input(told.of_items(dataset, indices))
            return denoiser.given(conditions.to(given, device, dtype)), x.to(device, dtype)

        return items, units

    @property
    def unconditional(self) -> bool:
        """Whether the model can also be told nothing: without conditions, or where training left some out."""
        settings = settings_of(self.folder)
        return not self.model.conditions or settings is None or settings.label_dropout > 0

    def indexed_guide(self, guide: Guidance) -> Guidance:
        """The guidance with the index of the class that a `NegativeLabel` names. Raises UsageError as `check_guide` does."""
        self.check_guide(guide)
        if not isinstance(guide, GuidanceConfig) or guide.plain or not isinstance(guide.negative, NegativeLabel):
            return guide
        if guide.negative.index is not None:
            return guide
        return replace(guide, negative=replace(guide.negative, index=int(self.label_ids(guide.negative.label, 1))))

    def check_guide(self, guide: Guidance) -> None:
        """Raises UsageError for a `GuidanceConfig` that the run has not the means for."""
        if not isinstance(guide, GuidanceConfig) or guide.plain or isinstance(guide.negative, WeakModel):
            return
        if not self.model.conditions:
            raise UsageError(
                f"guidance: {self.folder} was trained without classes or other conditions, so there is nothing to guide it "
                "towards; leave guidance out, or guide it away from a weaker model"
            )
        told = self.model.conditions
        if isinstance(guide.negative, NegativeLabel) and (told.label is None or len(told.parts) > 1):
            raise UsageError(
                f"guidance: {self.folder} was trained to be told other things than a class, and is guided away from nothing or "
                "from a weaker model; leave the other label out"
            )
        if guide.negative is unconditional and not self.unconditional:
            raise UsageError(
                f"guidance: {self.folder} was trained with label_dropout 0, so there is no unconditional model in it to guide "
                "away from; train with label dropout, or guide away from another label or a weaker model"
            )

    def _tuned_place(self, steps: int, label: int | str | None, guide: Guidance) -> tuple[Path, dict[str, Any]]:
        """The file of a tuned solver, and what it says that it is for. Raises UsageError for guidance without a name."""
        if not (isinstance(guide, GuidanceConfig) and guide.named):
            raise UsageError(
                f"guidance: {guide} has no name that a tuned solver could be kept under; give a "
                "guidance.GuidanceConfig whose scale is a number, or use tuning.fit"
            )
        number = None if label is None else int(self.label_ids(label, 1))
        of_label = [] if number is None else [f"label-{number}"]
        words = [f"steps-{steps}", *of_label, *([] if guide.plain else [guide.slug])]
        return self.folder / "tuned" / f"{'-'.join(words)}.json", {"label": number, "guidance": str(guide)}

    def batches(
        self,
        count: int,
        *,
        label: Label | None = None,
        label_index: int | Sequence[int] | None = None,
        condition: Any = None,
        guide: Guidance = PLAIN,
        solver: Solver | str | None = None,
        steps: int = 20,
        seed: int = 0,
        first: int = 0,
        batch_size: int | None = None,
    ) -> Iterator[NDArray[Any]]:
        """`count` samples in the data's own type and range, batch by batch: images (N, H, W, C), vectors (N, D).

        `label` is a class of the data by number or name (3 is the class "3", whatever its place), or one for each sample;
        `label_index` the same by its place among the classes. Without both, classes are drawn as often as they occur in the
        data. `guide` is guidance, such as `guidance.GuidanceConfig(2.0)`; any function from the model's denoiser and the classes
        (B,) of a batch, or None, to another denoiser will do. Sample i depends on (seed, first + i) alone.
        Where memory is short for a batch, it and those after it are made in halves, with a warning. Raises UsageError for a
        label that does not exist, and guidance that the run has not the means for.
        """
        if count < 1:
            raise UsageError(f"count = {count}: ask for at least one sample")
        guide = self.indexed_guide(guide)
        if label_index is not None and label is not None:
            raise UsageError("label, label_index: give one of them; a label is a class of the data, an index its place")
        rows = self.condition_rows(count, label, condition, label_index)

        def given(start: int, stop: int) -> Any:
            if rows is None:
                return self.model.drawn(start, stop, seed)
            return self.model.conditions.network_input(tuple(row[start - first : stop - first] for row in rows))

        return self.model.sample(
            count,
            told=given,
            guide=guide,
            solver=solver,
            steps=steps,
            seed=seed,
            first=first,
            batch_size=batch_size,
        )

    def sample(
        self,
        count: int,
        *,
        label: Label | None = None,
        label_index: int | Sequence[int] | None = None,
        condition: Any = None,
        guide: Guidance = PLAIN,
        solver: Solver | str | None = None,
        steps: int = 20,
        seed: int = 0,
        first: int = 0,
        batch_size: int | None = None,
    ) -> NDArray[Any]:
        """`count` samples in one array, images (count, H, W, C), vectors (count, D): what `batches` gives, with its arguments."""
        made = self.batches(
            count,
            label=label,
            label_index=label_index,
            condition=condition,
            guide=guide,
            solver=solver,
            steps=steps,
            seed=seed,
            first=first,
            batch_size=batch_size,
        )
        return np.concatenate(list(made))

    def condition_rows(
        self, count: int, label: Label | None = None, condition: Any = None, label_index: Any = None
    ) -> Rows | None:
        """What the model is told for `count` samples, checked; None where nothing is asked for. Raises UsageError."""
        if isinstance(condition, ConditionBatch):
            return condition.rows
        return self.model.conditions.requested(count, self.spec, label, condition, label_index)

    def like(self, dataset: Dataset, part: range, seed: int = 0) -> ConditionBatch | None:
        """What samples of these numbers are told so that they can be compared with data: what items of the data are told.

        The items are those of the data in random order, again and again. None of a run that is told classes alone, or nothing:
        it draws its classes itself. Raises UsageError for data that lack what the run is told.
        """
        told = self.model.conditions
        if not told or (told.label is not None and len(told.parts) == 1):
            return None
        told.must_fit(dataset, self.folder)
        return ConditionBatch(told.of_items(dataset, self._items(dataset, part, seed), seed))

    def like_labels(self, dataset: Dataset, count: int, seed: int = 0) -> Tensor | None:
        """The classes of the first `count` samples made as `like` has it; None without classes."""
        told = self.model.conditions
        if told.label is None or len(told.parts) == 1:
            return self.model.labels(0, count, seed)
        assert dataset.labels is not None
        return torch.from_numpy(dataset.labels[self._items(dataset, range(count), seed)])

    @staticmethod
    def _items(dataset: Dataset, part: range, seed: int) -> NDArray[np.int64]:
        return np.random.default_rng(seed).permutation(len(dataset))[np.arange(part.start, part.stop) % len(dataset)]

    def label_ids(self, label: Label, count: int) -> Tensor:
        """The indices of the classes of `count` samples, checked. Raises UsageError that names what is wrong."""
        part = self.model.conditions.label
        if part is None:
            takes = ", ".join(part.description for part in self.model.conditions.parts)
            raise UsageError(
                f"label: {self.folder} was trained without classes{f' (it takes {takes})' if takes else ''}; leave the label out"
            )
        return part.requested({"label": label}, count, self.spec)


def _save_json(folder: Path, name: str, content: dict[str, Any]) -> None:
    with new_file(folder / name) as file:
        file.write_text(json.dumps(content, indent=1) + "\n")


def load(
    folder: str | Path,
    device: str | torch.device = "cpu",
    *,
    network: torch.nn.Module | None = None,
    conditions: Sequence[Condition] | None = None,
) -> Run:
    """The run in a folder, ready to sample; no link within it is followed.

    A run of a network or a condition of one's own needs it here, since no file names a class to import: the weights are loaded
    into `network`, which is then in evaluation mode and needs no gradients.

    Raises UsageError for what is no run, OrnsteinError that names a file which is missing or damaged.
    """
    folder = Path(folder)
    must_be_run(folder, OrnsteinError)
    return Run(folder, *read(folder / "model", network, conditions)).to(device)
