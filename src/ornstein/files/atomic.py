"""Files that appear whole or not at all: written in a temporary folder next to their place, then renamed."""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ornstein.errors import OrnsteinError, Unheard, Unwritable, UsageError
from ornstein.files.owner import Temporary, sweep

Put = Callable[[Path, Path], None]  # moves a whole file to its place
ELSEWHERE = "give another place"


@contextmanager
def new_file(path: Path, put: Put = os.replace) -> Iterator[Path]:
    """A temporary file to write; it becomes `path` when the block ends well and vanishes otherwise.

    It has the permissions of the file that it replaces, else those of the umask. A link at `path` is replaced, not followed.
    `put` moves it there, and may refuse to.
    Raises `OrnsteinError` when the disk refuses (full, read-only, no permission).
    """
    with _temporary(path) as temporary:
        file = temporary.folder / path.name
        yield file
        os.chmod(file, _mode(path, temporary.mode))
        _flush(file)
        put(file, path)


@contextmanager
def new_folder(path: Path, replace: bool = True, instead: str = ELSEWHERE) -> Iterator[Path]:
    """A temporary folder to fill; it becomes `path` when the block ends well and vanishes otherwise.

    A folder already at `path` is replaced: for places that hold nothing but this library's own. Two processes may do so at
    once: the last one to finish stays. With `replace` false, one that is not empty stays, and `UsageError` is raised.
    `instead` says what else can be done where the disk refuses.
    Raises `OrnsteinError` when the disk refuses (full, read-only, no permission).
    """
    with _temporary(path, instead) as temporary:
        fresh, old = temporary.folder / "new", temporary.folder / "old"
        fresh.mkdir()
        yield fresh
        for inner, _, files in os.walk(fresh):
            for name in files:
                os.chmod(Path(inner, name), temporary.mode)
                _flush(Path(inner, name))
            _flush_names(Path(inner))
        for _ in range(100):  # another process may put its own folder there between the two renames
            try:
                os.rename(fresh, path)
                _flush_names(path.parent)
                return
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST) and not path.is_dir():
                    raise
                if not replace:
                    raise UsageError(f"{path} is not empty; give a new folder") from error
            try:
                os.rename(path, old)
            except FileNotFoundError:
                continue
            shutil.rmtree(old, ignore_errors=True)
        raise OrnsteinError(f"{path} is being rewritten by other processes all the time; stop them and try again.")


@contextmanager
def new_files(path: Path, put: Put = os.replace) -> Iterator[Path]:
    """A temporary folder to fill; its files move into the folder `path`, each whole, when the block ends well.

    `path` is made where it is missing; the temporary folder is in it, since `path` may be a file system of its own. `put` moves
    each file, and may refuse to. Raises `OrnsteinError` when the disk refuses (full, read-only, no permission).
    """
    with _temporary(path / "new") as temporary:
        fresh = temporary.folder / "new"
        fresh.mkdir()
        yield fresh
        for file in sorted(fresh.iterdir()):
            os.chmod(file, _mode(path / file.name, temporary.mode))
            _flush(file)
            put(file, path / file.name)


def put_new(file: Path, path: Path) -> None:
    """Moves a file to a place where there is none; in one step, where the file system has hard links.

    Raises FileExistsError where there is something.
    """
    try:
        os.link(file, path)
    except FileExistsError:
        raise
    except OSError:
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
        os.replace(file, path)


@contextmanager
def written(path: Path, instead: str = ELSEWHERE) -> Iterator[None]:
    """Within, `path` is written. Raises Unwritable when the disk refuses, with what else can be done."""
    try:
        yield
    except Unheard:
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise Unwritable(f"{path} could not be written ({reason}); free some space or {instead}") from error


@contextmanager
def scratch(parent: Path, instead: str = ELSEWHERE) -> Iterator[Path]:
    """A temporary folder in `parent`, which is made where it is missing; removed at the end, and by the next writer after a kill.

    Raises `OrnsteinError` when the disk refuses.
    """
    with _temporary(parent / "scratch", instead) as temporary:
        yield temporary.folder


def discard(path: Path) -> None:
    """Removes a folder of this library's own so that none sees a part of it: it is renamed into a temporary folder first.

    Raises `OrnsteinError` when the disk refuses.
    """
    with _temporary(path) as temporary:
        os.rename(path, temporary.folder / "old")


@contextmanager
def _temporary(path: Path, instead: str = ELSEWHERE) -> Iterator[Temporary]:
    """A folder on the same file system as `path`, removed at the end; what killed processes left there is removed first."""
    with written(path, instead):
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep(path.parent)
        temporary = Temporary(path.parent)
        try:
            temporary.make()
            yield temporary
        finally:
            temporary.remove()


def _mode(path: Path, usual: int) -> int:
    """The permissions of the file at `path`, which stay; the usual ones where there is none."""
    try:
        there = os.lstat(path)
    except OSError:
        return usual
    return stat.S_IMODE(there.st_mode) if stat.S_ISREG(there.st_mode) else usual


def _flush(path: Path) -> None:
    """Has the file's bytes on the disk before its name is: a power cut cannot leave an empty file."""
    with path.open("r+b" if os.name == "nt" else "rb") as file:  # Windows flushes what may be written alone
        os.fsync(file.fileno())


def _flush_names(folder: Path) -> None:
    """Has the names in a folder on the disk, so that what is removed next is not gone before they are there."""
    if os.name == "nt":  # a folder cannot be opened there, nor need be
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_json(file: Path, values: Mapping[str, Any]) -> None:
    """Values as JSON into a file, whole or not at all. Raises OrnsteinError when the disk refuses."""
    with new_file(file) as new:
        new.write_text(json.dumps(values, indent=1))
