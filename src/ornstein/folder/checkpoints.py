"""Checkpoints as files: which there are, whether they are whole, how far the training was.

A checkpoint is a folder `step-00001000` with weights.safetensors, optimizer.safetensors, average.safetensors, half.safetensors
(the average of half that length), state.json and sha256.json. A network that is sharded over processes has, in place of the first
two, a folder `shards` with a file of each process. One that fails its sums is set aside as `step-00001000.damaged` and the one
before it is used; it does not count among the newest.
"""

import hashlib
import json
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open

from ornstein.errors import OrnsteinError
from ornstein.files.atomic import discard
from ornstein.files.reading import LARGEST, must_be_inside, read_bytes, read_json
from ornstein.files.reading import listed as files_in

NAME = re.compile(r"step-(\d{8,})")
FILES = ("average.safetensors", "half.safetensors", "state.json")
LEARNED = ("weights.safetensors", "optimizer.safetensors")
SHARDS = "shards"  # in place of LEARNED
PROOF = {"state.json", "sha256.json"}  # of a folder that it is a checkpoint
PARTS = {*FILES, *LEARNED, *PROOF, SHARDS}
LITTER = {".DS_Store", "Thumbs.db", "desktop.ini"}  # of file managers


class Counters(NamedTuple):
    """How far a training is."""

    step: int
    images: int
    seconds: float
    skipped: int
    drawing: float = 0.0
    """Seconds that sample sheets took; runs of before did not count them."""

    @property
    def updates(self) -> int:
        """Steps that changed the weights: the time of the averages."""
        return self.step - self.skipped


def counters(place: Path) -> Counters:
    """How far the training was at a checkpoint. Raises OrnsteinError that names the file which does not say."""
    file = place / "state.json"
    try:
        values = read_json(file, root=place.parent.parent)
        counters = Counters(*(values.get(name, Counters._field_defaults.get(name)) for name in Counters._fields))  # type: ignore[arg-type]
        if not all(type(v) is int and 0 <= v < 1 << 63 for v in (counters.step, counters.images, counters.skipped)):
            raise ValueError("it does not count steps and images")
        if any(type(s) not in (int, float) or not 0 <= s < math.inf for s in (counters.seconds, counters.drawing)):
            raise ValueError("it does not say how long the training took")
    except (OSError, ValueError) as error:
        raise OrnsteinError(f"{file} cannot be read ({error}); move {place.name} away") from error
    return counters._replace(seconds=float(counters.seconds), drawing=float(counters.drawing))


def prune(folder: Path, keep: int) -> None:
    """Remove all checkpoints older than the newest `keep` whole ones; one that is damaged does not count.

    One with anything else in it stays.
    """
    places = list(checkpoints(folder))
    whole = 0
    for place in places if len(places) > keep else ():
        if whole < keep:
            whole += damage(place) is None
        elif _names(place) <= PARTS | LITTER:
            discard(place)  # killed in the middle, it is no checkpoint that seems damaged


def checkpoints(folder: Path) -> Iterator[Path]:
    """Finished checkpoints, the newest first: folders of that name, but for those that are somebody else's.

    Raises OrnsteinError where `folder` is a link, which is not followed.
    """
    if folder.is_symlink():
        raise OrnsteinError(f"{folder} is a link, and links in a run are not followed; put the folder itself there")
    places = [place for place in folder.glob("step-*") if NAME.fullmatch(place.name) and is_checkpoint(place)]
    yield from sorted(places, key=lambda place: int(place.name[5:]), reverse=True)


def is_checkpoint(place: Path) -> bool:
    """Whether a folder is a checkpoint, be it damaged: it holds what proves it, or nothing else than parts of one."""
    if place.is_symlink() or not place.is_dir():
        return False
    names = _names(place)
    return names >= PROOF or names <= PARTS | LITTER


def _names(folder: Path) -> set[str]:
    return {place.name for place in folder.iterdir()}


def newest(folder: Path, tell: Callable[[str], None]) -> Path | None:
    """The newest checkpoint that is whole, or None where there is none.

    Damaged ones are renamed and reported, one sentence each. Raises OrnsteinError when all are damaged.
    """
    damaged = 0
    for place in checkpoints(folder):
        wrong = damage(place)
        if wrong is None:
            return place
        damaged += 1
        try:
            aside = _set_aside(place)
        except OSError as error:
            raise OrnsteinError(f"{place} is damaged ({wrong}) and cannot be set aside ({error.strerror})") from error
        tell(
            f"Checkpoint {place} is damaged ({wrong}); it was set aside as {aside.name} and the one before it is used."
        )
    if damaged:
        raise OrnsteinError(
            f"every checkpoint in {folder} is damaged and was set aside; remove the run folder to start anew"
        )
    return None


def _set_aside(place: Path) -> Path:
    """Under a name that nothing has."""
    names = (f"{place.name}.damaged{f'-{number}' if number > 1 else ''}" for number in count(1))
    aside = next(place.with_name(name) for name in names if not os.path.lexists(place.with_name(name)))
    place.rename(aside)
    return aside


def listed_sums(sums: Mapping[str, Any]) -> str:
    return json.dumps(sums, indent=1)


def damage(place: Path) -> str | None:
    """The damage of a checkpoint in words, or None."""
    try:
        root = place.parent.parent
        sums = read_json(place / "sha256.json", root=root)
        if read_bytes(place / "sha256.json", root=root) != listed_sums(sums).encode():
            return "sha256.json is not as it was written"
        listed = {name for name in sums if name.startswith(f"{SHARDS}/")}
        there = {f"{SHARDS}/{file.name}" for file in files_in(place / SHARDS, root)}
        needed = [*FILES, *(sorted(listed | there) or LEARNED)]
        for name in needed:
            must_be_inside(place / name, root)
        missing = [name for name in needed if name not in sums or not (place / name).is_file()]
        if missing:
            return f"{missing[0]} is missing, or its sum is"
        wrong = [name for name in needed if not is_sized(place / name) or sha256_of(place / name) != sums[name]]
    except (OSError, ValueError) as error:
        return f"sha256.json or a file it names cannot be read: {error}"
    return f"{wrong[0]} does not have its sha256" if wrong else None


def is_sized(file: Path) -> bool:
    """Whether a file is as large as its header says, or small: one that takes no room on the disk may be endless to read."""
    if file.suffix != ".safetensors":
        return file.stat().st_size <= LARGEST
    try:
        with safe_open(file, "numpy"):
            return True
    except SafetensorError:
        return False


def listed_in(place: Path) -> set[str]:
    """The files of a whole checkpoint, by the list of their sums."""
    return set(read_json(place / "sha256.json", root=place.parent.parent))


def sha256_of(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
