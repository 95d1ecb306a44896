"""Files that appear whole or not at all: written beside their place under another name, then renamed."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ornstein.errors import OrnsteinError


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
        for file in fresh.iterdir():
            _flush(file)
        for _ in range(100):  # another process may put its own folder there between the two renames
            try:
                os.rename(fresh, path)
                return
            except OSError:
                if not path.is_dir():
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
def _temporary_folder(path: Path) -> Iterator[Path]:
    """A folder on the same file system as `path`, removed at the end."""
    folder = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
        yield folder
    except OSError as error:
        reason = error.strerror or str(error)
        raise OrnsteinError(
            f"{path} could not be written ({reason}); free some space or give another place."
        ) from error
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def _flush(path: Path) -> None:
    """Has the file's bytes on the disk before its name is: a power cut cannot leave an empty file."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
