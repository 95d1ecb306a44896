"""`ornstein export`."""

from collections.abc import Sequence
from shlex import quote

from ornstein.cli import guidance_flags
from ornstein.cli.drawing import MOST_STEPS
from ornstein.cli.options import Export
from ornstein.cli.parse import parse, within
from ornstein.cli.printing import say
from ornstein.errors import UsageError
from ornstein.names import FORMATS, SOLVERS, pick


def run(words: Sequence[str]) -> int:
    """Write a run in a format of other programs, and say how it is used there."""
    options = parse(Export, "export", words)
    within(options, steps=(1, MOST_STEPS))
    pick("to", options.to, dict.fromkeys(FORMATS))
    out = options.out
    if out is None:
        raise UsageError(f"export needs a place to write to; give for example --out {options.to}{_ending(options.to)}")
    guidance_flags.must_name_solver(options.solver)
    from ornstein import export
    from ornstein.runs import load
    from ornstein.solvers.solver import TableSolver

    trained = load(options.run)
    options = guidance_flags.settled(options, trained)
    guide = guidance_flags.guide(options, trained)
    solver = guidance_flags.solver(options, trained, None, guide)
    if not isinstance(solver, TableSolver):
        tables = [name for name in SOLVERS if isinstance(SOLVERS[name], TableSolver)]
        raise UsageError(f"--solver {options.solver} is no table that a file can hold; give one of {', '.join(tables)}")
    files = export.write(
        trained,
        FORMATS.pick(options.to),
        out,
        solver=solver,
        steps=options.steps,
        guide=guide,
        force=options.force,
    )
    for file in files:
        say(f"Written: {file.resolve()}")
    say(f"The loop: {options.solver} in {options.steps} steps, {guide}, of {quote(options.run)}.")
    return 0


def _ending(name: str) -> str:
    return str(FORMATS.pick(name).ending)
