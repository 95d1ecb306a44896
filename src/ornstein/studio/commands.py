"""The command, and the lines of Python, that repeat what a view shows."""

from collections.abc import Mapping, Sequence
from shlex import quote
from typing import TYPE_CHECKING, Any

from ornstein.terminal import clean

if TYPE_CHECKING:
    from ornstein.studio.shelf import Place


def command(name: str, words: Sequence[str], flags: Mapping[str, Any]) -> str:
    """`ornstein NAME WORDS --flag value`; flags that are None are left out, those that are True have no value."""
    parts = ["ornstein", name, *words]
    for flag, value in flags.items():
        if value is None:
            continue
        parts.append(flag)
        if value is not True:
            parts.append(quote(clean(_short(value))))
    return " ".join(parts)


def python(place: "Place", call: str, arguments: Mapping[str, Any]) -> str:
    """Two lines: one that loads the run, one that calls it. Arguments that are None are left out."""
    words = ", ".join(
        _value(value) if name.isdigit() else f"{name}={_value(value)}"
        for name, value in arguments.items()
        if value is not None
    )
    return f"{loading(place)}\nresult = run.{call}({words})"


def loading(place: "Place", *more: str) -> str:
    """The line that loads the run."""
    return "; ".join(["import ornstein", *more, f"run = ornstein.load({clean(str(place.folder))!r})"])


class Code(str):
    """Python that is not quoted."""


def _value(value: Any) -> str:
    if isinstance(value, Code):
        return value
    return clean(repr(value))


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
