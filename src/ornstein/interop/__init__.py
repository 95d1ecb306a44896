"""Other libraries' models and programs: a convention is a value (`Convention`), a wrapped network a denoiser (`wrap`).

One small module a library, imported when it is first used: `interop.diffusers`, `interop.k_diffusion`, `interop.edm`,
`interop.flows` (SiT, torchcfm, flow_matching), `interop.score_sde`, `interop.guided_diffusion`, `interop.lucidrains`,
`interop.azula`, `interop.onnx`. None of them needs its library to be installed, unless it loads files by it.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ornstein.interop.convention import Convention, wrap

_VALUES = ("Convention", "wrap")
_MODULES = (
    "azula",
    "convention",
    "diffusers",
    "edm",
    "flows",
    "guided_diffusion",
    "imported",
    "k_diffusion",
    "lucidrains",
    "onnx",
    "score_sde",
)
__all__ = ["Convention", "wrap"]


def __getattr__(name: str) -> Any:
    if name in _VALUES:
        return getattr(importlib.import_module("ornstein.interop.convention"), name)
    if name in _MODULES:
        return importlib.import_module(f"ornstein.interop.{name}")
    raise AttributeError(f"module 'ornstein.interop' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_VALUES, *_MODULES})
