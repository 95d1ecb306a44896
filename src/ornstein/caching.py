"""Results that are functions of frozen values alone, computed once: runs that repeat the same grid and table find them."""

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any, ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")


def cached(function: Callable[P, R]) -> Callable[P, R]:
    """Decorator: a result is computed once for equal arguments, where none of them can change. Callers leave it as it is."""
    stored = lru_cache(function)

    @wraps(function)
    def call(*args: P.args, **values: P.kwargs) -> R:
        if values or not all(map(_is_fixed, args)):
            return function(*args, **values)
        return stored(*args)

    return call


def _is_fixed(value: Any) -> bool:
    """Whether a value cannot change: numbers, tuples of them, types of torch, and frozen dataclasses that can be a key."""
    if type(value) in (int, float, tuple, torch.dtype):
        return True
    parameters: Any = getattr(type(value), "__dataclass_params__", None)
    if parameters is None or not parameters.frozen:
        return False
    try:
        hash(value)
    except TypeError:
        return False
    return True
