"""`ornstein distil`."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from shlex import quote

from ornstein.cli import following
from ornstein.cli.options import Distil
from ornstein.cli.parse import parse
from ornstein.cli.printing import say
from ornstein.cli.real_data import why_closed
from ornstein.errors import UsageError
from ornstein.processes import joined
from ornstein.settings import Settings


def run(words: Sequence[str]) -> int:
    """Train a flow map from a run, beginning with the run's own weights; the same command again goes on where it stopped."""
    options = parse(Distil, "distil", words)
    if not options.out:
        raise UsageError("distil needs --out; give for example --out runs/NAME-few")
    if options.steps is not None and options.minutes is not None:
        raise UsageError("give --steps or --minutes, not both")
    from ornstein.runs import load

    teacher = load(options.run)
    if teacher.model.is_own:
        raise UsageError(
            f"{options.run} has a network of your own; distil it in Python with ornstein.train(…, few_steps=…)"
        )
    reason = None if options.data is not None else why_closed(teacher)
    if reason is not None:
        raise UsageError(f"name the data that {options.run} was trained on by --data: {reason}")
    settings = _settings(options, Settings(**teacher.settings))
    with joined() as processes:
        dataset = processes.in_turn(lambda: following.read(settings))
        from ornstein.learn import start_from
        from ornstein.training.trainer import FolderTraining

        training = processes.on_all(lambda: FolderTraining(settings, dataset, tell=say))
        processes.on_all(lambda: start_from(teacher, training.model.network, say))
        say(following.describe(training))
        return following.follow(training, " ".join([processes.command("distil"), *map(quote, words)]))


def _settings(options: Distil, base: Settings) -> Settings:
    """Those of the run, but for what is distilled, how long, and where to."""
    length = {"steps": options.steps, "minutes": options.minutes}
    if options.steps is None and options.minutes is None:
        length["minutes"] = MINUTES
    return replace(
        base,
        **length,  # type: ignore[arg-type]
        out=options.out,
        data=options.data if options.data is not None else base.data,
        device=options.device,
        seed=options.seed,
        few_steps=options.method,
        teacher=str(Path(options.run)),
        teacher_guidance=options.guidance,
        learning_rate=options.learning_rate,
        batch_size=base.batch_size if options.batch_size is None else options.batch_size,
        uncertainty=False,
        learned_variance=False,
        compile=False,
        precision=None,
        threads=None,
        solver="abm",
        log=None,
    )


MINUTES = 5.0
