"""The runs of a studio. Clients name them by ids; a path comes from the command line alone."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

from ornstein.errors import OrnsteinError, UsageError, brief
from ornstein.folder.layout import must_be_run
from ornstein.names import SOLVERS
from ornstein.terminal import clean

if TYPE_CHECKING:
    from ornstein.runs import Run

WEIGHTS = "model/model.safetensors"


@dataclass(eq=False)
class Place:
    """A run folder: its id, its name, and the run in it, loaded when it is first used and again when its weights change."""

    id: str
    folder: Path
    device: str = "cpu"

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._run: Run | None = None
        self._stamp: tuple[int, ...] | None = None

    @cached_property
    def name(self) -> str:
        """The folder's name, as text."""
        return clean(self.folder.resolve().name or str(self.folder))

    @property
    def quoted(self) -> str:
        """The folder as a word of a command."""
        return quote(clean(str(self.folder)))

    def run(self) -> "Run":
        """The run with the weights that are there now. Raises OrnsteinError where there are none, or they are damaged."""
        from ornstein.runs import load

        with self._lock:
            stamp = _stamp(self.folder / WEIGHTS)
            if self._run is None or stamp != self._stamp:
                self._run, self._stamp = load(self.folder, self.device), stamp
            return self._run

    def described(self) -> dict[str, Any]:
        """What the page needs to know of the run, in plain values; of one without a model, why there is none."""
        about: dict[str, Any] = {"id": self.id, "name": self.name, "folder": clean(str(self.folder))}
        try:
            run = self.run()
        except OrnsteinError as error:
            return {**about, "ready": False, "why": clean(str(error))}
        return {**about, "ready": True, **facts(run)}


def facts(run: "Run") -> dict[str, Any]:
    """A run's data, model and what can be done with it."""
    from ornstein.conditions import RandomMask
    from ornstein.runs.conditioning import has_null

    spec, model = run.spec, run.model
    columns = getattr(spec, "columns", ())
    conditions = model.conditions
    label = conditions.label is not None
    names = [name for part in conditions.parts for name in part.names]
    return {
        "kind": spec.traits.name,
        "plural": spec.traits.plural,
        "drawn": spec.traits.drawn,
        "pixels": spec.traits.pixels,
        "shape": list(spec.shape),
        "item": list(spec.item_shape),
        "cell": list(spec.traits.cell(spec.shape)) if spec.traits.drawn else [],
        "columns": [clean(column.name) for column in columns],
        "categories": [[clean(str(name)) for name in getattr(column.cells, "names", ())] for column in columns],
        "classes": [clean(name) for name in spec.classes] if label else [],
        "conditions": [clean(part.description) for part in conditions.parts],
        "text": "text" in names,
        "vector": next((part.arguments["vector"] for part in conditions.parts if "vector" in part.names), 0),
        "image": conditions.image is not None,
        "mask": conditions.image is not None and isinstance(conditions.image.degradation, RandomMask),
        "past": pasts(run),
        "guided": bool(conditions) and has_null(run),
        "path": str(model.path),
        "target": str(model.target),
        "parameters": sum(p.numel() for p in model.network.parameters()),
        "network": type(model.network).__name__,
        "source": clean(spec.source),
        "count": spec.count,
        "solver": model.solver,
        "steps": model.steps,
        "aim": model.takes_aim,
        "solvers": solvers_of(run),
        "tuned": tuned_steps(run),
    }


def solvers_of(run: "Run") -> dict[str, list[str]]:
    """The names of solvers that a run can be sampled with: of the ODE, and those that add noise."""
    from ornstein.extras import is_there
    from ornstein.solvers import AIMED, LearnedAncestral

    usable = [
        name
        for name in SOLVERS
        if (run.model.takes_aim or SOLVERS[name] not in AIMED)
        and (run.model.has_variances or not isinstance(SOLVERS[name], LearnedAncestral))
        and (name != "ode" or is_there("torchdiffeq"))
    ]
    return {
        "ode": [name for name in usable if not SOLVERS[name].stochastic],
        "sde": [name for name in usable if SOLVERS[name].stochastic],
    }


def pasts(run: "Run") -> list[int]:
    """The least and the most places of a series that can be given to forecast the rest; empty where a run does not forecast."""
    from ornstein.conditions import Gaps, Past

    part = run.model.conditions.known
    if part is None or run.spec.traits.axes != "CL":
        return []
    if isinstance(part.law, Past):
        return [part.law.length] * 2
    return [1, run.spec.shape[1] - 1] if isinstance(part.law, Gaps) else []


def tuned_steps(run: "Run") -> list[int]:
    """The steps of the solvers that were tuned to a run for all labels without guidance."""
    try:
        names = [file.name for file in (run.folder / "tuned").iterdir()]
    except OSError:
        return []
    steps = [name.removeprefix("steps-").removesuffix(".json") for name in names if name.startswith("steps-")]
    return sorted(int(number) for number in steps if number.isascii() and number.isdigit() and len(number) < 4)


class Shelf:
    """The runs, by id."""

    def __init__(self, folders: Sequence[Path], device: str = "cpu") -> None:
        for folder in folders:
            must_be_run(folder)
        self.places = {f"run-{i}": Place(f"run-{i}", folder, device) for i, folder in enumerate(folders)}

    def place(self, number: str) -> Place:
        """The run of an id. Raises UsageError."""
        place = self.places.get(number)
        if place is None:
            raise UsageError(f"run: {brief(number)} is not open in this studio; give one of {', '.join(self.places)}")
        return place


def _stamp(file: Path) -> tuple[int, ...] | None:
    try:
        stat = file.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino
