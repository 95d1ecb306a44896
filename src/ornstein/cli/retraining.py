"""Runs that begin with the weights of another run: shared by `distil` and `reflow`."""

from collections.abc import Sequence
from dataclasses import replace
from shlex import quote
from typing import TYPE_CHECKING, Any

from ornstein.cli import following
from ornstein.cli.options import Distil, Reflow
from ornstein.cli.parse import within
from ornstein.cli.printing import say
from ornstein.errors import UsageError
from ornstein.processes import Processes
from ornstein.settings import Settings

if TYPE_CHECKING:
    from ornstein.runs import Run

MINUTES = 5.0
STRONGEST = 1e6  # guidance scale, beyond any use


def check(options: Distil | Reflow, example: str) -> None:
    """Raises UsageError for flags that no new run can have; `example` is an --out."""
    within(options, seed=(0, 2**63 - 1), guidance=(-STRONGEST, STRONGEST))
    if not options.out:
        raise UsageError(f"{type(options).__name__.lower()} needs --out; give for example --out {example}")
    if options.steps is not None and options.minutes is not None:
        raise UsageError("give --steps or --minutes, not both")


def must_be_a_library_network(teacher: "Run", otherwise: str) -> None:
    """Raises UsageError for a run of an own network, whose class no command knows."""
    if teacher.model.is_imported:
        raise UsageError(
            f"{teacher.folder} is an imported model, which is sampled, measured and tuned, but not trained; give a run of "
            "`ornstein train`"
        )
    if teacher.model.is_own:
        raise UsageError(f"{teacher.folder} has a network of your own; {otherwise}")


def must_take_no_known_numbers(teacher: "Run", made: str) -> None:
    """Raises UsageError for a run of --given; `made` says what its weights cannot begin."""
    if teacher.model.conditions.known is not None:
        raise UsageError(
            f"{teacher.folder} was trained to take known numbers, and {made} takes none; train a run with --given none for that"
        )


def settings_of(options: Distil | Reflow, teacher: "Run", /, **changes: Any) -> Settings:
    """The settings of the teacher, but for how long is trained, where to, and `changes`."""
    base = Settings(**teacher.settings)
    open_length = options.steps is None and options.minutes is None
    return replace(
        base,
        steps=options.steps,
        minutes=MINUTES if open_length else options.minutes,
        out=options.out,
        device=options.device,
        seed=options.seed,
        learning_rate=options.learning_rate,
        batch_size=base.batch_size if options.batch_size is None else options.batch_size,
        uncertainty=False,
        learned_variance=False,
        compile=False,
        precision=None,
        threads=None,
        solver=None,
        sample_steps=None,
        log=None,
        **changes,
    )


def train(teacher: "Run", settings: Settings, processes: Processes, command: str, words: Sequence[str]) -> int:
    """Train by the settings from the teacher's weights to the end, or until a signal; the exit code."""
    from ornstein.learn import start_from

    training = following.begun(settings, processes)
    processes.on_all(lambda: start_from(teacher, training.model, say))
    say(following.describe(training))
    return following.follow(training, " ".join([processes.command(command), *map(quote, words)]))
