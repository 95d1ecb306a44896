"""Samples drawn into files as they come: what `sample` and `demo` share."""

import os
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ornstein.cli.guidance_flags import steps_of
from ornstein.cli.options import Sample
from ornstein.cli.printing import duration, say
from ornstein.errors import OrnsteinError, UsageError
from ornstein.meter import Meter
from ornstein.processes import ALONE, Processes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ornstein.data import DataSpec
    from ornstein.files.output import Output
    from ornstein.guidance import GuidanceConfig
    from ornstein.path import Path as GaussianPath
    from ornstein.runs import ConditionBatch, Label, Run
    from ornstein.solvers import Solver

    Write = Callable[[int, NDArray[Any]], None]

PIECE = 256  # batches for which conditions are made at once
MOST_SIDE = 1 << 24
MOST_STEPS = 4096  # a table has a row and a column for each


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
    same way; if `out` is a default, the samples go next to it then.
    """
    from ornstein.cli import condition_flags
    from ornstein.data.images import SampleFolder
    from ornstein.files.output import Output, digest, must_have_room, unused
    from ornstein.guidance import PLAIN
    from ornstein.runs.conditioning import condition_rows
    from ornstein.runs.sampling import sized

    guide = guide or PLAIN
    numbers = range(options.first, options.first + options.count)
    shape = sides(trained, options.size)
    spec = trained.spec if shape is None else sized(trained, shape, "--size")
    named = f"{options.count:,} samples (numbers {numbers[0]} to {numbers[-1]} of seed {options.seed})"
    if condition is None and label is not None:
        condition_rows(trained, 1 if isinstance(label, (int, str)) else options.count, label)
    into_folder = os.path.isdir(out) or not out.suffix
    about = made_by(trained, options, solver, guide, condition, label)
    whole = digest({**about, "first": options.first, "count": options.count, "columns": columns})
    output = unused(out, whole, options.force) if by_default else Output(out, whole, options.force)
    out = output.path
    row = condition_flags.place(trained, condition, Output(out, whole, options.force))
    with ExitStack() as held:
        if into_folder:

            def looked_at() -> SampleFolder:
                folder = SampleFolder(out, about, spec, options.force, trained.spec.source)
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
                writing = _file(output, options.count, spec, columns)
                return held.enter_context(writing) if processes.is_first else _nowhere

            runs, write = [numbers], processes.on_all(begun)
        to_make = sum(map(len, runs))
        if to_make == 0:
            say(f"{out.resolve()} holds all {named} already.")
            return
        if options.compile:
            compiling(trained, guide, min(options.count, options.batch_size or trained.model.batch_size))
        say(recipe(trained.model.path, solver, steps_of(options), guide))
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
                label_index=options.label_index,
                guide=guide,
                condition=None if condition is None else condition.part(run.start - numbers[0], run.stop - numbers[0]),
                solver=solver,
                steps=steps_of(options),
                seed=options.seed,
                first=number,
                batch_size=options.batch_size,
                shape=shape,
            ):
                yield number, batch
                number += len(batch)

        made, began = 0, time.monotonic()
        first_images: NDArray[Any] | None = None

        def keep(number: int, batch: "NDArray[Any]") -> None:
            nonlocal made, first_images
            write(number, batch) if trained.spec.may_lack else _write_finite(write, number, batch)
            first_images = batch[:8] if first_images is None else first_images
            made, seconds = made + len(batch), time.monotonic() - began
            done = min(made * (processes.count if into_folder else 1), to_make)
            left = duration(seconds * (to_make / done - 1))
            speed = f"{done / seconds:,.1f} {trained.spec.traits.plural}/s"
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
        say(f"With the inputs: {row.path.resolve()}")


def recipe(path: "GaussianPath", solver: "Solver", steps: int, guide: "GuidanceConfig") -> str:
    """The solver, its times and guidance in full: names such as "2M" mean different things in different programs."""
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


def compiling(trained: "Run", guide: "GuidanceConfig", rows: int) -> None:
    """Compile the network for batches of so many rows, with a warning where it stays as it is."""
    with Meter("compiling") as meter:
        meter.update(0.0, "comparing answers with those of the network as written: a minute or so")
        if (reason := trained.compile(guide, rows)) is not None:
            warnings.warn(f"{reason}; sampling goes on without compiling", stacklevel=2)
        meter.update(1.0, "the network stays as written" if reason else "the answers are the same")


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


def sides(trained: "Run", size: str | None) -> tuple[int, ...] | None:
    """The sides that --size names, one for all or each. Raises UsageError for what names none."""
    if size is None:
        return None
    axes = trained.spec.traits.spatial
    if not axes:
        raise UsageError(
            f"--size: {trained.folder} makes {trained.spec.traits.plural}, which have no sides; leave it out"
        )
    try:
        given = [int(side) for side in size.split(",")]
    except ValueError:
        given = []
    if len(given) not in (1, axes) or not all(0 < side <= MOST_SIDE for side in given):
        raise UsageError(f"--size {size}: give a whole number, or {axes} of them with commas between")
    return tuple(given * axes if len(given) < axes else given)


@contextmanager
def _file(output: "Output", count: int, spec: "DataSpec", columns: int | None) -> "Iterator[Write]":
    """Within, what writes the samples from a number on into one file: an array that is never in memory whole, or an image."""
    import numpy as np

    from ornstein.data.column_spec import ColumnSpec
    from ornstein.data.images import grid_image, must_be_a_grid, new_npz, save_grid
    from ornstein.data.origins import form_of
    from ornstein.data.scatter import scatter_image
    from ornstein.data.table_writing import new_table

    if output.path.suffix.lower() == ".npz":
        with new_npz(output, (count, *spec.item_shape), np.dtype(spec.dtype)) as append:
            yield lambda number, batch: append(batch)
        return
    if isinstance(spec, ColumnSpec):
        with new_table(output, spec.columns) as append:
            yield lambda number, batch: append(batch)
        return
    if (form := form_of(spec)) is not None and output.path.name.lower().endswith(form.endings):
        with form.new(output, count, spec) as append:
            yield lambda number, batch: append(batch)
        return
    arrays: list[NDArray[Any]] = []
    if not spec.traits.drawn:
        yield lambda number, batch: arrays.append(batch)
        save_grid(scatter_image(np.concatenate(arrays)), output)
        return
    must_be_a_grid(output.path, count, spec, columns)
    yield lambda number, batch: arrays.append(batch)
    save_grid(grid_image(np.concatenate(arrays), columns, spec=spec), output)


def made_by(
    trained: "Run",
    options: Sample,
    solver: "Solver",
    guide: "GuidanceConfig",
    condition: "ConditionBatch | None",
    label: "Label | None",
) -> dict[str, Any]:
    """All that samples depend on but their numbers."""
    times = solver.grid(trained.model.path, steps_of(options)).tolist()
    return {
        "model": trained.weights_hash,
        "solver": options.solver,
        "times": times,
        "label": label if label is None or isinstance(label, (int, str)) else list(label),
        **({} if options.label_index is None else {"label_index": options.label_index}),
        **({} if condition is None else {"condition": condition.digest}),
        **({} if options.size is None else {"size": options.size}),
        "seed": options.seed,
        **({} if guide.plain else {"guidance": str(guide)}),
    }
