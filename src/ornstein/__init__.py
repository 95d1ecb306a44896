"""Ornstein: diffusion, score-based and flow-matching generative models on one algebra.

The public names are loaded when they are first used, so `import ornstein` does not import torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

from ornstein._version import __version__

if TYPE_CHECKING:
    from ornstein.denoiser import Denoiser, NetworkDenoiser
    from ornstein.estimate import Estimate
    from ornstein.inference import calibrate, posterior
    from ornstein.learn import Trainer, distil, train
    from ornstein.noise import BrownianNoise, PerSampleNoise
    from ornstein.runs import load
    from ornstein.sampling import encode, sample, trajectory
    from ornstein.table import Step, Table
    from ornstein.training.loggers import Logger


_HOME = {
    "BrownianNoise": "noise",
    "Denoiser": "denoiser",
    "Logger": "training.loggers",
    "NetworkDenoiser": "denoiser",
    "Estimate": "estimate",
    "PerSampleNoise": "noise",
    "Trainer": "learn",
    "calibrate": "inference",
    "load": "runs",
    "posterior": "inference",
    "sample": "sampling",
    "distil": "learn",
    "train": "learn",
    "trajectory": "sampling",
    "encode": "sampling",
    "Step": "table",
    "Table": "table",
}
_MODULES = (
    *(
        "chart",
        "coupling",
        "data",
        "denoiser",
        "editing",
        "errors",
        "estimate",
        "exact",
        "export",
        "grid",
        "guidance",
        "inference",
        "interop",
        "likelihood",
        "metrics",
        "model",
        "networks",
        "noise",
        "objective",
        "names",
        "path",
        "preconditioning",
        "processes",
    ),
    *("runs", "sampling", "sde", "solvers", "table", "target", "tilting", "training", "tuning", "verify"),
)
__all__ = [
    "BrownianNoise",
    "Denoiser",
    "Estimate",
    "Logger",
    "NetworkDenoiser",
    "PerSampleNoise",
    "Step",
    "Table",
    "Trainer",
    "__version__",
    "calibrate",
    "distil",
    "encode",
    "load",
    "posterior",
    "sample",
    "train",
    "trajectory",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"ornstein.{_HOME[name]}"), name)
    if name in _MODULES:
        return importlib.import_module(f"ornstein.{name}")
    raise AttributeError(f"module 'ornstein' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME, *_MODULES})
