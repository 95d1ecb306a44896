"""Files that a command may overwrite: those that this library made from the same recipe, and others only by force.

A recipe is all that a result depends on, as JSON values: weights, flags, the content of input files. Its digest is written into
each file in a stamp, where the format has a place for a text (a PNG or JPEG comment, a key of JSON, the comment of a zip), with
a digest of the rest of the file. A file is replaced when its stamp has the same recipe and its content is still that which was
written; so a file that was edited since is the user's. A folder is known by its `samples.json`, which is written first.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any

from ornstein.errors import OrnsteinError, Unwritable, UsageError
from ornstein.files.atomic import new_file, new_files, put_new
from ornstein.files.lock import LOCK, hold, is_lock
from ornstein.files.owner import FORM, open_here, sweep
from ornstein.files.reading import read_json

STAMP = re.compile(rb"ornstein recipe ([0-9a-f]{64}) content ([0-9a-f]{64})")
KEYWORD = "Comment"  # of the stamp's chunk in a PNG
PNG = b"\x89PNG\r\n\x1a\n"
EDGE = 1 << 16  # bytes at either end of a file in which a stamp is looked for
AFTER = 4  # bytes behind a stamp that are not summed: in a PNG those of the chunk's own sum
BLOCK = 1 << 20
RECIPE = "samples.json"  # in a folder: how its samples are made
NUMBERED = re.compile(r"(\d{5,})\.(png|npy|wav|flac|nii|nii\.gz)")  # a sample in a folder
STRAYS = {".DS_Store", "Thumbs.db", "desktop.ini"}  # what file managers leave
RUN = ("config.yaml", "checkpoints", "model/config.json")  # by which a run folder is known
MIXED = "mixed"  # in samples.json: the folder was forced, and holds files of others, too
ELSEWHERE = "give another --out, or --force to replace it"


def digest(recipe: Mapping[str, Any]) -> str:
    """The sha256 of a recipe (JSON values), whatever the order of its keys."""
    return sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()


def digest_of(file: Path) -> str:
    """The sha256 of a file's content. Raises OSError where there is no regular file."""
    total = sha256()
    with open(open_here(Path(os.path.realpath(file)), os.O_RDONLY), "rb") as stream:
        while block := stream.read(BLOCK):
            total.update(block)
    return total.hexdigest()


@dataclass(frozen=True)
class Output:
    """A file to write, by the digest of its recipe. `instead` says what the user can do where it is refused.

    A link is followed: what it points to is judged, and written.
    """

    path: Path
    recipe: str
    force: bool = False
    instead: str = ELSEWHERE

    @property
    def stamp(self) -> str:
        """The text to put into the file, which `write` completes."""
        return f"ornstein recipe {self.recipe} content {'0' * 64}"

    def check(self) -> None:
        """Raises UsageError for what is there and may not be replaced, OrnsteinError for a place that cannot be written."""
        there = _status(self.path, self.force)
        if there is None:
            _must_take_files(self.path, self.path.parent)
        elif stat.S_ISDIR(there.st_mode):
            raise UsageError(f"{self.path} is a folder, and a file is to be written; give the name of a file")
        elif not stat.S_ISREG(there.st_mode):
            raise UsageError(f"{self.path} is no regular file; give the name of one that is or is not there yet")
        elif not self.force:
            made = recipe_of(self.path)
            if made is None:
                raise UsageError(
                    f"{self.path} is there, and nothing in it shows that the same command wrote it; {self.instead}"
                )
            if made != self.recipe:
                raise UsageError(f"{self.path} holds a result of other flags, weights or data; {self.instead}")

    def is_free(self) -> bool:
        """Whether it may be written, if the disk takes it."""
        with suppress(Unwritable):
            try:
                self.check()
            except UsageError:
                return False
        return True

    @contextmanager
    def write(self) -> Iterator[Path]:
        """A temporary file to write, with `stamp` in it where that has a place; it becomes `path` when the block ends well.

        Raises what `check` raises, also at the end: another process may have put something there.
        """
        self.check()
        with new_file(Path(os.path.realpath(self.path)), self._put) as file:
            yield file
            _complete(file)

    def write_json(self, value: Mapping[str, Any]) -> None:
        """Write an object with the stamp as a key more."""
        text = json.dumps({"stamp": self.stamp, **value}, indent=1) + "\n"
        with self.write() as file:
            file.write_text(text, encoding="utf-8")

    def _put(self, fresh: Path, path: Path) -> None:
        self.check()
        if os.path.lexists(path):
            os.replace(fresh, path)
            return
        try:
            put_new(fresh, path)
        except FileExistsError:  # since the check
            self.check()
            os.replace(fresh, path)


