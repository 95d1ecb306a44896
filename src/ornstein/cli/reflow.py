"""`ornstein reflow`."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from shlex import quote

from ornstein.cli import following
from ornstein.cli.options import Reflow
from ornstein.cli.parse import parse, within
from ornstein.cli.printing import say
from ornstein.errors import UsageError
from ornstein.meter import Meter
from ornstein.processes import joined
from ornstein.settings import Settings

MINUTES = 5.0


def run(words: Sequence[str]) -> int:
    """Make pairs of a run, and train a run on them from its weights; the same command again goes on where it stopped."""
    options = parse(Reflow, "reflow", words)
    within(options, pairs=(1, 10**9), seed=(0, 2**63 - 1), solver_steps=(2, 4096), guidance=(-math.inf, math.inf))
    if not options.out:
        raise UsageError("reflow needs --out; give for example --out runs/NAME-straight")
    if options.steps is not None and options.minutes is not None:
        raise UsageError("give --steps or --minutes, not both")
    from ornstein.device import choose_device
    from ornstein.guidance import GuidanceConfig
    from ornstein.runs import load
    from ornstein.runs.pairs import make_pairs

    with joined() as processes:
        teacher = load(options.run, choose_device(options.device, processes))
        if teacher.model.is_own:
            raise UsageError(
                f"{options.run} has a network of your own; make its pairs in Python with ornstein.runs.pairs.make_pairs"
            )
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
        settings = _settings(options, Settings(**teacher.settings), place)
        dataset = processes.in_turn(lambda: following.read(settings))
        from ornstein.learn import start_from
        from ornstein.training.trainer import FolderTraining

        training = processes.on_all(lambda: FolderTraining(settings, dataset, tell=say))
        processes.on_all(lambda: start_from(teacher, training.model.network, say))
        say(following.describe(training))
        return following.follow(training, " ".join([processes.command("reflow"), *map(quote, words)]))


def _settings(options: Reflow, base: Settings, pairs: Path) -> Settings:
    """Those of the run, but for what is learned, how long, and where to."""
    length = {"steps": options.steps, "minutes": options.minutes}
    if options.steps is None and options.minutes is None:
        length["minutes"] = MINUTES
    return replace(
        base,
        **length,  # type: ignore[arg-type]
        out=options.out,
        data=str(pairs),
        size=None,
        channels=None,
        coupling="pairs",
        device=options.device,
        seed=options.seed,
        learning_rate=options.learning_rate,
        batch_size=base.batch_size if options.batch_size is None else options.batch_size,
        few_steps=None,
        teacher=None,
        teacher_guidance=1.0,
        flips=False,
        augment=0.0,
        hold_out=0.0,
        balance=False,
        uncertainty=False,
        learned_variance=False,
        compile=False,
        precision=None,
        threads=None,
        solver="abm",
        log=None,
    )
