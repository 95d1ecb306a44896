"""A folder that one process at a time writes into."""

from __future__ import annotations

import errno
import os
import platform
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ornstein.errors import OrnsteinError
from ornstein.files.atomic import written
from ornstein.files.owner import open_here, try_lock

LOCK = ".lock"
OTHER = "give another --out"
WRITTEN = re.compile(r"|(?:[\w ]+ by )?process \d+ on .*", re.DOTALL)  # what a lock holds, by which it is known
MOST = 512  # bytes of it


@contextmanager
def hold(folder: Path, doing: str = "trained", otherwise: str = OTHER) -> Iterator[None]:
    """Makes the folder and keeps a second process out of it; the system lets go when this one dies, however it does.

    `doing` is what is done to the folder, for the sentence that stops the second process; `otherwise` says what else can be done
    where the disk refuses. The lock is a file `.lock`, which stays only after a kill.
    Raises OrnsteinError when another process has the folder, `.lock` is a link or somebody's own file, or the disk refuses.
    """
    with written(folder, otherwise):
        folder.mkdir(parents=True, exist_ok=True)
        handle = _taken(folder)
    try:
        with written(folder, otherwise):
            _sign(handle, f"{doing} by process {os.getpid()} on {platform.node()}".encode())
        yield
    finally:
        with suppress(OSError):
            os.unlink(folder / LOCK)  # before the lock goes: who waits for it sees that its file is gone
        os.close(handle)


def _sign(handle: int, holder: bytes) -> None:
    """Writes who holds a lock. Where there is no room for all of it, it is empty: a part would pass for somebody's own file."""
    os.ftruncate(handle, 0)
    os.lseek(handle, 0, os.SEEK_SET)
    if os.write(handle, holder) < len(holder):
        os.ftruncate(handle, 0)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def is_lock(file: Path) -> bool:
    """Whether a file is a lock that this library wrote."""
    try:
        handle = open_here(file, os.O_RDONLY)
    except OSError:
        return False
    try:
        return _is_ours(handle)
    finally:
        os.close(handle)


def _taken(folder: Path) -> int:
    """A handle of the folder's lock, which this process has now."""
    file, holder = folder / LOCK, ""
    for _ in range(20):
        try:
            handle = open_here(file, os.O_RDWR | os.O_CREAT)
        except OSError as error:
            if file.is_symlink() or (file.exists() and not file.is_file()):
                raise OrnsteinError(
                    f"{file} is a link or no file, so it cannot be the lock of {folder}; remove it"
                ) from error
            raise
        if not _is_ours(handle):
            os.close(handle)
            raise OrnsteinError(f"{file} is not a lock that Ornstein wrote; move it away, or give another folder")
        locked = try_lock(handle)
        if locked is not False and _is_at(handle, file):
            return handle
        holder = "" if locked else _content(handle)
        os.close(handle)
        if holder:
            break
        time.sleep(0.05)  # its process is about to write its name, or to leave
    raise OrnsteinError(f"{folder} is being {holder or 'written by another process'}; wait for it, or stop it")


def _is_ours(handle: int) -> bool:
    """By its content; a file with a second name is somebody's own."""
    return os.fstat(handle).st_nlink <= 1 and WRITTEN.fullmatch(_content(handle)) is not None


def _is_at(handle: int, file: Path) -> bool:
    with suppress(OSError):
        return os.path.samestat(os.fstat(handle), os.lstat(file))
    return False


def _content(handle: int) -> str:
    os.lseek(handle, 0, os.SEEK_SET)
    return os.read(handle, MOST).decode(errors="replace").strip()
