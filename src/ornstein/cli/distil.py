"""`ornstein distil`."""

from collections.abc import Sequence
from pathlib import Path

from ornstein.cli import retraining
from ornstein.cli.options import Distil
from ornstein.cli.parse import parse
from ornstein.cli.real_data import why_closed
from ornstein.errors import UsageError
from ornstein.processes import joined


def run(words: Sequence[str]) -> int:
    """Train a flow map from a run, beginning with the run's own weights; the same command again goes on where it stopped."""
    options = parse(Distil, "distil", words)
    retraining.check(options, "runs/NAME-few")
    from ornstein.runs import load

    teacher = load(options.run)
    retraining.must_be_a_library_network(teacher, "distil it in Python with ornstein.distil")
    retraining.must_take_no_known_numbers(teacher, "a flow map")
    reason = None if options.data is not None else why_closed(teacher)
    if reason is not None:
        raise UsageError(f"name the data that {options.run} was trained on by --data: {reason}")
    settings = retraining.settings_of(
        options,
        teacher,
        data=options.data if options.data is not None else teacher.settings["data"],
        few_steps=options.method,
        teacher=str(Path(options.run)),
        teacher_guidance=options.guidance,
    )
    with joined() as processes:
        return retraining.train(teacher, settings, processes, "distil", words)
