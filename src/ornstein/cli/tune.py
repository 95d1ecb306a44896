"""`ornstein tune`."""

import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from shlex import quote
from types import FrameType
from typing import TYPE_CHECKING

from ornstein.cli import condition_flags, guidance_flags
from ornstein.cli.options import Tune
from ornstein.cli.parse import parse, within
from ornstein.cli.printing import duration, say
from ornstein.cli.results import Results, must_be_json
from ornstein.cli.stopping import ENDING, Stopped, hearing
from ornstein.errors import UsageError
from ornstein.meter import Meter

if TYPE_CHECKING:
    import torch

    from ornstein.guidance import GuidanceConfig
    from ornstein.runs import Run
    from ornstein.tuning import Effort, Progress


def run(words: Sequence[str]) -> int:
    """Fit a solver to a run, save it in its folder, and say how to use it."""
    options = parse(Tune, "tune", words)
    within(options, steps=(1, 512), starts=(48, 10**6), seed=(0, 2**63 - 1), teacher=(2, 4096), seconds=(0, 10**6))
    if options.teacher < 2 * options.steps:
        raise UsageError(f"--teacher {options.teacher} is no fine solve for {options.steps} steps; give more")
    if not options.seconds > 0:
        raise UsageError(f"--seconds {options.seconds:g} must be positive")
    must_be_json(options.out)
    from ornstein.device import choose_device

    trained = _opened(options, choose_device(options.device))
    guide = guidance_flags.guide(options, trained)
    with Results(trained, options, "tuned", "tuned", guidance_by=str(guide)) as results:
        return _tune(trained, options, guide, results)


def _opened(options: Tune, device: "torch.device") -> "Run":
    """The run, or the foreign model in a folder of diffusers: that has no place for a solver, which goes to --out."""
    from ornstein.folder.layout import is_run
    from ornstein.runs import load
    from ornstein.runs.imported import is_foreign, opened

    folder = Path(options.run).expanduser()
    if is_run(folder) or not is_foreign(folder):
        return load(options.run, device)
    if options.out is None:
        raise UsageError(
            f"{folder} is a model of another library: say where its solver is to be written by --out FILE.json"
        )
    return opened(folder, device)


def _tune(trained: "Run", options: Tune, guide: "GuidanceConfig", results: Results) -> int:
    from ornstein.runs.imported import is_foreign

    condition = condition_flags.batch(trained, options)
    label = condition_flags.label_of(trained, options.label, options.label_index)
    began, fitting, deaf = time.monotonic(), list[bool](), list[OSError]()

    def tell(chosen: "Effort") -> None:
        if condition is not None:
            say(f"Each noise has one of {len(condition.rows[0]):,} conditions.")
        elif label is None and any("label" not in part.names for part in trained.model.conditions.parts):
            say("Note: the solver is for samples without a condition; give the ones of the samples that are wanted.")
        say(
            f"Fitting {options.steps} network calls to {options.teacher} of {options.run}: {chosen.starts} noises to fit "
            f"to, {chosen.held_out} held out, batches of {chosen.batch_size}, {guide}."
        )

    with _stoppable(fitting) as stopped, Meter("tuning") as meter:

        def progress(now: "Progress") -> None:
            fitting.append(True)
            left = duration(max(0.0, options.seconds - (time.monotonic() - began)))
            try:
                meter.update(
                    now.done, f"held-out error {now.error:.4f}, untuned {now.untuned:.4f}  at most {left} left"
                )
            except OSError as error:  # a closed pipe or terminal: what was found is saved first
                deaf.append(error)

        tuned = trained.tune(
            options.steps,
            label=label if condition is None else None,
            condition=condition,
            guide=guide,
            seconds=options.seconds,
            starts=options.starts,
            teacher=options.teacher,
            seed=options.seed,
            tell=tell,
            progress=progress,
            stop=lambda: bool(stopped or deaf),
            save=lambda name, content: results.write(results.by_name(name), content),
        )
    if deaf:
        raise deaf[0]
    if stopped:
        say("Stopped early; the best solver so far is saved.")
    say(
        f"Mean error of held-out endpoints: {tuned.error:.4f}, {tuned.error / tuned.untuned:.2f} of the best untuned "
        f"table's {tuned.untuned:.4f}, in {duration(time.monotonic() - began)}."
    )
    named = guidance_flags.TUNED
    solver = named if options.out is None else quote(f"{named}:{options.out}")
    use = [
        "ornstein sample",
        quote(options.run),
        f"--solver {solver} --steps {options.steps}",
        *condition_flags.flags(options),
        *guidance_flags.flags(options),
    ]
    if not is_foreign(trained.folder):
        say(f"Use it: {' '.join(use)}")
    if trained.model.is_imported and options.out is not None:
        say(
            f'In its pipeline: pipe.scheduler = Scheduler.from_config(pipe.scheduler.config, solver="{named}:{options.out}")'
        )
    return 0 if not stopped or stopped[0] == signal.SIGINT else 128 + stopped[0]


@contextmanager
def _stoppable(fitting: list[bool]) -> Iterator[list[int]]:
    """Within, a first signal ends a fit that has begun with what it has; before that, and the second, interrupt at once.

    A SIGHUP that is ignored, as under nohup, stays ignored.
    """
    received: list[int] = []

    def receive(number: int, frame: FrameType | None) -> None:
        if received or not fitting:
            raise Stopped(number, "stopped; nothing was saved")
        received.append(number)
        with suppress(OSError):  # the terminal may be gone
            os.write(2, b"\nSaving the best so far; once more stops at once and saves nothing.\n")

    with hearing([signal.SIGINT, *ENDING], receive):
        yield received
