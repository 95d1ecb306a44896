"""Errors that a user meets: each message is one sentence saying what is wrong, where, and how to mend it."""

from __future__ import annotations


class OrnsteinError(Exception):
    """Something failed while working (unreadable data, a full disk, a damaged file): exit code 1."""


class UsageError(OrnsteinError):
    """What was asked for cannot be done as asked (an unknown name, a missing file): exit code 2."""


class Told(OrnsteinError):
    """Another process failed, or failed alike, and says so: this one ends without a word."""
