"""`ornstein impute`."""

import os
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ornstein.cli import guidance_flags
from ornstein.cli.drawing import MOST_STEPS
from ornstein.cli.options import Impute
from ornstein.cli.parse import parse, within
from ornstein.cli.printing import say
from ornstein.cli.table_input import read_rows, table_output
from ornstein.errors import OrnsteinError, UsageError
from ornstein.meter import Meter

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ornstein.files.output import Output
    from ornstein.guidance import GuidanceConfig
    from ornstein.runs import Run
    from ornstein.solvers import Solver

ENDINGS = (".npy", ".npz")
ELSEWHERE = {"run", "data", "out", "force", "device", "batch_size"}


def run(words: Sequence[str]) -> int:
    """Fill the holes of items with draws, and write them."""
    options = parse(Impute, "impute", words)
    within(options, draws=(1, 10**6), steps=(1, MOST_STEPS), seed=(0, 2**63 - 1), batch_size=(1, 2**20))
    guidance_flags.must_name_solver(options.solver)
    parts = _quantiles(options)
    import numpy as np

    from ornstein.data.column_spec import ColumnSpec
    from ornstein.data.images import first_not_finite
    from ornstein.data.table_files import is_table
    from ornstein.device import choose_device
    from ornstein.files.output import Output, digest, must_have_room, unused
    from ornstein.runs import load
    from ornstein.runs.conditioning import with_known

    trained = load(options.run, choose_device(options.device))
    if is_table(options.data) and (isinstance(trained.spec, ColumnSpec) or not trained.spec.origin):
        return _table(options, trained)
    with_known(trained, None, None)
    options = guidance_flags.settled(options, trained)
    guide = guidance_flags.guide(options, trained)
    items, content = _items(options.data, trained)
    holes = int(np.isnan(items).sum()) if items.dtype.kind == "f" else 0
    if not holes:
        raise UsageError(f"{options.data} has no holes: no number of it is NaN, so there is nothing to fill")
    solver = _solver(options, trained, items, guide)
    flags = {key: value for key, value in asdict(options).items() if key not in ELSEWHERE}
    recipe = digest({"command": "impute", "model": trained.weights_hash, "items": content, **flags})
    name = f"imputed-{re.sub(r'[^A-Za-z0-9_.-]+', '-', Path(options.data).stem)}-seed-{options.seed}.npy"
    out = Path(options.out).expanduser() if options.out else trained.folder / name
    if out.suffix.lower() not in ENDINGS or os.path.isdir(out):
        raise UsageError(f"--out {out} has an ending that is not known; give a .npy or a .npz file")
    output = Output(out, recipe, options.force) if options.out else unused(out, recipe, options.force)
    output.check()
    must_have_room(out, (len(parts) or options.draws) * items.size * np.dtype(trained.spec.dtype).itemsize)
    filled = _filled(options, trained, items, guide, solver)
    bad = first_not_finite(filled.reshape(-1, *trained.spec.item_shape))
    if bad is not None:
        raise OrnsteinError(
            f"draw {bad} holds NaN or infinite numbers, so none is written; the training has diverged, or the solver takes too "
            "few steps"
        )
    each = f"{options.draws:,} draws of each" if options.draws > 1 else "one draw of each"
    if parts:
        made = np.quantile(filled, parts, axis=0, method="linear" if filled.dtype.kind == "f" else "nearest")
        write(output, made.astype(filled.dtype))
        each = f"{len(parts)} quantiles of {each}"
    else:
        write(output, filled[0] if options.draws == 1 else filled)
    say(f"{holes:,} holes of {filled.shape[1]:,} {trained.spec.traits.plural} filled, {each}: {output.path.resolve()}")
    return 0


def _quantiles(options: Impute) -> list[float]:
    """The parts of --quantiles, none without it. Raises UsageError for what is no part, and for too few draws."""
    if options.quantiles is None:
        return []
    try:
        parts = [float(part) for part in options.quantiles.split(",")]
    except ValueError:
        parts = []
    if not parts or not all(0 <= part <= 1 for part in parts):
        raise UsageError(f"--quantiles {options.quantiles}: give parts from 0 to 1, such as 0.05,0.5,0.95")
    if options.draws < 2:
        raise UsageError("--quantiles are of several draws; give for example --draws 100")
    return parts


