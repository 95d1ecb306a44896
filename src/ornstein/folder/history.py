"""Changes of settings during a run: the step, the keys, the values before and after. RUN/history.json."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ornstein.errors import OrnsteinError
from ornstein.files.atomic import write_json
from ornstein.files.reading import read_json
from ornstein.settings import CHANGEABLE, Settings

NAME = "history.json"
KEYS = ("steps", "minutes", *CHANGEABLE)


def entries(folder: Path) -> list[dict[str, Any]]:
    """The changes, the oldest first: {"step": N, "changes": {key: [before, after]}}.

    Raises OrnsteinError for a file that cannot be read.
    """
    file = folder / NAME
    if not os.path.lexists(file):
        return []
    try:
        listed = read_json(file, root=folder)["history"]
        return [{"step": int(each["step"]), "changes": dict(each["changes"])} for each in listed]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise OrnsteinError(f"{file} cannot be read ({error}); move it away: going on writes a new one") from error


def add(folder: Path, step: int, before: Settings, after: Settings) -> None:
    """Writes what differs between the settings so far and those from this step on; nothing where nothing does."""
    theirs, mine = before.to_dict(), after.to_dict()
    changes = {key: [theirs[key], mine[key]] for key in KEYS if theirs[key] != mine[key]}
    history = entries(folder)
    entry = {"step": step, "changes": changes}
    if changes and entry not in history[-1:]:  # else a kill came between this file and the settings
        write_json(folder / NAME, {"history": [*history, entry]})


def described(folder: Path) -> list[str]:
    """A line for each change, for people."""
    lines = []
    for each in entries(folder):
        changes = (f"{key} {before} -> {after}" for key, (before, after) in each["changes"].items())
        lines.append(f"from step {each['step']:,}: {', '.join(changes)}")
    return lines
