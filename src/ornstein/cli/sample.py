"""`ornstein sample`."""

import os
import re
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ornstein.cli import guidance_flags
from ornstein.cli.options import Sample
from ornstein.cli.parse import parse, within
from ornstein.cli.show import Meter, duration, say
from ornstein.errors import OrnsteinError, UsageError
from ornstein.processes import ALONE, Processes, joined

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ornstein.data import DataSpec
    from ornstein.files.output import Output
    from ornstein.guidance import GuidanceConfig
    from ornstein.path import Path as GaussianPath
    from ornstein.runs import ConditionBatch, Label, Run
    from ornstein.solvers import Solver

    Write = Callable[[int, NDArray[Any]], None]

ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".npz", "")
PIECE = 256  # batches for which conditions are made at once
MOST_STEPS = 4096  # a table has a row and a column for each


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
    guide = guidance_flags.guide(options, trained)
    solver = guidance_flags.solver(options, trained, options.label, guide)
    if options.out:
        _must_be_a_place(Path(options.out).expanduser(), options, trained)
    out = Path(options.out).expanduser() if options.out else _default_out(options, trained, guide)
    try:
        condition = requested(trained, options)
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
    if trained.spec.kind == "vector" and out.suffix.lower() not in (".npz", ""):
        raise UsageError(f"--out {out}: {options.run} makes vectors, which are no images; give a .npz file or a folder")
    if not os.path.isdir(out) and out.suffix.lower() not in ENDINGS:
        raise UsageError(
            f"--out {out} has an ending that is not known; use .png for a grid, .npz, or none for a folder"
        )


def compiling(trained: "Run", guide: "GuidanceConfig", rows: int) -> None:
    """Compile the network for batches of so many rows, with a warning where it stays as it is."""
    with Meter("compiling") as meter:
        meter.update(0.0, "comparing answers with those of the network as written: a minute or so")
        if (reason := trained.compile(guide, rows)) is not None:
            warnings.warn(f"{reason}; sampling goes on without compiling", stacklevel=2)
        meter.update(1.0, "the network as written is kept" if reason else "the answers are the same")


def requested(trained: "Run", options: Sample) -> "ConditionBatch | None":
    """What the flags ask for besides a class, read from their files; None where they ask for nothing."""
    from ornstein.cli import condition_flags
    from ornstein.runs import ConditionBatch

    condition = condition_flags.read(trained, options.condition, options.mask, options.text)
    if condition is None:
        return None
    rows = trained.condition_rows(options.count, options.label, condition)
    return None if rows is None else ConditionBatch(rows)


