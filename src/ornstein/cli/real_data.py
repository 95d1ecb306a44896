"""The real data of commands, and the inputs that are recorded with every figure."""

import platform
from pathlib import Path
from typing import TYPE_CHECKING

from ornstein.cli.printing import say
from ornstein.errors import OrnsteinError, UsageError
from ornstein.meter import Meter

if TYPE_CHECKING:
    from ornstein.data import Dataset
    from ornstein.runs import Run


def opened(trained: "Run", source: str) -> "Dataset":
    """The data of a source, brought to the run's size and channels as the training data were, and in the units of the run.

    What is not as in the training (another type, numbers outside its range) is said. Raises UsageError for data of another shape
    than the run's.
    """
    from ornstein import data

    settings = trained.settings
    with Meter(f"reading {source}", patience=1.0) as meter:
        dataset = data.open(
            source,
            size=settings["size"],
            channels=settings["channels"],
            like=trained.spec,
            missing="mask" if trained.spec.missing and source not in data.names() else None,
            progress=lambda done, total: meter.update(done / total, f"{done:,} of {total:,}"),
        )
    spec, run = dataset.spec, trained.spec
    if (spec.kind, spec.shape) != (run.kind, run.shape):
        raise UsageError(
            f"{source} holds {spec.traits.plural} of shape {spec.shape}, but {trained.folder} makes {run.traits.plural} of "
            f"{run.shape}; give other --data"
        )
    if settings["text"] is not None:
        from ornstein.conditions import encoded

        dataset = encoded(dataset, settings["text"])
    dataset, note = trained.model.conditions.matched(dataset)
    if note:
        say(f"Note: {note}")
    adopted, notes = dataset.adopt(run)
    for note in notes:
        say(f"Note: {note}")
    return _possible(adopted)


def _possible(dataset: "Dataset") -> "Dataset":
    """Without the rows of a table that hold what the model has no state for, with a note."""
    import numpy as np

    from ornstein.data.column_spec import ColumnSpec
    from ornstein.data.content import chunks

    spec = dataset.spec
    if not isinstance(spec, ColumnSpec):
        return dataset
    rows = np.concatenate([spec.unseen(chunk).any(1) for chunk in chunks(dataset.items)])
    if not rows.any():
        return dataset
    row = np.asarray(dataset.items[int(rows.argmax())])
    place = int(spec.unseen(row[None]).argmax())
    column, value = spec.columns[place], float(row[place])
    example = "a missing value" if np.isnan(value) else column.cells.text(value)
    note = (
        f"{int(rows.sum()):,} of {len(rows):,} rows of {spec.source} hold what no row of the training data does, such as "
        f"{example} in column {column.name}"
    )
    if rows.all():
        raise UsageError(f"{note}; give other --data")
    say(f"Note: {note}, and are left out; items are counted without them.")
    return dataset.take(np.flatnonzero(~rows))


def real_data(trained: "Run", source: str | None, training: str | None) -> "tuple[Dataset, Dataset | None]":
    """The real data to compare with and the training data, the same object where they are the same.

    A run may come from anywhere: of what its files name only bundled data are opened unasked, everything else when the user
    names it. What is opened is said first. Without a source the training data are compared with; they are None where they are
    neither named nor bundled, or are not there any more.
    Raises UsageError for data of another shape than the run's, other training data than its own, or none to compare with.
    """
    from ornstein.data.content import is_of

    closed = why_closed(trained)
    name = source or training
    if name is None:
        if closed is not None:
            raise UsageError(
                f"{trained.folder} was trained on {trained.spec.source}, which is not opened unasked, since {closed}; name the "
                "data to be opened by --data SRC"
            )
        name = trained.spec.source
        say(f"Data: {name}, which {trained.folder} was trained on; give --data for held-out items.")
    elif (place := _held_out(name)) is not None:
        say(f"Data: {place}, the held-out part of {name}.")
        if training is not None:
            return opened(trained, str(place)), _training(trained, training, closed)
        whole = opened(trained, name)
        is_own = is_of(whole, trained.spec.content_hash)
        return opened(trained, str(place)), _learned(trained, whole) if is_own else None
    else:
        say(f"Data: {name}.")
    chosen = opened(trained, name)
    if is_of(chosen, trained.spec.content_hash):
        part = trained.settings["hold_out"]
        if not part:
            return chosen, chosen
        learned, held = chosen.split(part)
        say(
            f"Held out: {len(held):,} of the {len(chosen):,} items of {name}, which {trained.folder} did not learn from."
        )
        return held, learned
    return chosen, _training(trained, training, closed)


def _held_out(name: str) -> Path | None:
    """The held-out part, test or val, of a folder of the parts of a data set."""
    from ornstein import data
    from ornstein.data.image_files import held_out

    return None if name in data.names() else held_out(Path(name).expanduser())


def _training(trained: "Run", source: str | None, closed: str | None) -> "Dataset | None":
    """The training data, if they are named or bundled, and there."""
    from ornstein.data.content import is_of

    wanted = trained.spec.content_hash
    if source is not None:
        say(f"Training data: {source}.")
        dataset = opened(trained, source)
        if not is_of(dataset, wanted):
            raise UsageError(
                f"--train-data {source} is not what {trained.folder} was trained on ({trained.spec.source}, {wanted}; here "
                f"{dataset.spec.content_hash}); give that, or leave it out"
            )
        return _learned(trained, dataset)
    if closed is not None:
        say(
            f"Note: the training data, {trained.spec.source}, are not opened unasked, since {closed}; "
            "what needs them is left out unless you name them by --train-data."
        )
        return None
    say(f"Training data: {trained.spec.source}.")
    try:
        dataset = opened(trained, trained.spec.source)
    except OrnsteinError as error:
        say(f"Note: the training data are left out: {error}.")
        return None
    return _learned(trained, dataset) if is_of(dataset, wanted) else None


def _learned(trained: "Run", dataset: "Dataset") -> "Dataset":
    """The part of the data that a run was trained on."""
    part = trained.settings["hold_out"]
    return dataset.split(part)[0] if part else dataset


def why_closed(trained: "Run") -> str | None:
    """Why the data that a run's files name are not opened unasked; None for bundled ones."""
    from ornstein import data
    from ornstein.data.sources import name_of

    settings, spec = trained.settings, trained.spec
    if trained.model.is_imported:
        return "it is imported, and its files do not name any"
    if name_of(settings["data"]) != spec.source:
        return f"its config.yaml names {settings['data'] or 'no data'} and its model {spec.source}"
    if spec.source not in data.names():
        return "it is no data set that comes with ornstein or a package of its own"
    if spec.traits.pixels and (settings["size"] or spec.shape[1]) != spec.shape[1]:
        return f"its config.yaml has size {settings['size']} and its model {spec.shape[1]}"
    if spec.traits.pixels and (settings["channels"] or spec.shape[0]) != spec.shape[0]:
        return f"its config.yaml has {settings['channels']} channels and its model {spec.shape[0]}"
    return None


def versions() -> dict[str, str]:
    """The versions of the library and of its dependencies that give the numbers."""
    import numpy
    import torch

    from ornstein._version import __version__

    return {
        "ornstein": __version__,
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "python": platform.python_version(),
    }
