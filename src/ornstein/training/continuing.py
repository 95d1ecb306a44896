"""Whether a training may go on in a folder: it holds nothing, or a run of the same settings on the same data."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np

from ornstein.data import Dataset, DataSpec
from ornstein.data.content import is_of
from ornstein.data.pairs import is_pairs
from ornstein.errors import OrnsteinError, UsageError, brief
from ornstein.files.lock import LOCK, is_lock
from ornstein.files.owner import FORM
from ornstein.files.reading import read_json
from ornstein.folder import checkpoints
from ornstein.folder.config import settings_of
from ornstein.folder.layout import DESCRIPTION, FOLDERS
from ornstein.settings import CHANGEABLE, Settings


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


def check_folder(folder: Path, settings: Settings, before: Settings | None, change: bool = False) -> None:
    """Raises UsageError, with the differences, when the folder holds a run of other settings.

    `change` allows those of the keys CHANGEABLE.
    """
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
                f"out: {folder} is not empty and holds no run ({strange.name} is no file of one); give a new folder"
            )
    differences = settings.differences(before, CHANGEABLE if change else ())
    if differences:
        listed = "; ".join(f"{key}: {values}" for key, values in differences.items())
        if differences.keys() <= set(CHANGEABLE):
            raise UsageError(
                f"{folder} was trained with other settings ({listed}): repeat them to go on, add --change to go on with the new "
                "ones, or give another --out"
            )
        raise UsageError(
            f"{folder} was trained with other settings ({listed}): repeat them to go on, or give another --out"
        )


def must_be_new(folder: Path) -> None:
    """Raises UsageError where a run without checkpoints holds a model, which a training from the start would replace."""
    if os.path.lexists(folder / DESCRIPTION):
        raise UsageError(
            f"{folder} holds a model and no checkpoint (`ornstein clean` removes them), so its training cannot go on; give "
            f"another --out, and --from {folder} to start from its weights"
        )


def as_before(folder: Path, settings: Settings, dataset: Dataset) -> Dataset:
    """The data in the units that the run in the folder was trained in, whatever another machine would measure today.

    Raises UsageError when they are other data, OrnsteinError for a description that cannot be read.
    """
    known = _known_data(folder)
    if known is None:
        return dataset
    if isinstance(known, DataSpec):
        dataset = _named_as(dataset, known)
    spec = dataset.spec
    if not dataset.is_indexed:  # no hash tells what will come
        same = isinstance(known, str) or (
            (known.kind, known.shape, known.dtype, known.classes) == (spec.kind, spec.shape, spec.dtype, spec.classes)
        )
    elif isinstance(known, str):
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
    return replace(dataset, spec=replace(known, content_hash=spec.content_hash, source=spec.source, layout=spec.layout))


def _named_as(dataset: Dataset, known: DataSpec) -> Dataset:
    """The data with the classes in the order that a run has them, or without, where only that makes them the same data."""
    if is_of(dataset, known.content_hash) or dataset.labels is None:
        return dataset
    try:
        other = dataset.with_classes(known.classes)[0] if known.classes else dataset.without_labels()
    except UsageError:  # no class is in both
        return dataset
    return other if is_of(other, known.content_hash) else dataset


def _known_data(folder: Path) -> DataSpec | str | None:
    """The data spec of a run, or only its hash if no model is written yet; None if nothing is learned yet."""
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
    exact = [(spec.kind, spec.shape, spec.dtype, spec.classes, spec.count) for spec in (one, other)]
    if bool(one.mean) != bool(other.mean):  # an earlier version had one range for all channels, which the run keeps
        return exact[0] == exact[1]
    if (one.low, one.high) != (other.low, other.high):
        return False
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
        empty = place.name == "checkpoints" and place.is_dir() and not any(place.iterdir())
        begun = not place.is_symlink() and (empty or (place.name == "pairs" and is_pairs(place)))
    return begun or not os.path.lexists(place)  # another process removes its lock and its temporary folders
