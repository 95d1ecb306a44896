"""What a client asks for: values of a JSON object, each read by name with its bounds. Every mistake is a UsageError."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ornstein.errors import UsageError, brief
from ornstein.spelling import near

LONGEST = 500  # characters of a text


class Fields:
    """The values of one request. What is read is taken out; `end` refuses what is left."""

    def __init__(self, values: Any) -> None:
        if not isinstance(values, Mapping):
            raise UsageError("the request is no JSON object; send one, such as {}")
        self._values = dict(values)

    def whole(self, name: str, default: int, least: int, most: int) -> int:
        """A whole number within bounds."""
        value = self._take(name, default)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if type(value) is not int or not least <= value <= most:
            raise UsageError(f"{name}: {brief(value)} must be a whole number from {least} to {most}")
        return value

    def number(self, name: str, default: float, least: float, most: float) -> float:
        """A finite number within bounds."""
        value = self._take(name, default)
        if type(value) not in (int, float) or not math.isfinite(value) or not least <= value <= most:
            raise UsageError(f"{name}: {brief(value)} must be a number from {least:g} to {most:g}")
        return float(value)

    def choice(self, name: str, default: str, choices: Collection[str]) -> str:
        """One of some names."""
        value = self._take(name, default)
        if not isinstance(value, str) or value not in choices:
            nearest = near(value, choices) if isinstance(value, str) else None
            hint = f"; did you mean {nearest!r}?" if nearest else ""
            raise UsageError(f"{name}: {brief(value)} is not one of {', '.join(choices)}{hint}")
        return value

    def text(self, name: str, default: str = "") -> str:
        """A short text."""
        value = self._take(name, default)
        if not isinstance(value, str) or len(value) > LONGEST:
            raise UsageError(f"{name}: {brief(value)} must be a text of at most {LONGEST} characters")
        return value

    def flag(self, name: str, default: bool = False) -> bool:
        """True or false."""
        value = self._take(name, default)
        if type(value) is not bool:
            raise UsageError(f"{name}: {brief(value)} must be true or false")
        return value

    def numbers(self, name: str, default: Sequence[float], length: int, largest: float) -> list[float]:
        """So many finite numbers, none larger than `largest` by its size."""
        value = self._take(name, list(default))
        if (
            not isinstance(value, list)
            or len(value) != length
            or not all(type(v) in (int, float) and math.isfinite(v) and abs(v) <= largest for v in value)
        ):
            raise UsageError(f"{name}: {brief(value)} must be {length} numbers of at most {largest:g}")
        return [float(v) for v in value]

    def bits(self, name: str, length: int) -> NDArray[np.bool_]:
        """So many of 0 and 1, as a text."""
        value = self._take(name, "")
        if not isinstance(value, str) or len(value) != length or value.strip("01"):
            raise UsageError(f"{name}: {brief(value)} must be a text of {length} of 0 and 1")
        return np.frombuffer(value.encode(), np.uint8) == ord("1")

    def names(self, name: str, default: Sequence[str], choices: Collection[str], least: int, most: int) -> list[str]:
        """Some of some names, each once."""
        value = self._take(name, list(default))
        if not isinstance(value, list) or not least <= len(value) <= most or not all(isinstance(v, str) for v in value):
            raise UsageError(f"{name}: {brief(value)} must be a list of {least} to {most} names")
        if len(set(value)) < len(value):
            raise UsageError(f"{name}: {brief(value)} names one of them twice")
        return [Fields({name: v}).choice(name, "", choices) for v in value]

    def end(self) -> None:
        """Raises UsageError for a field that nothing reads."""
        if self._values:
            raise UsageError(f"{brief(next(iter(self._values)))} is not a field of this request")

    def _take(self, name: str, default: Any) -> Any:
        value = self._values.pop(name, None)
        return default if value is None else value
