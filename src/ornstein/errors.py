"""Errors that a user meets: each message is one sentence saying what is wrong, where, and how to mend it."""

from __future__ import annotations

from reprlib import Repr
from typing import Any


class OrnsteinError(Exception):
    """Something failed while working (unreadable data, a full disk, a damaged file): exit code 1."""


class UsageError(OrnsteinError):
    """A request that cannot be fulfilled (an unknown name, a missing file): exit code 2."""


class Unwritable(OrnsteinError):
    """The disk refuses to write a file (it is full or read-only, or permission is missing): exit code 1."""


class NotFinite(OrnsteinError):
    """Samples hold NaN or infinite numbers: exit code 1."""


class Reported(OrnsteinError):
    """Another process failed and reports the error: this process ends without a message of its own."""


class Unheard(OSError):
    """Standard output cannot be written: it is closed, its reader has gone, or the disk that it leads to is full."""


def memory_is_short(error: BaseException) -> bool:
    """Whether an error says that memory ran out: a CUDA or MPS device's (cuBLAS and cuDNN included), the CPU's, Python's."""
    said = ("out of memory", "not enough memory", "can't allocate memory", "_STATUS_ALLOC_FAILED")
    return isinstance(error, MemoryError) or any(words in str(error) for words in said)


def reject_class(name: str, value: object) -> None:
    """Raises TypeError where an argument is a class and an object is wanted."""
    if isinstance(value, type):
        raise TypeError(f"{name}={value.__name__} is a class; give an object of it: {name}={value.__name__}(...)")


def brief(value: Any) -> str:
    """A value for a message: never long, whatever it is."""
    short = Repr()
    short.maxstring = short.maxother = 80
    try:
        return short.repr(value)
    except ValueError:  # a whole number of thousands of digits
        return f"a {type(value).__name__} of very many digits"
