"""The data beside a run: those that the command line names, or its training data where these come with the library. Of what a
run's files name, nothing else is opened unasked."""

import threading
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ornstein.errors import UsageError
from ornstein.terminal import clean

if TYPE_CHECKING:
    from ornstein.data import Dataset
    from ornstein.runs import Run

_held: dict[tuple[str, str], "StudioData"] = {}
_lock = threading.Lock()
HELD = 8  # opened data that are kept


class StudioData(NamedTuple):
    """Data in the units of a run, and whether it was trained on them."""

    dataset: "Dataset"
    trained: bool

    @property
    def source(self) -> str:
        """Where they come from, for a command."""
        return clean(self.dataset.spec.source)

    @property
    def name(self) -> str:
        """The same without folders, for the page."""
        return self.source if self.source.startswith("hf:") else Path(self.source).name


def reference(run: "Run", named: str | None) -> StudioData:
    """The data `named`, or else what the run was trained on. Raises UsageError where there are none, or they do not fit."""
    from ornstein import data
    from ornstein.data.content import is_of
    from ornstein.data.sources import name_of

    spec, settings = run.spec, run.settings
    if named is None and (name_of(settings["data"]) != spec.source or spec.source not in data.names()):
        raise UsageError(
            f"this run was trained on {spec.source}, which does not come with the library and is not opened unasked; upload "
            "data here, or start the studio with --data"
        )
    source = spec.source if named is None else named
    key = (source, spec.content_hash)
    with _lock:
        if key not in _held:
            dataset = data.open(source, size=settings["size"], channels=settings["channels"], like=spec)
            trained = is_of(dataset, spec.content_hash)
            if named is None and not trained:
                raise UsageError(f"{source} is not what this run was trained on any more")
            if settings["text"] is not None:
                from ornstein.conditions import encoded

                dataset = encoded(dataset, settings["text"])
            while len(_held) >= HELD:
                del _held[next(iter(_held))]
            _held[key] = StudioData(run.model.conditions.matched(dataset)[0].adopt(spec)[0], trained)
        return _held[key]


def learned(run: "Run", named: str | None = None) -> StudioData:
    """Of training data the part that the run learned from; all of others."""
    return _part(run, named, 0)


def held_out(run: "Run", named: str | None = None) -> StudioData:
    """Of training data the part that the run did not learn from, where there is one; all of others."""
    return _part(run, named, 1)


def _part(run: "Run", named: str | None, place: int) -> StudioData:
    whole, part = reference(run, named), run.settings["hold_out"]
    return whole._replace(dataset=whole.dataset.split(part)[place]) if part and whole.trained else whole
