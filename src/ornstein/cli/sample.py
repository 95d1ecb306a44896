"""`ornstein sample`."""

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ornstein.cli import animation, condition_flags, guidance_flags
from ornstein.cli.drawing import MOST_STEPS, draw
from ornstein.cli.options import Sample
from ornstein.cli.parse import parse, within
from ornstein.cli.printing import say_if_busy
from ornstein.errors import OrnsteinError, UsageError
from ornstein.processes import Processes, joined

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ornstein.guidance import GuidanceConfig
    from ornstein.runs import ConditionBatch, Run

    Write = Callable[[int, NDArray[Any]], None]

ENDINGS = (".gif", ".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".npz", "")


def run(words: Sequence[str]) -> int:
    """Draw samples and write them."""
    options = parse(Sample, "sample", words)
    within(
        options,
        count=(1, 10**12),
        steps=(1, MOST_STEPS),
        seed=(0, 2**63 - 1),
        batch_size=(1, 2**20),
        first=(0, 2**62),
    )
    with joined() as processes:
        processes.on_all(lambda: _run(options, processes))
    return 0


def _run(options: Sample, processes: Processes) -> None:
    from ornstein.device import choose_device
    from ornstein.runs import load

    guidance_flags.must_name_solver(options.solver)
    trained = load(options.run, choose_device(options.device, processes))
    options = guidance_flags.settled(options, trained)
    guide = guidance_flags.guide(options, trained)
    label = condition_flags.label_of(trained, options.label, options.label_index)
    condition = requested(trained, options)
    solver = guidance_flags.solver(options, trained, label, guide, condition)
    if options.out:
        _must_be_a_place(Path(options.out).expanduser(), options, trained)
    out = Path(options.out).expanduser() if options.out else _default_out(options, trained, guide)
    try:
        say_if_busy(trained.device)
        if out.suffix.lower() == ".gif" and not os.path.isdir(out):
            if processes.count > 1:
                raise UsageError(f"--out {out}: an animation is made by one process; start it without torchrun")
            animation.draw(trained, out, options, solver, guide, condition)
            return
        draw(
            trained,
            out,
            options,
            solver,
            options.label,
            guide=guide,
            condition=condition,
            processes=processes,
            by_default=not options.out,
        )
    except ImportError as error:
        raise OrnsteinError(str(error)) from error


def _must_be_a_place(out: Path, options: Sample, trained: "Run") -> None:
    """Raises UsageError for a name that says nothing of how the samples are to be written."""
    if trained.spec.traits.ending == ".csv":
        from ornstein.data.table_writing import must_be_writable

        must_be_writable(out)
        return
    if not trained.spec.traits.drawn and out.suffix.lower() in ENDINGS and out.suffix.lower() not in (".npz", ""):
        from ornstein.data.scatter import must_be_drawable

        must_be_drawable(trained.spec.shape[0], f"--out {out}")
    from ornstein.data.origins import form_of

    if (form := form_of(trained.spec)) is not None:
        form.check()
        if out.name.lower().endswith(form.endings):
            return
    if not os.path.isdir(out) and out.suffix.lower() not in ENDINGS:
        raise UsageError(
            f"--out {out} has an ending that is not known; use .png for a grid, .gif for the way from noise to data, .npz, or "
            "none for a folder"
        )


def requested(trained: "Run", options: Sample) -> "ConditionBatch | None":
    """The conditions of the flags besides a class, read from their files; None if there are none.

    Raises UsageError for a run that needs one.
    """
    from ornstein.runs import ConditionBatch
    from ornstein.runs.conditioning import condition_rows, known_numbers, must_have_condition

    condition = condition_flags.read(
        trained, options.condition, options.mask, options.text, options.known, options.where
    )
    if condition is None:
        if options.label is None and options.label_index is None:
            must_have_condition(trained)
        return None
    rows = condition_rows(trained, options.count, options.label, condition, options.label_index)
    return None if rows is None else ConditionBatch(rows, known_numbers(trained, options.count, condition))


def _default_out(options: Sample, trained: "Run", guide: "GuidanceConfig") -> Path:
    label = f"-label-{options.label.replace('/', '-')}" if options.label is not None else ""
    label += "" if options.label_index is None else f"-index-{options.label_index}"
    label += "" if options.text is None else "-" + re.sub(r"\W+", "-", options.text)[:40].strip("-")
    label += "" if options.condition is None else "-given-" + re.sub(r"[^\w.]+", "-", Path(options.condition).stem)[:40]
    label += "" if options.known is None else "-known-" + re.sub(r"[^\w.?]+", "-", Path(options.known).stem)[:40]
    label += "" if options.where is None else "-where-" + re.sub(r"[^\w.=]+", "-", options.where)[:60].strip("-")
    label += "" if options.size is None else "-size-" + re.sub(r"\D+", "x", options.size)
    suffix = "" if guide.plain else f"-{guide.slug}"
    name = f"samples{label}{suffix}-seed-{options.seed}-{guidance_flags.slug(options.solver)}-{options.steps}"
    from ornstein.data.origins import form_of

    form = form_of(trained.spec)
    return trained.folder / (name + (trained.spec.traits.ending if form is None else form.ending))
