"""The layout of a run folder, which is recognised by its contents, not by its name or by a lock."""

from __future__ import annotations

import os
from pathlib import Path

from ornstein.errors import OrnsteinError, UsageError
from ornstein.files.reading import read_json, read_yaml

SETTINGS = "config.yaml"
DESCRIPTION = "model/config.json"
FOLDERS = ("checkpoints", "model", "samples", "averages")  # that a training writes into
METRICS_MOST = 1 << 30  # bytes of metrics, a thousand times those of a training of a million steps
WRITTEN = {"data", "path", "target", "batch_size"}  # keys that the settings of every training hold


def is_run(folder: Path) -> bool:
    """Whether a folder holds a model, or the settings of a training.

    A file of settings that cannot be read counts: whoever reads it says what is wrong with it.
    """
    if os.path.lexists(folder / DESCRIPTION):
        return True
    try:
        return read_yaml(folder / SETTINGS, root=folder).keys() >= WRITTEN
    except (OSError, ValueError):
        return os.path.lexists(folder / SETTINGS)


def is_imported(folder: Path) -> bool:
    """Whether a run folder refers to a model of another library, by its description."""
    try:
        return "imported" in read_json(folder / DESCRIPTION, root=folder)["network"]
    except (OSError, ValueError, LookupError, TypeError):
        return False


def must_be_run(folder: Path, error: type[OrnsteinError] = UsageError) -> None:
    """Raises UsageError for what is no folder, `error` for a folder that is no run."""
    try:
        there = folder.is_dir()
    except (OSError, ValueError):  # a name that no folder can have
        there = False
    if not there:
        raise UsageError(f"{folder} is no folder; give the --out of a training run")
    if not is_run(folder):
        raise error(
            f"{folder} is no run folder: it has no settings of a training in {SETTINGS}, and {folder / DESCRIPTION} is missing, "
            "so it holds no trained model yet; give the --out of a training run"
        )
