"""`ornstein train`."""

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from ornstein.cli.following import begun, describe, follow, gflop
from ornstein.cli.options import Train
from ornstein.cli.parse import parse, within
from ornstein.cli.printing import say, table
from ornstein.errors import OrnsteinError, UsageError
from ornstein.folder import config
from ornstein.processes import joined
from ornstein.settings import Settings

if TYPE_CHECKING:
    from ornstein.training.trainer import FolderTraining


def run(words: Sequence[str]) -> int:
    """Train, or go on training, or with --dry-run say what would be trained."""
    options = _options(words)
    settings = Settings(**{f.name: getattr(options, f.name) for f in fields(Settings)})
    within(options, profile=(1, 10**9))
    for key, example in (("data", "--data digits or --data FOLDER"), ("out", "--out runs/NAME")):
        if not getattr(settings, key):
            raise UsageError(f"train needs --{key}; give for example {example}")
    if options.config is not None:  # which may be anybody's
        say(f"Data: {settings.data}, with the settings of {options.config}.")
    with joined() as processes:
        training = begun(settings, processes, options.change)
        if options.start is not None:
            _start(training, options.start)
        say(describe(training))
        if options.dry_run:
            say("Dry run: nothing was written.")
            return 0
        if options.profile is not None:
            say(profile(training, options.profile))
            return 0
        return follow(training, " ".join([processes.command("train"), *map(quote, words)]))


def _start(training: "FolderTraining", folder: str) -> None:
    """The weights of another run, in every process."""
    from ornstein.learn import start_from
    from ornstein.runs import load

    try:
        begun = load(folder)
    except OrnsteinError as error:
        raise UsageError(f"--from {folder}: {error}") from error
    training.processes.on_all(lambda: start_from(begun, training.model, training.tell))


def _options(words: Sequence[str]) -> Train:
    """The flags, over the file that --config names, over the defaults."""
    options = parse(Train, "train", words)
    if options.config is None:
        return options
    values = config.read(Path(options.config))
    if values.get("minutes") is not None and values.get("steps") is not None:
        raise UsageError(f"{options.config}: give steps or minutes, not both")
    if options.steps is not None:
        values["minutes"] = None
    if options.minutes is not None:
        values["steps"] = None
    return parse(Train, "train", words, defaults=values)


def profile(training: "FolderTraining", steps: int) -> list[str]:
    """Where the time of some steps of a training went, and how near it came to what the machine can do."""
    from ornstein.training.profile import profile

    work = 3 * gflop(training) * training.recipe.batch_size  # backward is twice forward
    measured = profile(training, steps)

    def row(name: str, *seconds: float) -> tuple[str, str]:
        times = "  ".join(f"{1e3 * s:8.1f} ms" for s in seconds)
        return name, f"{times}  {100 * sum(seconds) / measured.seconds:5.1f} %"

    speed, peak, unit = work / measured.seconds, measured.peak / 1e9, training.settings.precision
    return [
        f"{measured.steps} steps of {measured.images}: {1e3 * measured.seconds:.1f} ms a step, "
        f"{measured.images / measured.seconds:.3g} {training.dataset.spec.traits.plural}/s.",
        "",
        *table([row(name, seconds) for name, seconds in measured.stages.items()]),
        "",
        "Parts of the network, forward and backward:",
        *table([row(name, *pair) for name, pair in measured.parts.items()]),
        "",
        "Kinds of layers, forward and backward:",
        *table([row(name, *pair) for name, pair in measured.kinds.items()]),
        "",
        f"{speed:.0f} GFLOP/s: {100 * speed / peak:.0f} % of the {peak:.0f} that matrix products in {unit} reach here.",
        "Profile: nothing was written.",
    ]
