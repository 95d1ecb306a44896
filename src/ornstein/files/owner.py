"""Proof that a temporary folder is this library's own, and whether the process that made it still lives.

A name alone proves nothing: somebody's `.git` may match any pattern. So each temporary folder holds a marker, `owner.json`, with
the process, the host and the time, locked by its process for as long as that lives. The system lets go of the lock however the
process ends, also where another process has its number meanwhile.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import re
import shutil
import stat
import time
from contextlib import suppress
from pathlib import Path
from secrets import token_hex

FORM = re.compile(r"\.ornstein-[0-9a-f]{16}")
MARKER = "owner.json"
MOST = 4096  # bytes of a marker


def try_lock(handle: int, shared: bool = False) -> bool | None:
    """Whether this process has the lock of an open file now, alone or `shared`; None where the system or the file system has no
    locks."""
    try:
        import fcntl

        fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except (ImportError, OSError):
        return None
    return True


def is_alive(process: int) -> bool:
    """Whether this machine has a process of that number."""
    if os.name == "nt":  # where a signal 0 is Ctrl-C
        return _is_alive_on_windows(process)
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's, or not to be known here
        return True
    return True


def _is_alive_on_windows(process: int) -> bool:
    """By a handle of it, which only a process that there is has; error 5 is another user's."""
    kernel = ctypes.WinDLL("kernel32", use_last_error=True)  # type: ignore[attr-defined]
    handle = kernel.OpenProcess(0x1000, False, process)
    if not handle:
        return bool(ctypes.get_last_error() == 5)  # type: ignore[attr-defined]
    kernel.CloseHandle(handle)
    return True


def open_here(file: Path, flags: int, mode: int = 0o666) -> int:
    """A handle of a regular file that is no link. Raises OSError otherwise, at once also for a pipe or a device."""
    safe = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
    handle = os.open(file, flags | safe | getattr(os, "O_BINARY", 0), mode)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(f"{file} is no regular file")
    return handle


class Temporary:
    """A new hidden folder in `parent`, marked as this process's own from `make` until `remove`."""

    def __init__(self, parent: Path) -> None:
        self._parent = parent
        self.folder = parent / f".ornstein-{token_hex(8)}"

    def make(self) -> None:
        """Makes and marks it: apart from its naming, so that a signal in the middle finds what there is to `remove`."""
        while True:
            os.mkdir(self.folder, 0o777)
            with suppress(FileNotFoundError):  # taken for abandoned before it was marked
                if self._mark():
                    return
            self.folder = self._parent / f".ornstein-{token_hex(8)}"

    def _mark(self) -> bool:
        self._handle = os.open(
            self.folder / MARKER, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), 0o666
        )
        try_lock(self._handle)
        about = {"made_by": "ornstein", "process": os.getpid(), "host": platform.node(), "time": time.time()}
        os.write(self._handle, json.dumps(about).encode())
        os.fsync(self._handle)  # without it, a power cut would leave a folder that is nobody's
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(self._handle), os.stat(self.folder / MARKER)):
                return True
        os.close(self._handle)
        del self._handle
        return False

    @property
    def mode(self) -> int:
        """The permissions that the umask gives to a new file."""
        return stat.S_IMODE(os.fstat(self._handle).st_mode)

    def remove(self) -> None:
        """Removes the folder with all that is in it."""
        try:
            _remove(self.folder)
        except BaseException:  # a signal
            _remove(self.folder)
            raise
        finally:
            with suppress(OSError, AttributeError):
                os.close(self._handle)


def sweep(folder: Path) -> None:
    """Removes what killed processes of this library left in `folder`.

    A folder goes only when its name has the exact form, its marker says that this library made it on this machine, and no process
    holds the marker any more.
    """
    try:
        with os.scandir(folder) as entries:
            places = [Path(e.path) for e in entries if FORM.fullmatch(e.name) and e.is_dir(follow_symlinks=False)]
    except OSError:
        return
    for place in places:
        with suppress(OSError):
            _remove_abandoned(place)


def _remove_abandoned(place: Path) -> None:
    names = os.listdir(place)
    if not names:  # killed before the marker; an empty folder is nobody's loss
        os.rmdir(place)
        return
    handle = open_here(place / MARKER, os.O_RDWR)
    try:
        content = os.read(handle, MOST)
        process = _process(content)
        if (process is None and (content or names != [MARKER])) or not _let_go(handle, process):
            return
        _remove(place)
    finally:
        os.close(handle)


def _remove(place: Path) -> None:
    """The marker goes last, so that a kill in the middle leaves a folder that can still be known."""
    with suppress(OSError):
        for name in os.listdir(place):
            if name != MARKER:
                inner = place / name
                if inner.is_dir() and not inner.is_symlink():
                    shutil.rmtree(inner, ignore_errors=True)
                else:
                    inner.unlink()
        (place / MARKER).unlink(missing_ok=True)
        place.rmdir()


def _let_go(handle: int, process: int | None) -> bool:
    """Whether no process holds a marker any more."""
    locked = try_lock(handle)
    return locked if locked is not None else process is not None and not is_alive(process)


def _process(content: bytes) -> int | None:
    """The number in a marker that this library wrote on this machine; None for anything else."""
    try:
        about = json.loads(content)
        mine = about["made_by"] == "ornstein" and about["host"] == platform.node() and type(about["process"]) is int
        return about["process"] if mine else None
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
