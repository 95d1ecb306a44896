"""The averages of the weights that a training stored, and the run at another one or at an earlier time."""

from copy import deepcopy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ornstein.errors import OrnsteinError, UsageError
from ornstein.files.atomic import new_folder
from ornstein.files.lock import hold
from ornstein.files.owner import sweep
from ornstein.files.reading import read_bytes
from ornstein.folder import checkpoints, posthoc
from ornstein.folder.layout import METRICS_MOST
from ornstein.folder.posthoc import Archive
from ornstein.folder.publish import publish
from ornstein.folder.tensors import save_tensors
from ornstein.settings import Settings
from ornstein.weights import hashed, weights

if TYPE_CHECKING:
    from ornstein.runs.run import Run


def averages(run: "Run") -> Archive:
    """The averages of the weights that the training stored: `.error(length)`, `.reach()`, `.average(length)`.

    Raises OrnsteinError where no checkpoint is whole.
    """
    names = [name for name, _ in run.model.network.named_parameters()]
    for place in checkpoints.checkpoints(run.folder / "checkpoints"):
        if checkpoints.damage(place) is None:
            length = float(run.settings["ema"])
            files = {length: "average", length / 2: "half"}
            tensors = {
                own: weights(place / f"{name}.safetensors", run.model.network, run.folder)
                for own, name in files.items()
            }
            last = {own: {name: state[name] for name in names} for own, state in tensors.items()}
            return Archive(last, checkpoints.counters(place).updates, run.folder / "averages")
    raise OrnsteinError(f"{run.folder / 'checkpoints'} holds no whole checkpoint; resume the training to write one")


def ema(run: "Run", length: float, out: str | Path | None = None) -> "Run":
    """The run with its weights averaged over another length, relative to the training (`folder.posthoc`).

    They become the model of this run, until it is trained on or another length is chosen; or of the new folder `out`, which
    appears whole or not at all, and may hold that very model already.
    Raises UsageError for a length beyond the reach of the snapshots, or an `out` that is not empty; OrnsteinError when
    the run is being trained, or the disk refuses.
    """
    device = run.model.device
    if out is None:
        with hold(run.folder, "averaged"):
            settings, archive, state = _averaged(run, length)
            publish(run.folder, run.model, settings, archive.updates, partial(save_tensors, state))
        return _reread(run, run.folder).to(device)
    folder = Path(out)
    settings, archive, state = _averaged(run, length)
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"out: {folder} is a file; give a new folder")
    if folder.is_dir() and any(folder.iterdir()):
        return _there(run, folder, state).to(device)
    with new_folder(folder, replace=False) as new:
        for name in ("config.yaml", "metrics.jsonl"):
            try:
                (new / name).write_bytes(read_bytes(run.folder / name, METRICS_MOST, run.folder))
            except FileNotFoundError:
                continue
            except ValueError as error:
                raise OrnsteinError(f"{run.folder / name} cannot be read ({error}); take it away") from error
        publish(folder, run.model, settings, archive.updates, partial(save_tensors, state), into=new)
    return _reread(run, folder).to(device)


def earlier(run: "Run", place: str | Path) -> "Run":
    """The run with weights from earlier in its training: a snapshot (RUN/averages/update-N.safetensors) or a checkpoint.

    In memory alone: such as a weaker model for `guidance.WeakModel`. Raises UsageError for a place that holds none, or those
    of another network, OrnsteinError that names a file which is damaged.
    """
    place, network = Path(place), deepcopy(run.model.network)
    if (place / "average.safetensors").is_file():
        state, digest = hashed(place / "average.safetensors", lambda file: weights(file, network, place), place)
    elif place.is_file() and posthoc.NAME.fullmatch(place.name):
        state, digest = hashed(place, lambda file: dict(next(iter(posthoc.read(file).values()))))
    else:
        raise UsageError(f"{place} is no snapshot in {run.folder / 'averages'} and no checkpoint; give one of these")
    try:
        network.load_state_dict({**network.state_dict(), **state})
    except RuntimeError as error:
        raise UsageError(f"{place} holds weights of another network; give those of {run.folder}") from error
    return replace(run, model=replace(run.model, network=network), weights_hash=digest)


def _reread(run: "Run", folder: Path) -> "Run":
    """The run in a folder, of a network and conditions like these."""
    from ornstein.runs.run import load

    if not run.model.is_own:
        return load(folder)
    return load(folder, network=deepcopy(run.model.network), conditions=run.model.conditions.parts)


def _averaged(run: "Run", length: float) -> tuple[Settings, Archive, dict[str, Tensor]]:
    """The settings of the run with this length, its averages, and the network's state with that one."""
    settings = Settings(**run.settings)
    archive = averages(run)
    try:
        average = archive.average(length)
    except ValueError as error:
        raise UsageError(f"length: {error}") from error
    # buffers are the same in all averages
    return replace(settings, ema=length), archive, {**run.model.network.state_dict(), **average}


def _there(run: "Run", folder: Path, state: dict[str, Tensor]) -> "Run":
    """The run in a folder that this model was written to before. Raises UsageError for any other folder."""
    other = UsageError(f"out: {folder} is not empty; give a new folder")
    try:
        there = _reread(run, folder)
    except OrnsteinError:
        raise other from None
    theirs = there.model.network.state_dict()
    same = theirs.keys() == state.keys() and all(torch.equal(theirs[key], state[key].cpu()) for key in theirs)
    if not same or there.model.config() != run.model.config():
        raise other
    sweep(folder.parent)  # that process may have been killed just afterwards
    return there
