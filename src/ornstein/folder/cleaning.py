"""Files of a run that sampling does not need: checkpoints, snapshots of averages, and unfinished files of killed processes.

A name alone proves nothing: a checkpoint goes when all its files have their sums and there are no others, a snapshot when its
header says that this library wrote it, a temporary folder by its marker (`files.owner`). All else stays, and is named.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError

from ornstein.errors import OrnsteinError
from ornstein.files.atomic import discard, written
from ornstein.files.lock import hold
from ornstein.files.owner import sweep
from ornstein.files.reading import listed, must_be_regular, read_json
from ornstein.folder import checkpoints, posthoc
from ornstein.folder.layout import DESCRIPTION, FOLDERS, is_imported

WEIGHTS = "model/model.safetensors"
LOCKED = "wait for it, or stop it"


@dataclass(frozen=True)
class Surplus:
    """Files to remove, the newest checkpoint last, and files of such a name that stay, with the reason."""

    checkpoints: list[Path]
    snapshots: list[Path]
    left: Mapping[Path, str]

    @property
    def size(self) -> int:
        """Bytes of what goes."""
        return sum(_size(place) for place in (*self.checkpoints, *self.snapshots))


def surplus(folder: Path) -> Surplus:
    """The files to remove from a run. Raises OrnsteinError if its model is missing or damaged: then it has only checkpoints."""
    if not is_imported(folder):
        _must_have_model(folder)
    gone, stored, left = [], [], dict[Path, str]()
    for place in _named(folder, "checkpoints", "step-"):
        reason = _strange_checkpoint(place)
        gone.append(place) if reason is None else left.update({place: reason})
    for place in _named(folder, "averages", "update-"):
        reason = _strange_snapshot(place, folder)
        stored.append(place) if reason is None else left.update({place: reason})
    return Surplus(gone, stored, left)


def clean(folder: Path) -> Surplus:
    """Remove what sampling does not need; what has gone. A kill in the middle leaves whole ones, which the next call removes.

    Raises OrnsteinError while another process writes into the run, and what `surplus` raises.
    """
    with hold(folder, "cleaned", LOCKED):
        removable = surplus(folder)
        with written(folder, LOCKED):
            for file in removable.snapshots:
                file.unlink(missing_ok=True)
            for place in removable.checkpoints:
                discard(place)
        for name in (".", *FOLDERS):
            if not (folder / name).is_symlink():
                sweep(folder / name)
    return removable


def _must_have_model(folder: Path) -> None:
    reason = ""
    try:
        read_json(folder / DESCRIPTION, root=folder)
        must_be_regular(folder / WEIGHTS, folder)
        if not checkpoints.is_sized(folder / WEIGHTS):
            reason = f"{folder / WEIGHTS} is damaged"
    except (OSError, ValueError, SafetensorError) as error:
        reason = f"its model cannot be read ({error})"
    if reason:
        raise OrnsteinError(
            f"{folder} cannot be cleaned: {reason}, and its checkpoints are all it has; resume the training to write it anew"
        )


def _named(folder: Path, room: str, start: str) -> Iterator[Path]:
    """Entries of such a name in a folder of the run, by name; empty if the folder is a link."""
    place = folder / room
    if place.is_symlink() or not place.is_dir():
        return
    yield from sorted(inner for inner in listed(place, folder) if inner.name.startswith(start))


def _strange_checkpoint(place: Path) -> str | None:
    """Why a folder is not provably a checkpoint, all of it."""
    if place.is_symlink() or not place.is_dir():
        return "it is a link or no folder"
    if not checkpoints.NAME.fullmatch(place.name):
        return "it was set aside, or has another name than a checkpoint"
    wrong = checkpoints.damage(place)
    if wrong is not None:
        return wrong
    known = {"sha256.json", *checkpoints.listed_in(place)}
    others = [
        name
        for file in place.rglob("*")
        if not file.is_dir() and (name := file.relative_to(place).as_posix()) not in known
    ]
    return f"it holds {sorted(others)[0]}, which is no part of a checkpoint" if others else None


def _strange_snapshot(place: Path, folder: Path) -> str | None:
    """Why a file is not provably a snapshot."""
    if place.is_symlink() or not place.is_file() or not posthoc.NAME.fullmatch(place.name):
        return "it is a link, no file, or has another name than a snapshot"
    try:
        posthoc.lengths_of(place, folder)
    except OrnsteinError as error:
        return str(error)
    return None


def _size(place: Path) -> int:
    files = place.rglob("*") if place.is_dir() else (place,)
    return sum(status.st_size for file in files if stat.S_ISREG((status := file.lstat()).st_mode))
