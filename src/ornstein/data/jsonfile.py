"""JSON files that somebody else may have written: read up to a size, and into plain values of the kind expected."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

LARGEST = 64 << 20  # bytes; a β-table or the names of 22,000 classes take less than one million


def read_json(file: Path, largest: int = LARGEST) -> dict[str, Any]:
    """The object in a JSON file. Raises FileNotFoundError where there is none, OSError or ValueError for anything else."""
    if file.exists() and not file.is_file():  # a pipe or a device would be read for ever
        raise ValueError("it is no file")
    with file.open("rb") as stream:
        content = stream.read(largest + 1)
    if len(content) > largest:
        raise ValueError(f"it is larger than {largest >> 20} MB")
    try:
        found = json.loads(content)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(found, dict):
        raise ValueError("it holds no JSON object")
    return found


def read_lines(file: Path, keys: Sequence[str]) -> list[dict[str, Any]]:
    """The lines of a file of JSON objects that hold finite numbers under all of the keys; none where there is no file.

    Left out are lines that a kill cut short, and whatever else got in.
    """
    found = []
    for line in file.read_text("utf-8", "replace").splitlines() if file.is_file() else ():
        try:
            values = json.loads(line)
            if all(math.isfinite(values[key]) for key in keys):
                found.append(values)
        except (ValueError, LookupError, TypeError, ArithmeticError, RecursionError):
            continue
    return found