def unused(path: Path, recipe: str, force: bool = False) -> Output:
    """A default output: `path`, or where that holds something else, the same with the first digits of the recipe in its name."""
    first = Output(path, recipe, force)
    other = replace(first, path=path.with_name(f"{path.stem}-{recipe[:8]}{path.suffix}"))
    return first if first.is_free() or not other.is_free() else other


def recipe_of(file: Path) -> str | None:
    """The digest of the recipe in a file's stamp; None without one, or where the file was changed since it was written."""
    with suppress(OSError), open(open_here(Path(os.path.realpath(file)), os.O_RDONLY), "rb") as stream:
        match = _find(stream)
        if match is not None and _content(stream, *match[0]) == match[2]:
            return match[1]
    return None


def _complete(file: Path) -> None:
    """Writes the digest of a file's content into its stamp, if it has one."""
    with file.open("r+b") as stream:
        match = _find(stream)
        if match is None:
            return
        start, end = match[0]
        content = _content(stream, start, end).encode()
        stream.seek(end - len(content))
        stream.write(content)
        stream.seek(0)
        if (
            stream.read(len(PNG)) == PNG
        ):  # the chunk's type and data, then their sum: the PNG specification, section 5.3
            head = 4 + len(KEYWORD) + 1
            stream.seek(start - head)
            total = zlib.crc32(stream.read(head + end - start))
            stream.seek(end)
            stream.write(total.to_bytes(4, "big"))


def _find(stream: Any) -> tuple[tuple[int, int], str, str] | None:
    """Where the stamp of a file is, its recipe, and its digest of the content."""
    size = stream.seek(0, os.SEEK_END)
    for start in (0, max(0, size - EDGE)):
        stream.seek(start)
        match = STAMP.search(stream.read(EDGE))
        if match is not None:
            return (start + match.start(), start + match.end()), match[1].decode(), match[2].decode()
    return None


def _content(stream: Any, start: int, end: int) -> str:
    """The sha256 of all of a file but its stamp and the bytes just behind it."""
    total = sha256()
    stream.seek(0)
    left = start
    while left and (block := stream.read(min(left, BLOCK))):
        total.update(block)
        left -= len(block)
    stream.seek(end + AFTER)
    while block := stream.read(BLOCK):
        total.update(block)
    return total.hexdigest()


def _status(path: Path, force: bool) -> os.stat_result | None:
    """The status of a path, through links; None if nothing is there. Raises UsageError for impossible names."""
    try:
        return os.stat(path)
    except FileNotFoundError:
        if path.is_symlink() and not force:
            raise UsageError(
                f"{path} is a link to nothing; give another --out, or --force to write where it leads"
            ) from None
        return None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"{path} could not be written ({reason}); give another --out") from error


def _must_take_files(path: Path, folder: Path) -> None:
    """Raises OrnsteinError unless the nearest folder that is there can be written into."""
    folder = Path(os.path.realpath(folder))
    while not os.path.lexists(folder) and folder != folder.parent:
        folder = folder.parent
    if not os.path.isdir(folder):
        raise UsageError(f"{path} could not be written: {folder} is no folder; give another --out")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise Unwritable(f"{path} could not be written: {folder} is closed or read-only; give another --out")


def must_have_room(path: Path, size: int, files: int = 1) -> None:
    """Raises OrnsteinError where the disk of `path` has no room for so many bytes in so many files."""
    folder = Path(os.path.realpath(path))
    while not os.path.isdir(folder) and folder != folder.parent:
        folder = folder.parent
    try:
        free = shutil.disk_usage(folder).free
        system = os.statvfs(folder) if hasattr(os, "statvfs") else None
    except OSError:
        return
    if size > free:
        raise OrnsteinError(
            f"{path} would take {size / 1e9:,.1f} GB, and there is room for {free / 1e9:,.1f} GB; ask for fewer, or free some"
        )
    if system is not None and system.f_files and files > system.f_favail:
        raise OrnsteinError(
            f"{path} would hold {files:,} files, and there is room for {system.f_favail:,}; ask for fewer, or a .npz file"
        )


