"""The flags of guidance, as a value of `ornstein.guidance` and back."""

import re
from dataclasses import fields, replace
from math import isfinite
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, TypeVar

from ornstein.cli import condition_flags
from ornstein.cli.options import ConditionFlags, GuidanceFlags
from ornstein.errors import UsageError
from ornstein.names import GUIDANCE, SOLVERS

if TYPE_CHECKING:
    from ornstein.cli.options import Calibrate, Evaluate, Export, Impute, Sample
    from ornstein.guidance import Guidance, GuidanceConfig
    from ornstein.runs import ConditionBatch, Label, Run
    from ornstein.solvers import Solver
    from ornstein.tuning import Tuned

DEFAULT = "default"  # the solver that a run has by default
TUNED = "tuned"  # a solver that `ornstein tune` made
T = TypeVar("T", "Sample", "Evaluate", "Export", "Impute", "Calibrate")


def guide(options: GuidanceFlags, trained: "Run") -> "GuidanceConfig":
    """The guidance of the flags. Raises UsageError for values without meaning, and for guidance that the run does not support."""
    import torch

    from ornstein import guidance as g
    from ornstein.runs.conditioning import check_guide

    method, rescale = GUIDANCE.pick(options.guidance_method)
    used = flags(options)
    if not isfinite(options.guidance):
        raise UsageError(f"--guidance {options.guidance} is no finite number; give for example --guidance 2")
    if options.guidance == 1 and used:
        raise UsageError(f"{used[0]} does nothing at scale 1; give for example --guidance 2 with it")
    try:
        config = g.GuidanceConfig(options.guidance, method, _levels(options), rescale, _negative(options, trained))
        check_guide(trained, config)
        config(trained.denoiser, torch.zeros(1, dtype=torch.int64))  # raises for paths that do not fit
    except ValueError as error:
        raise UsageError(f"--guidance: {str(error).removeprefix('GuidanceConfig: ')}") from error
    return config


def flags(options: GuidanceFlags) -> list[str]:
    """The flags of a command line that ask for the same, each with its value."""
    used = [
        (f.name.replace("_", "-"), getattr(options, f.name))
        for f in fields(GuidanceFlags)
        if getattr(options, f.name) != f.default
    ]
    return [
        f"--{name} {str(value).removesuffix('.0') if isinstance(value, float) else quote(value)}"
        for name, value in used
    ]


def must_name_solver(name: str) -> None:
    """Raises UsageError for a name that is none of a solver, nor `tuned` or `tuned:FILE`."""
    from ornstein.names import pick

    if not name.startswith(f"{TUNED}:"):
        pick("solver", name, dict.fromkeys([DEFAULT, *SOLVERS, TUNED, f"{TUNED}:FILE"]))


def settled(options: T, trained: "Run") -> T:
    """The options with the solver and the steps that are the run's defaults where none were named."""
    solver = trained.model.solver if options.solver == DEFAULT else options.solver
    return replace(options, solver=solver, steps=trained.model.steps if options.steps is None else options.steps)


def steps_of(options: "Sample | Evaluate | Export | Impute | Calibrate") -> int:
    """The steps of settled options."""
    assert options.steps is not None
    return options.steps


def slug(solver: str) -> str:
    """The name of a solver, fit for that of a file."""
    return re.sub(r"[^\w.-]+", "-", solver)[-60:]


def solver(
    options: "Sample | Evaluate | Export | Impute",
    trained: "Run",
    label: "Label | None",
    guide: "GuidanceConfig",
    condition: "ConditionBatch | None" = None,
) -> "Solver":
    """The solver that --solver names, for these. Raises UsageError for a tuned one that is missing or does not fit."""
    name, _, file = options.solver.partition(":")
    steps = steps_of(options)
    if name != TUNED:
        must_take(trained, name, guide)
        return SOLVERS[name]
    if not file:
        return tuned(options, trained, steps, label, guide, condition)
    command = f"`ornstein tune {quote(str(trained.folder))} --steps {steps} --out {quote(file)}`"
    stored = trained.tuned(steps, file=Path(file).expanduser(), command=command)
    if stored.fitted.aims is not None:
        _must_be_plain(guide)
    return stored


def must_take(trained: "Run", name: str, guide: "GuidanceConfig | None" = None) -> None:
    """Raises UsageError for a solver that aims its calls, where the model takes no aim, or guidance would bend its jumps."""
    from ornstein.solvers import AIMED

    if SOLVERS[name] not in AIMED:
        return
    folder = quote(str(trained.folder))
    if not trained.model.takes_aim:
        raise UsageError(
            f"--solver {name} is for few-step runs, which {folder} is not; make one with `ornstein distil {folder} --out RUN`"
        )
    if guide is not None:
        _must_be_plain(guide)


def _must_be_plain(guide: "GuidanceConfig") -> None:
    """Raises UsageError for guidance, which would bend jumps."""
    if not guide.plain:
        raise UsageError(
            f"--guidance: jumps of a few-step run are not guided; distil the guided run with `ornstein distil RUN --guidance "
            f"{guide.scale:g} --out RUN`, or sample with --solver abm"
        )


def tuned(
    options: GuidanceFlags,
    trained: "Run",
    steps: int,
    label: "Label | None",
    guide: "GuidanceConfig",
    condition: "ConditionBatch | None" = None,
) -> "Tuned":
    """The solver that `ornstein tune` made for these. Raises UsageError with the command where there is none."""
    words = [f"ornstein tune {quote(str(trained.folder))} --steps {steps}", *flags(options)]
    if condition is not None:
        words += condition_flags.flags(options) if isinstance(options, ConditionFlags) else ["--condition FILE"]
    return trained.tuned(
        steps,
        label=label if condition is None else None,
        condition=condition,
        guide=guide,
        command=f"`{' '.join(words)}`",
    )


def _levels(options: GuidanceFlags) -> tuple[float, float]:
    if options.guidance_interval is None:
        return 0.0, float("inf")
    try:
        low, high = map(float, options.guidance_interval.split(","))
    except ValueError:
        low = high = 0.0
    if not 0 <= low < high:
        raise UsageError(
            f"--guidance-interval {options.guidance_interval!r} must be two noise levels that rise from 0 or more; give for "
            "example 0.2,5"
        )
    return low, high


def _negative(options: GuidanceFlags, trained: "Run") -> "Guidance":
    from ornstein.guidance import NegativeLabel, WeakModel, unconditional
    from ornstein.runs.conditioning import label_ids

    if options.not_label is not None and options.autoguidance is not None:
        raise UsageError("give either --not-label or --autoguidance: guidance goes away from one of them")
    if options.not_label is not None:
        return NegativeLabel(options.not_label, int(label_ids(trained, options.not_label, 1)))
    if options.autoguidance is None:
        return unconditional
    place = Path(options.autoguidance).expanduser()
    weaker = _weaker(place, trained)
    return WeakModel(weaker.denoiser, f"{place.stem}-{weaker.weights_hash[:8]}")


def _weaker(place: Path, trained: "Run") -> "Run":
    """The model to go away from."""
    from ornstein.runs import load

    if not (place / "model").is_dir():
        if not place.exists():
            raise UsageError(f"--autoguidance {place} is not there; give a run folder, a snapshot or a checkpoint")
        return trained.earlier(place)
    weak, mine = load(place, trained.model.device), trained.spec
    theirs = weak.spec
    if (theirs.kind, theirs.shape, theirs.classes) != (mine.kind, mine.shape, mine.classes):
        raise UsageError(
            f"--autoguidance {place} makes other items or classes than {trained.folder}; give a weaker model of the same data"
        )
    return weak
