"""Files that appear whole or not at all: written beside their place under another name, then renamed."""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ornstein.errors import OrnsteinError

TEMPORARY = re.compile(r"\.(.+)\.[a-z0-9_]{8}")  # how `tempfile` completes the names given below


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """A temporary file to write; it becomes `path` when the block ends well and vanishes otherwise.

    Raises `OrnsteinError` when the disk refuses (full, read-only, no permission).
    """
    with _temporary_folder(path) as folder:
        file = folder / path.name
        yield file
        _flush(file)
        os.replace(file, path)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A temporary folder to fill; it becomes `path` when the block ends well and vanishes otherwise.

    A folder already at `path` is replaced. Two processes may do so at once: the last one to finish stays.
    Raises `OrnsteinError` when the disk refuses (full, read-only, no permission).
    """
    with _temporary_folder(path) as folder:
        fresh, old = folder / "new", folder / "old"
        fresh.mkdir()
        yield fresh
        for inner, _, files in os.walk(fresh):
            for name in files:
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
            try:
                os.rename(path, old)
            except FileNotFoundError:
                continue
            shutil.rmtree(old, ignore_errors=True)
        raise OrnsteinError(f"{path} is being rewritten by other processes all the time; stop them and try again.")


@contextmanager
def new_files(path: Path) -> Iterator[Path]:
    """A temporary folder to fill; its files move into the folder `path`, each whole, when the block ends well.

    `path` is made where it is missing. Raises `OrnsteinError` when the disk refuses (full, read-only, no permission).
    """
    with _temporary_folder(path) as folder:
        yield folder
        path.mkdir(exist_ok=True)
        for file in sorted(folder.iterdir()):
            _flush(file)
            os.replace(file, path / file.name)


@contextmanager
def written(path: Path, instead: str = "give another place") -> Iterator[None]:
    """Within, `path` is written. Raises OrnsteinError when the disk refuses, with what else can be done."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise OrnsteinError(f"{path} could not be written ({reason}); free some space or {instead}") from error


def sweep(folder: Path, *names: str) -> None:
    """Removes what killed processes were writing in `folder`: all of it, or that which was to become one of `names`.

    Only for places where nobody else is writing now.
    """
    for path in folder.iterdir() if folder.is_dir() else ():
        made = TEMPORARY.fullmatch(path.name)
        if made and (not names or made[1] in names) and path.is_dir():
            shutil.rmtree(path, ignore_errors=True)


@contextmanager
def _temporary_folder(path: Path) -> Iterator[Path]:
    """A folder on the same file system as `path`, removed at the end."""
    folder = None
    try:
        with written(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            folder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
            yield folder
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def _flush(path: Path) -> None:
    """Has the file's bytes on the disk before its name is: a power cut cannot leave an empty file."""
    with path.open("rb") as file:
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
