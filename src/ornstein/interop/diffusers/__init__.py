"""diffusers, both ways: its models as denoisers (`denoiser`, `codec`), and our solvers as its scheduler (`Scheduler`).

    from ornstein.interop.diffusers import Scheduler
    pipe.scheduler = Scheduler.from_config(pipe.scheduler.config)

Imported when first used; only loading folders and the scheduler need diffusers itself (the extra `diffusers`).
"""

import importlib
from typing import TYPE_CHECKING, Any

from ornstein.extras import library

if TYPE_CHECKING:
    from ornstein.interop.diffusers.config import convention
    from ornstein.interop.diffusers.models import Codec, codec, denoiser
    from ornstein.interop.diffusers.scheduler import Scheduler

_HOME = {"convention": "config", "Codec": "models", "codec": "models", "denoiser": "models", "Scheduler": "scheduler"}
__all__ = ["Codec", "Scheduler", "codec", "convention", "denoiser"]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        if name == "Scheduler":
            library("diffusers", name)
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
