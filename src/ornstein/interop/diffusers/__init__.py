"""diffusers: its models as denoisers (`denoiser`, `codec`), its schedulers' configurations as conventions (`convention`).

Imported when first used; only loading folders needs diffusers itself (the extra `diffusers`).
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ornstein.interop.diffusers.config import convention
    from ornstein.interop.diffusers.models import Codec, codec, denoiser

_HOME = {"convention": "config", "Codec": "models", "codec": "models", "denoiser": "models"}
__all__ = ["Codec", "codec", "convention", "denoiser"]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