def draw(
    trained: "Run",
    out: Path,
    options: Sample,
    solver: "Solver",
    label: "Label | None",
    columns: int | None = None,
    guide: "GuidanceConfig | None" = None,
    condition: "ConditionBatch | None" = None,
    processes: Processes = ALONE,
    by_default: bool = False,
) -> None:
    """Draw the samples that the options ask for into `out` as they come, saying how they are made and where they are.

    Into a folder that holds some of them already, only the others are drawn. Several processes make a batch each in turn; into
    a folder each writes its own, into a file the first one all. What is at `out` already is replaced only if it was made in the
    same way; if `out` is a default, the samples go beside it then.
    """
    from ornstein.cli import condition_flags
    from ornstein.data.images import SampleFolder
    from ornstein.files.output import Output, digest, must_have_room, unused
    from ornstein.guidance import PLAIN

    guide = guide or PLAIN
    numbers = range(options.first, options.first + options.count)
    named = f"{options.count:,} samples (numbers {numbers[0]} to {numbers[-1]} of seed {options.seed})"
    if condition is None and label is not None:
        trained.condition_rows(1 if isinstance(label, (int, str)) else options.count, label)
    into_folder = os.path.isdir(out) or not out.suffix
    about = _made(trained, options, solver, guide, condition, label)
    whole = digest({**about, "first": options.first, "count": options.count, "columns": columns})
    output = unused(out, whole, options.force) if by_default else Output(out, whole, options.force)
    out = output.path
    row = condition_flags.place(trained, condition, Output(out, whole, options.force))
    with ExitStack() as held:
        if into_folder:

            def looked_at() -> SampleFolder:
                folder = SampleFolder(out, about, trained.spec, options.force, trained.spec.source)
                must_have_room(out, 0, sum(map(len, folder.missing(numbers))))
                if row is not None:
                    row.check()
                return folder

            folder = processes.on_all(looked_at)  # none writes before all have looked
            processes.on_first(lambda: held.enter_context(folder.filling()))
            runs = processes.on_all(lambda: folder.missing(numbers))
            write: Write = folder.write
        else:

            def begun() -> "Write":
                output.check()
                if row is not None:
                    row.check()
                writing = _file(output, options.count, trained.spec, columns)
                return held.enter_context(writing) if processes.is_first else _nowhere

            runs, write = [numbers], processes.on_all(begun)
        to_make = sum(map(len, runs))
        if to_make == 0:
            say(f"{out.resolve()} holds all {named} already.")
            return
        if options.compile:
            compiling(trained, guide, min(options.count, options.batch_size or trained.model.batch_size))
        say(recipe(trained.model.path, solver, options.steps, guide))
        if to_make < options.count:
            say(f"{out} holds {options.count - to_make:,} of the {options.count:,} samples already; making the others.")
        size = PIECE * (options.batch_size or trained.model.batch_size)
        if processes.count > 1:
            size = min(options.batch_size or trained.model.batch_size, -(-to_make // processes.count))
        pieces = (run[i : i + size] for run in runs for i in range(0, len(run), size))

        def make(run: range) -> "Iterator[tuple[int, NDArray[Any]]]":
            number = run.start
            for batch in trained.batches(
                len(run),
                label=label if label is None or isinstance(label, (int, str)) else [label[i - numbers[0]] for i in run],
                guide=guide,
                condition=None if condition is None else condition.part(run.start - numbers[0], run.stop - numbers[0]),
                solver=solver,
                steps=options.steps,
                seed=options.seed,
                first=number,
                batch_size=options.batch_size,
            ):
                yield number, batch
                number += len(batch)

        made, began = 0, time.monotonic()
        first_images: NDArray[Any] | None = None

        def keep(number: int, batch: "NDArray[Any]") -> None:
            nonlocal made, first_images
            _write_finite(write, number, batch)
            first_images = batch[:8] if first_images is None else first_images
            made, seconds = made + len(batch), time.monotonic() - began
            done = min(made * (processes.count if into_folder else 1), to_make)
            left = duration(seconds * (to_make / done - 1))
            speed = f"{done / seconds:,.1f} {trained.spec.kind}s/s"
            meter.update(done / to_make, f"{done:,} of {to_make:,}  {speed}  {left} left")

        def work() -> None:
            while turn := list(islice(pieces, processes.count)):
                mine = make(turn[processes.rank]) if processes.rank < len(turn) else iter(())
                if into_folder or processes.count == 1:
                    for number, batch in mine:
                        keep(number, batch)
                else:
                    _together(processes, mine, keep)

        try:
            with Meter("sampling", patience=1.0) as meter:
                processes.on_all(work) if into_folder else work()
            processes.on_all(held.close)
        except KeyboardInterrupt as stopped:
            reason = str(stopped) or "stopped"
            stopped.args = (f"{reason}; nothing is written to {out}",)
            if into_folder:
                left = sum(map(len, folder.missing(numbers)))
                so_far = f"{out} holds {options.count - left:,} of the {options.count:,} samples"
                stopped.args = (f"{reason}; {so_far}, and the same command makes the others",)
            raise
    say(f"{named} in {duration(time.monotonic() - began)}: {out.resolve()}")
    if row is not None and condition is not None and first_images is not None and processes.is_first:
        condition_flags.show(trained, condition, first_images, row)
        say(f"Beside what was given: {row.path.resolve()}")


def _together(
    processes: Processes, mine: "Iterator[tuple[int, NDArray[Any]]]", keep: "Callable[[int, NDArray[Any]], None]"
) -> None:
    """The batches of all processes, written by the first one, in the order of their numbers."""
    parts = processes.gather(list(mine))

    def work() -> None:
        for part in parts:
            for number, batch in part:
                keep(number, batch)

    processes.on_all(work)


def _nowhere(number: int, batch: "NDArray[Any]") -> None:
    """Another process writes."""


def _write_finite(write: "Write", number: int, batch: "NDArray[Any]") -> None:
    """Writes a batch up to its first sample that is not finite, of which it raises OrnsteinError."""
    from ornstein.data.images import first_not_finite

    bad = first_not_finite(batch)
    if bad is None:
        write(number, batch)
        return
    if bad:
        write(number, batch[:bad])
    raise OrnsteinError(
        f"sample {number + bad} holds NaN or infinite numbers, so no more are written; the training has diverged, or the solver "
        "takes too few steps"
    )


@contextmanager
def _file(output: "Output", count: int, spec: "DataSpec", columns: int | None) -> "Iterator[Write]":
    """Within, what writes the samples from a number on into one file: an array that is never in memory whole, or an image."""
    import numpy as np

    from ornstein.data.images import grid_image, must_be_a_grid, new_npz, save_grid

    if output.path.suffix.lower() == ".npz":
        with new_npz(output, (count, *spec.item_shape), np.dtype(spec.dtype)) as append:
            yield lambda number, batch: append(batch)
        return
    must_be_a_grid(output.path, count, spec, columns)
    arrays: list[NDArray[Any]] = []
    yield lambda number, batch: arrays.append(batch)
    save_grid(grid_image(np.concatenate(arrays), columns, spec=spec), output)


def _made(
    trained: "Run",
    options: Sample,
    solver: "Solver",
    guide: "GuidanceConfig",
    condition: "ConditionBatch | None",
    label: "Label | None",
) -> dict[str, Any]:
    """All that samples depend on but their numbers."""
    times = solver.grid(trained.model.path, options.steps).tolist()
    return {
        "model": trained.weights_hash,
        "solver": options.solver,
        "times": times,
        "label": label if label is None or isinstance(label, (int, str)) else list(label),
        **({} if condition is None else {"condition": condition.digest}),
        "seed": options.seed,
        **({} if guide.plain else {"guidance": str(guide)}),
    }


def recipe(path: "GaussianPath", solver: "Solver", steps: int, guide: "GuidanceConfig") -> str:
    """What exactly is done: names such as "2M" mean different things in different programs."""
    from ornstein.solvers import TableSolver

    grid = solver.grid(path, steps)
    times = [f"{t:.3g}" for t in grid.tolist()]
    some_times = times if len(times) <= 7 else [*times[:3], "...", *times[-3:]]
    calls = "network calls as its loop needs"
    if isinstance(solver, TableSolver):
        table = solver.table(path, grid)
        first = f" (the first at {float(table.times[0]):.3g})" if table.times[0] < grid[0] else ""
        calls = f"{table.calls} network calls{first}"
    noise = "fresh noise in each step" if solver.stochastic else "no fresh noise"
    return f"{solver}: {len(times) - 1} steps, {calls}, {noise}, times {' '.join(some_times)} on {path}, {guide}."


def _default_out(options: Sample, trained: "Run", guide: "GuidanceConfig") -> Path:
    label = f"-label-{options.label.replace('/', '-')}" if options.label is not None else ""
    label += "" if options.text is None else "-" + re.sub(r"\W+", "-", options.text)[:40].strip("-")
    label += "" if options.condition is None else "-given-" + re.sub(r"[^\w.]+", "-", Path(options.condition).stem)[:40]
    suffix = "" if guide.plain else f"-{guide.slug}"
    name = f"samples{label}{suffix}-seed-{options.seed}-{guidance_flags.slug(options.solver)}-{options.steps}"
    return trained.folder / (name + (".npz" if trained.spec.kind == "vector" else ".png"))