def _solver(options: Impute, trained: "Run", items: "NDArray[Any]", guide: "GuidanceConfig") -> "Solver":
    """The solver of the flags, for conditions as these items are."""
    from ornstein.runs import ConditionBatch
    from ornstein.runs.conditioning import condition_rows

    some = items[:2] if items.shape != trained.spec.item_shape else items[None]
    rows = condition_rows(trained, len(some), options.label, known=some)
    return guidance_flags.solver(options, trained, None, guide, None if rows is None else ConditionBatch(rows))


def _items(name: str, trained: "Run") -> "tuple[NDArray[Any], str]":
    """Items with NaN in their holes, and a hash of what was read."""
    import numpy as np

    from ornstein.data.arrays import plain_items
    from ornstein.files.output import digest_of

    file = Path(name).expanduser()
    if file.suffix.lower() in ENDINGS and file.is_file():
        return np.asarray(plain_items(file)), digest_of(file)
    if trained.spec.origin:
        from ornstein import data

        opened = data.open(name, like=trained.spec, missing="mask")
        return np.asarray(opened.items), opened.spec.content_hash
    raise UsageError(f"{file}: there is no such table, nor .npy or .npz of items with NaN in their holes; give one")


def _table(options: Impute, trained: "Run") -> int:
    """Fill the empty cells of a table."""
    import numpy as np

    from ornstein.data.cells import NumberCells
    from ornstein.data.column_spec import ColumnSpec
    from ornstein.data.columns import Column
    from ornstein.data.table_writing import new_table
    from ornstein.runs.conditioning import with_known

    spec = trained.spec
    if options.quantiles is not None:
        raise UsageError("--quantiles of a table are what `ornstein predict` writes; leave it out")
    if not isinstance(spec, ColumnSpec):
        raise UsageError(
            f"{options.data}: {trained.folder} was trained on {spec.traits.plural}; give a .npy or .npz of them"
        )
    with_known(trained, None, None)
    flags = {key: value for key, value in asdict(options).items() if key not in ELSEWHERE}
    options = guidance_flags.settled(options, trained)
    guide = guidance_flags.guide(options, trained)
    rows, digest = read_rows(trained, options.data)
    holes = int(np.isnan(rows).sum())
    if not holes:
        raise UsageError(
            f"{options.data} has no holes: no cell of the run's columns is empty, so there is nothing to fill"
        )
    solver = _solver(options, trained, rows, guide)
    name = f"imputed-{Path(options.data).stem}-seed-{options.seed}.csv"
    output = table_output(trained, options.out, name, {"command": "impute", "rows": digest, **flags}, options.force)
    filled = _filled(options, trained, rows, guide, solver)
    columns = list(spec.columns)
    if options.draws > 1:
        taken = [column.name for column in columns]
        draw = next(name for name in ("draw", "_draw", "__draw") if name not in taken)
        columns.insert(0, Column(draw, "integer", NumberCells(0, False, ".", True), constant=1.0))
    with new_table(output, columns) as append:
        for number, some in enumerate(filled, 1):
            append(np.insert(some, 0, number, axis=1) if options.draws > 1 else some)
    each = f"{options.draws:,} draws of each" if options.draws > 1 else "one draw of each"
    say(f"{holes:,} holes of {len(rows):,} rows filled, {each}: {output.path.resolve()}")
    return 0


def _filled(
    options: Impute, trained: "Run", items: "NDArray[Any]", guide: "GuidanceConfig", solver: "Solver"
) -> "NDArray[Any]":
    """The draws of items (draws, N, ...), with progress."""
    with Meter("filling", patience=1.0) as meter:
        return trained.impute(
            items,
            options.draws,
            label=options.label,
            guide=guide,
            solver=solver,
            steps=guidance_flags.steps_of(options),
            seed=options.seed,
            batch_size=options.batch_size,
            progress=lambda done, total: meter.update(done / total, f"{done:,} of {total:,}"),
        )


def write(output: "Output", array: "NDArray[Any]") -> None:
    """Write an array as .npy, the stamp behind it, or as the `samples` of a .npz."""
    import numpy as np

    if output.path.suffix.lower() == ".npz":
        from ornstein.data.images import new_npz

        with new_npz(output, array.shape, array.dtype) as append:
            append(array)
        return
    with output.write() as file, file.open("wb") as stream:
        np.save(stream, array, allow_pickle=False)
        stream.write(output.stamp.encode() + b"\n   \n")  # readers stop at the end of the array
