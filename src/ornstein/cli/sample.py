"""`ornstein sample`."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ornstein.cli.options import Sample
from ornstein.cli.parse import parse
from ornstein.cli.show import Meter, duration, say
from ornstein.errors import UsageError

if TYPE_CHECKING:
    from ornstein.path import Path as GaussianPath
    from ornstein.runs import Label, Run
    from ornstein.solvers import Solver

ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".npz", "")


def run(words: Sequence[str]) -> int:
    """Draw samples and write them."""
    options = parse(Sample, "sample", words)
    if not options.run:
        raise UsageError("sample needs a run folder; give for example `ornstein sample runs/digits`")
    for key, value, least in (("count", options.count, 1), ("steps", options.steps, 1), ("seed", options.seed, 0)):
        if value < least:
            raise UsageError(f"--{key} {value} is too small; give {least} or more")
    if options.batch_size is not None and options.batch_size < 1:
        raise UsageError(f"--batch-size {options.batch_size} is too small; give 1 or more")
    if options.first < 0:
        raise UsageError(f"--first {options.first} is too small; give 0 or more")
    from ornstein.data.images import OURS
    from ornstein.runs import load
    from ornstein.training import build

    solver = build.pick("solver", options.solver, solvers())
    trained = load(options.run, build.device(options.device))
    out = Path(options.out).expanduser() if options.out else _default_out(options, trained)
    if trained.spec.kind == "vector" and out.suffix.lower() not in (".npz", ""):
        raise UsageError(
            f"--out {out}: {options.run} makes vectors, which are no pictures; give a .npz file or a folder"
        )
    if out.is_dir() and not all(OURS.fullmatch(file.name) for file in out.iterdir()):
        raise UsageError(f"--out {out} holds other files; give a new folder")
    if not out.is_dir() and out.suffix.lower() not in ENDINGS:
        raise UsageError(
            f"--out {out} has an ending that is not known; use .png for a grid, .npz, or none for a folder"
        )
    draw(trained, out, options, solver, options.label)
    return 0


def solvers() -> dict[str, "Solver"]:
    """The solvers by the names that the command knows."""
    from ornstein.solvers import DDIM, Ancestral, DPMSolverPP, Euler, EulerMaruyama, Heun

    return {
        "dpmpp": DPMSolverPP(),
        "ddim": DDIM(),
        "ancestral": Ancestral(),
        "euler": Euler(),
        "em": EulerMaruyama(),
        "heun": Heun(),
    }


def draw(
    trained: "Run", out: Path, options: Sample, solver: "Solver", label: "Label | None", columns: int | None = None
) -> None:
    """Draw the samples that the options ask for into `out`, saying how they are made and where they are."""
    import numpy as np

    from ornstein.data import save_images

    batches = trained.batches(
        options.count,
        label=label,
        solver=solver,
        steps=options.steps,
        seed=options.seed,
        first=options.first,
        batch_size=options.batch_size,
    )
    say(recipe(trained.model.path, solver, options.steps))
    arrays, began = [], time.monotonic()
    with Meter("sampling", patience=1.0) as meter:
        for batch in batches:
            arrays.append(batch)
            made, seconds = sum(map(len, arrays)), time.monotonic() - began
            left = duration(seconds * (options.count / made - 1))
            meter.update(
                made / options.count,
                f"{made:,} of {options.count:,}  {made / seconds:,.1f} {trained.spec.kind}s/s  {left} left",
            )
    save_images(np.concatenate(arrays), out, spec=trained.spec, columns=columns)
    seconds = time.monotonic() - began
    numbers = f"{options.first} to {options.first + options.count - 1}"
    say(f"{options.count:,} samples (numbers {numbers} of seed {options.seed}) in {duration(seconds)}: {out.resolve()}")


def recipe(path: "GaussianPath", solver: "Solver", steps: int) -> str:
    """What exactly the solver does: names such as "2M" mean different things in different programs."""
    grid = solver.grid(path, steps)
    table, times = solver.table(path, grid), [f"{t:.3g}" for t in grid.tolist()]
    shown = times if len(times) <= 7 else [*times[:3], "...", *times[-3:]]
    noise = "fresh noise in each step" if table.stochastic else "no fresh noise"
    return f"{solver}: {steps} steps, {table.calls} network calls, {noise}, times {' '.join(shown)} on {path}."


def _default_out(options: Sample, trained: "Run") -> Path:
    label = f"-label-{options.label.replace('/', '-')}" if options.label is not None else ""
    name = f"samples{label}-seed-{options.seed}-{options.solver}-{options.steps}"
    return trained.folder / (name + (".npz" if trained.spec.kind == "vector" else ".png"))
