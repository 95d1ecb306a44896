"""`ornstein reflow`."""

from collections.abc import Sequence
from pathlib import Path

from ornstein.cli import retraining
from ornstein.cli.options import Reflow
from ornstein.cli.parse import parse, within
from ornstein.cli.printing import say
from ornstein.errors import UsageError
from ornstein.meter import Meter
from ornstein.processes import joined


def run(words: Sequence[str]) -> int:
    """Make pairs of a run, and train a run on them from its weights; the same command again goes on where it stopped."""
    options = parse(Reflow, "reflow", words)
    within(options, pairs=(1, 10**9), solver_steps=(2, 4096))
    retraining.check(options, "runs/NAME-straight")
    from ornstein.device import choose_device
    from ornstein.guidance import GuidanceConfig
    from ornstein.runs import load
    from ornstein.runs.pairs import make_pairs

    with joined() as processes:
        teacher = load(options.run, choose_device(options.device, processes))
        retraining.must_be_a_library_network(teacher, "make its pairs in Python with ornstein.runs.pairs.make_pairs")
        retraining.must_take_no_known_numbers(teacher, "a model of pairs")
        if options.guidance != 1 and teacher.model.conditions.label is None:
            raise UsageError(f"--guidance {options.guidance:g}: {options.run} has no classes to guide to; leave it out")
        place = Path(options.out).expanduser() / "pairs"

        def make() -> None:
            with Meter("pairs", patience=1.0) as meter:
                make_pairs(
                    teacher,
                    place,
                    options.pairs,
                    guide=GuidanceConfig(options.guidance),
                    steps=options.solver_steps,
                    seed=options.seed,
                    progress=lambda made: meter.update(made / options.pairs, f"{made:,} of {options.pairs:,}"),
                )
            say(f"{options.pairs:,} pairs of noise and sample: {place}")

        processes.on_first(make)
        settings = retraining.settings_of(
            options,
            teacher,
            data=str(place),
            size=None,
            channels=None,
            coupling="pairs",
            few_steps=None,
            teacher=None,
            teacher_guidance=1.0,
            flips=False,
            augment=0.0,
            hold_out=0.0,
            balance=False,
            balance_by=None,
        )
        return retraining.train(teacher, settings, processes, "reflow", words)
