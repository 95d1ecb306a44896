"""The training data of a run, where they come with the library: of what a run's files name, nothing else is opened unasked."""

import threading
from typing import TYPE_CHECKING

from ornstein.errors import UsageError

if TYPE_CHECKING:
    from ornstein.data import Dataset
    from ornstein.runs import Run

_held: dict[str, "Dataset"] = {}
_lock = threading.Lock()


def training_data(run: "Run") -> "Dataset":
    """What a run was trained on, in its units. Raises UsageError where these are no bundled data, or other ones now."""
    from ornstein import data
    from ornstein.data.content import is_of
    from ornstein.data.sources import name_of

    spec, settings = run.spec, run.settings
    if name_of(settings["data"]) != spec.source or spec.source not in data.names():
        raise UsageError(
            f"this run was trained on {spec.source}, which does not come with the library and is not opened unasked; "
            "`ornstein evaluate` and `ornstein diagnose` take it by --data"
        )
    with _lock:
        if spec.content_hash not in _held:
            dataset = data.open(spec.source, size=settings["size"], channels=settings["channels"], like=spec)
            if not is_of(dataset, spec.content_hash):
                raise UsageError(f"{spec.source} is not what this run was trained on any more")
            if settings["text"] is not None:
                from ornstein.conditions import encoded

                dataset = encoded(dataset, settings["text"])
            _held[spec.content_hash] = run.model.conditions.matched(dataset)[0].adopt(spec)[0]
        return _held[spec.content_hash]


def learned(run: "Run") -> "Dataset":
    """The part of it that the run learned from."""
    part = run.settings["hold_out"]
    whole = training_data(run)
    return whole.split(part)[0] if part else whole


def held_out(run: "Run") -> "Dataset":
    """The part that it did not learn from; all where there is none."""
    part = run.settings["hold_out"]
    whole = training_data(run)
    return whole.split(part)[1] if part else whole
