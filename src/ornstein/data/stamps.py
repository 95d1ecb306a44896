"""Whether a file is the one that it was, without reading it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path

from ornstein.errors import OrnsteinError

TICK = 20_000_000  # ns: file systems date changes by the clock's ticks, so two changes within one may bear one date
MISSING = "missing"


class Changed(OrnsteinError):
    """A file is not what it was when its reading began."""


def stamp(path: Path) -> str:
    """Size, dates of content and of status, and inode: all that a change of a file moves, whatever date is put back.

    Of a file that changed within the last tick of the clock the answer comes after that tick, so that a later change bears
    another date. `MISSING` for a broken link.
    """
    try:
        about = os.stat(path)
        age = time.time_ns() - max(about.st_ctime_ns, about.st_mtime_ns)
        if 0 <= age < TICK:
            time.sleep((TICK - age) / 1e9)
            about = os.stat(path)
    except OSError:
        return MISSING
    return f"{about.st_size} {about.st_mtime_ns} {about.st_ctime_ns} {about.st_ino}"


def stamps(root: Path, names: Iterable[str]) -> str:
    """A line for each of these files below a folder."""
    return "\n".join(f"{name} {stamp(root / name)}" for name in sorted(names))
