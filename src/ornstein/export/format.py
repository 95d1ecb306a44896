"""What a format of export is, and the one function that writes any."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from ornstein.errors import UsageError
from ornstein.export.loop import Loop
from ornstein.files.output import digest
from ornstein.guidance.config import PLAIN, Guidance
from ornstein.runs import Run
from ornstein.solvers import Solver


class ExportFormat(Protocol):
    """A way out of this library, best a frozen dataclass."""

    ending: str
    """Of the file's name; empty for a folder."""

    def write(self, loop: Loop, out: Path, recipe: str, force: bool) -> list[Path]:
        """Write the run of a loop, and the loop where the format has a place for it; the files, first the main one.

        `recipe` is the digest by which a file is known as this export's (`ornstein.files.output`).
        """


def write(
    run: Run,
    form: ExportFormat,
    out: str | Path,
    *,
    solver: Solver | str | None = None,
    steps: int | None = None,
    guide: Guidance = PLAIN,
    force: bool = False,
) -> list[Path]:
    """Export a run; the files that were written, first the main one.

    solver, steps, guide: of the loop that goes with the network, as in `Run.sample`. Nothing but an export of the same run with
    the same choices is written over, unless by `force`. Raises UsageError for a name with another ending, a model that the
    format has no way to say, a run of a table or of an imported model, and a place that is taken; MissingExtra for a library
    that is not installed, OrnsteinError where the disk refuses.
    """
    if run.spec.may_lack:
        raise UsageError(
            f"{run.folder} was trained on a table, whose columns no other program turns into cells; use `ornstein sample`"
        )
    place = Path(out).expanduser()
    if place.suffix.lower() != form.ending:
        named = f"a {form.ending} file" if form.ending else "a folder, whose name has no ending"
        raise UsageError(f"--out {out}: this format is {named}; give such a name")
    if run.model.is_imported:
        raise UsageError(f"{run.folder} is an imported model, which is not exported; export it where it came from")
    loop = Loop(run, solver, steps, guide)
    _, table = loop.times_and_table()
    recipe = {
        "command": "export",
        "format": type(form).__name__,
        "model": run.weights_hash,
        "table": table.to_dict(),
        "guidance": str(loop.guide),
        "scales": loop.scales(table.times[:-1]),
    }
    return form.write(loop, place, digest(recipe), force)


def loop_file_of(out: Path) -> Path:
    """The file of the loop that belongs to a network's."""
    return out.with_name(f"{out.name}.json")


def must_be_built_in(run: Run, what: str) -> None:
    """Raises UsageError for a network that no file says how to build."""
    if run.model.is_own:
        raise UsageError(
            f"{run.folder} has a network of its own, {type(run.model.network).__name__}, which no file says how to build, so "
            f"there can be no {what} of it; export it as onnx or torch"
        )


def metadata(loop: Loop, stamp: str) -> Mapping[str, str]:
    """What is written into a file with the network."""
    return {"stamp": stamp, "made by": f"ornstein, from weights {loop.run.weights_hash}"}


def example(loop: Loop, count: int) -> tuple[Any, ...]:
    """Inputs of the network for a batch of so many, to trace it with."""
    import torch

    model = loop.run.model
    place: dict[str, Any] = {"device": model.device, "dtype": model.dtype}
    x, c_noise = torch.randn(count, *model.spec.shape).to(**place), torch.linspace(0.2, 0.8, count).to(**place)
    rows = tuple(
        row.to(model.device, model.dtype) if row.is_floating_point() else row.to(model.device)
        for row in model.conditions.null(count)
    )
    aim = (torch.linspace(0.1, 0.7, count).to(**place),) if model.takes_aim else ()
    return x, c_noise, *rows, *aim
