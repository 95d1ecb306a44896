"""The data that commands ask a trained run about, and what is noted beside every figure."""

import platform
from typing import TYPE_CHECKING

from ornstein.cli.show import Meter
from ornstein.errors import OrnsteinError, UsageError

if TYPE_CHECKING:
    from ornstein.data import Dataset
    from ornstein.runs import Run


def opened(trained: "Run", source: str | None) -> "Dataset":
    """The data of a source (None: the training's), brought to the run's size and channels as the training data were.

    Vectors take the mean and deviation of the training. Raises UsageError for data of another shape than the run's.
    """
    from ornstein import data

    settings = trained.settings
    name = str(settings["data"]) if source is None else source
    with Meter(f"reading {name}", patience=1.0) as meter:
        found = data.open(
            name,
            size=settings.get("size"),
            channels=settings.get("channels"),
            progress=lambda done, total: meter.update(done / total, f"{done:,} of {total:,}"),
        )
    spec, run = found.spec, trained.spec
    if (spec.kind, spec.shape) != (run.kind, run.shape):
        raise UsageError(
            f"--data {name} holds {spec.kind}s of shape {spec.shape}, but {trained.folder} makes {run.kind}s of {run.shape}"
        )
    if settings.get("text") is not None:
        from ornstein.conditions import encoded

        found = encoded(found, str(settings["text"]))
    return found.in_units_of(run)


def real_data(trained: "Run", source: str | None) -> "tuple[Dataset, Dataset | None]":
    """The real data to compare with and the training data, the same object where they are the same.

    Without a source the training data are compared with. The training data are None where they are not there any more.
    Raises UsageError for data of another shape than the run's.
    """
    from ornstein.data.content import is_of

    chosen = opened(trained, source)
    if is_of(chosen, trained.spec.content_hash):
        return chosen, chosen
    try:
        training = opened(trained, None)
    except OrnsteinError:
        return chosen, None
    return chosen, training if is_of(training, trained.spec.content_hash) else None


def versions() -> dict[str, str]:
    """Of what the numbers were made with."""
    import numpy
    import torch

    from ornstein import __version__

    return {
        "ornstein": __version__,
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "python": platform.python_version(),
    }