class OutputFolder:
    """A folder with a numbered file for each sample, filled by one recipe (JSON values), from one command or several.

    What is in a folder that was made by the same recipe stays, and the rest is made. Files of others are refused, and by `force`
    those of the names that are written are replaced; nothing is ever removed. A run folder is never filled, nor `never`, the
    source of the run's data.
    """

    def __init__(
        self,
        path: Path,
        recipe: Mapping[str, Any],
        force: bool = False,
        never: str | None = None,
        instead: str = "give a new folder",
    ) -> None:
        self.path, self.force = path, force
        self._recipe, self._never, self._instead = json.loads(json.dumps(recipe)), never, instead

    def check(self) -> None:
        """Raises UsageError for what is there and may not be filled, OrnsteinError where it cannot be written."""
        there = _status(self.path, self.force)
        if there is None:
            _must_take_files(self.path, self.path)
            return
        if not stat.S_ISDIR(there.st_mode):
            raise UsageError(f"{self.path} is no folder, and one is to be filled; give a new folder")
        _must_take_files(self.path, self.path)
        names = self._names()
        if any((self.path / name).exists() for name in RUN):
            raise UsageError(f"{self.path} is a run folder and already holds other files; give a new folder")
        if self.force:
            source = None if self._never is None else os.path.realpath(os.path.expanduser(self._never))
            if source == os.path.realpath(self.path) and self._changed():
                raise UsageError(f"{self.path} holds the data of the run; give a new folder")
            return
        others = sorted(name for name in names if not self._is_ours(name))
        if others:
            raise UsageError(f"{self.path} already holds other files, such as {others[0]}; {self._instead}")
        changed = self._changed() if RECIPE in names or any(map(NUMBERED.fullmatch, names)) else ""
        if changed:
            raise UsageError(f"{self.path} holds samples that were made otherwise ({changed}); {self._instead}")

    @contextmanager
    def filling(self) -> Iterator[None]:
        """Within, this process alone fills the folder, which is there and says by what recipe.

        Raises what `check` raises, and OrnsteinError where another process is at it.
        """
        self.check()
        with hold(Path(os.path.realpath(self.path)), "filled with samples"):
            self.check()
            sweep(self.path)  # also where nothing is left to write
            if self._changed():
                theirs = [name for name in self._names() if NUMBERED.fullmatch(name)]
                text = json.dumps({**self._recipe, **({MIXED: True} if theirs else {})}, indent=1) + "\n"
                with new_file(self.path / RECIPE) as file:
                    file.write_text(text)
            yield

    def missing(self, numbers: range) -> list[range]:
        """The numbers that have no file of this recipe yet, as ranges."""
        if not self.path.is_dir() or self._changed():
            return [numbers] if numbers else []
        files = (NUMBERED.fullmatch(name) for name in self._names())
        there = sorted({number for match in files if match and (number := int(match[1])) in numbers})
        edges = [numbers.start - 1, *there, numbers.stop]
        return [range(a + 1, b) for a, b in pairwise(edges) if b > a + 1]

    @contextmanager
    def write(self) -> Iterator[Path]:
        """A temporary folder, whose files move into this one, each whole, when the block ends well.

        Raises OrnsteinError where the folder is of another recipe by now, a file of that name has appeared, or the disk refuses.
        """
        changed = self._changed()
        if changed and not (self.force and changed == MIXED):
            raise OrnsteinError(f"{self.path} was changed meanwhile ({changed}); give a new folder")
        with new_files(Path(os.path.realpath(self.path)), os.replace if changed else self._put) as folder:
            yield folder

    def _put(self, fresh: Path, path: Path) -> None:
        try:
            put_new(fresh, path)
        except FileExistsError:
            raise OrnsteinError(f"{path} was written by another program meanwhile; give another --out") from None

    def _names(self) -> list[str]:
        try:
            return os.listdir(self.path)
        except OSError as error:
            raise OrnsteinError(f"{self.path} cannot be read ({error.strerror}); give a new folder") from error

    def _is_ours(self, name: str) -> bool:
        if name == LOCK:
            return is_lock(self.path / name)
        return bool(NUMBERED.fullmatch(name) or FORM.fullmatch(name)) or name == RECIPE or name in STRAYS

    def _changed(self) -> str:
        """The names of what differs between the recipe and that of the folder; nothing where it is the same."""
        try:
            there = read_json(self.path / RECIPE, root=self.path)
        except (OSError, ValueError):
            return f"there is no {RECIPE}"
        return _differences(there, self._recipe)


def _differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    names: Iterable[str] = one.keys() | other.keys()
    return ", ".join(sorted(name for name in names if one.get(name) != other.get(name)))
