"""Settings from a YAML file, checked key by key. Needs no torch.

The file is text that somebody wrote: it may hold anything. Only plain values are made of it (no tags that build objects), it
is read up to a size, and aliases, which let a few lines stand for gigabytes, are refused.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_type_hints

from ornstein.errors import OrnsteinError, UsageError, brief
from ornstein.files.formats import renamed, upgraded_settings
from ornstein.files.reading import read_yaml
from ornstein.settings import KEYS, Settings
from ornstein.spelling import near

WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a word"}
LIMITS = {"ema": (0.0, 12**-0.5), "size": (0, 1 << 20), "batch_size": (0, 1 << 20), "samples": (-1, 10_001)}
"""Limits of settings that other commands than `train` read."""
WRITTEN = ("version",)  # keys that a run folder's config.yaml holds besides the settings


def read(file: Path) -> dict[str, Any]:
    """The settings in a YAML file. Raises UsageError naming the file and the key that is unknown or of the wrong type."""
    values = load(file)
    values = upgraded_settings(values) if "version" in values else renamed(values)
    return checked({_known(key, file): value for key, value in values.items() if key not in WRITTEN}, file)


def of_run(folder: Path) -> dict[str, Any] | None:
    """The settings in a run folder's config.yaml, without keys that this version does not know; None where there is none.

    Raises OrnsteinError naming the file that cannot be read, or the key of the wrong type.
    """
    file = folder / "config.yaml"
    if not os.path.lexists(file):
        return None
    try:
        values = upgraded_settings(load(file, folder))
        known = checked({key: values[key] for key in KEYS if key in values}, file)
        for key, (low, high) in LIMITS.items():
            if key in known and known[key] is not None and not low < known[key] < high:
                raise UsageError(f"{file}: {key} is {brief(known[key])} and must lie between {low:g} and {high:.3g}")
        return known
    except UsageError as error:
        raise OrnsteinError(f"the settings of this run cannot be used: {error}") from error


def settings_of(folder: Path) -> Settings | None:
    """The settings that a run folder was trained with; None where there are none yet.

    Raises OrnsteinError for a config.yaml that cannot be read.
    """
    values = of_run(folder)
    return None if values is None else Settings(**values)


def load(file: Path, root: Path | None = None) -> dict[str, Any]:
    """The keys and values of a YAML file, which within `root` is no link.

    Raises UsageError naming the file when it cannot be read or is no such file.
    """
    try:
        values = read_yaml(file, root)
    except OSError as error:
        reason = error.strerror or "it is no file"
        raise UsageError(f"{file} cannot be read ({reason}); give a YAML file of settings") from error
    except ValueError as error:
        raise UsageError(
            f"{file} holds no settings ({error}); write one `key: value` a line, such as `batch_size: 64`"
        ) from error
    return {key if isinstance(key, str) else brief(key): value for key, value in values.items()}


def checked(values: Mapping[str, Any], file: Path) -> dict[str, Any]:
    """The values of known keys in their own types. Raises UsageError naming the file and the key of the wrong type."""
    types = get_type_hints(Settings)
    return {key: _checked(value, key, types, file) for key, value in values.items()}


def _known(key: str, file: Path) -> str:
    name = key.replace("-", "_")
    if name in KEYS:
        return name
    nearest = near(name, KEYS)
    hint = f"did you mean {nearest!r}?" if nearest else f"the keys are {', '.join(KEYS)}"
    raise UsageError(f"{file}: there is no setting {brief(key)}; {hint}")


def _checked(value: Any, key: str, types: dict[str, Any], file: Path) -> Any:
    allowed = get_args(types[key]) or (types[key],)
    kind = next(a for a in allowed if a is not NoneType)
    if value is None and NoneType in allowed:
        return None
    if kind is float and isinstance(value, (int, str)) and not isinstance(value, bool):
        try:  # YAML 1.1 reads 1e-3 as a word
            return float(value)
        except (ValueError, OverflowError):
            pass
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise UsageError(f"{file}: {key} is {brief(value)} and must be {WORDS[kind]}")
    if kind is int and abs(value) >= 1 << 63:
        raise UsageError(f"{file}: {key} is {brief(value)} and must be a number of less than 64 bits")
    return value
