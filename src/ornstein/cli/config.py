"""Settings from a YAML file, checked key by key."""

from dataclasses import fields
from difflib import get_close_matches
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_type_hints

from ornstein.errors import UsageError
from ornstein.training.settings import KEYS, Settings

WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a word"}
WRITTEN = ("version",)  # keys that a run folder's config.yaml holds besides the settings


def read(file: Path) -> dict[str, Any]:
    """The settings in a YAML file. Raises UsageError naming the file and the key that is unknown or of the wrong type."""
    import yaml

    try:
        values = yaml.safe_load(file.read_text())
    except OSError as error:
        raise UsageError(f"--config: {file} cannot be read ({error.strerror}); give a YAML file of settings") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"--config: {file} is not YAML ({reason}); write one `key: value` a line") from error
    if not isinstance(values, dict):
        raise UsageError(f"--config: {file} holds no settings; write one `key: value` a line, such as `batch_size: 64`")
    types = get_type_hints(Settings)
    return {
        _known(str(key), file): _checked(value, str(key).replace("-", "_"), types, file)
        for key, value in values.items()
        if key not in WRITTEN
    }


def _known(key: str, file: Path) -> str:
    name = key.replace("-", "_")
    if name in KEYS:
        return name
    near = get_close_matches(name, KEYS, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"the keys are {', '.join(f.name for f in fields(Settings))}"
    raise UsageError(f"{file}: there is no setting {key!r}; {hint}")


def _checked(value: Any, key: str, types: dict[str, Any], file: Path) -> Any:
    if key not in types:  # told by name already
        return value
    allowed = get_args(types[key]) or (types[key],)
    kind = next(a for a in allowed if a is not NoneType)
    if value is None and NoneType in allowed:
        return None
    if kind is float and isinstance(value, str):  # YAML 1.1 reads 1e-3 as a word
        try:
            return float(value)
        except ValueError:
            pass
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise UsageError(f"{file}: {key} is {value!r} and must be {WORDS[kind]}")
    return value
