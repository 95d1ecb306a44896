"""Solvers that are fitted to a run's model, in files of the run."""

import json
import os
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ornstein import conditions
from ornstein.denoiser import Denoiser
from ornstein.errors import OrnsteinError, UsageError
from ornstein.files.atomic import new_file
from ornstein.files.lock import hold
from ornstein.files.reading import read_json
from ornstein.guidance.config import PLAIN, Guidance, GuidanceConfig
from ornstein.runs.conditioning import (
    ConditionBatch,
    Label,
    different_rows,
    indexed_guide,
    label_ids,
    must_have_condition,
)
from ornstein.tuning import Effort, Progress, Tuned, effort, fit

if TYPE_CHECKING:
    from ornstein.conditions import Rows
    from ornstein.runs.run import Run

SEVERAL = "several"  # the condition of a solver that was fitted to more than one, and serves those like them
Purpose = dict[str, Any]
"""What a solver is for: the index of a `label` or None, a `condition` as its digest, SEVERAL or None, and the `guidance`."""


def tune(
    run: "Run",
    steps: int = 6,
    *,
    label: Label | None = None,
    condition: Any = None,
    known: Any = None,
    guide: Guidance = PLAIN,
    seconds: float = 60.0,
    starts: int = 768,
    teacher: int = 100,
    seed: int = 0,
    tell: Callable[[Effort], None] | None = None,
    progress: Callable[[Progress], None] | None = None,
    stop: Callable[[], bool] | None = None,
    save: Callable[[str, dict[str, Any]], object] | None = None,
) -> Tuned:
    """Fit a solver of so many network calls to this model (`tuning.fit`) and save it for `tuned`.

    label, condition, known: as `sample` takes them, of any number of rows, which the starts have in turn; without them each start
        has a class, drawn as often as it occurs in the data. A solver that was fitted to several conditions, best some hundreds,
        serves any condition like them; one that was fitted to a single condition serves that alone.
    guide: how the model is guided.

    Where a solver of fewer steps is there for the same weights, condition and guidance, the fit may start from it too, so more
    steps are not worse. There are as many starts, up to `starts`, as the time allows (`tuning.effort`), which `tell` is called
    with. A file for each number of steps, condition and guidance in RUN/tuned holds the table, its errors on held-out starts,
    the sha256 of the weights, and all that is needed to repeat the fit; or its name and content go to `save`.
    Raises UsageError for a condition that does not fit, or that samples of this run need, for guidance that the run has not the
    means for, or that has no name for a file; OrnsteinError for a model of numbers that are not finite, where another process
    tunes this run, and when the disk refuses.
    """
    guide = indexed_guide(run, guide)
    rows, purpose = _requested(run, label, condition, known, guide)
    file = _place(run, steps, purpose, guide)
    model, shape, device = run.model, run.spec.shape, run.model.device
    most = 2 * max(starts, 32)  # with those held out; the cost of a call is measured on 32
    if rows is None:
        must_have_condition(run)
        rows = model.drawn_rows(0, most, seed)

    def bind(some: Tensor) -> Denoiser:
        mine = None if rows is None else tuple(row[some % len(row)] for row in rows)
        return guide(run.denoiser, conditions.to(model.conditions.network_input(mine), device, model.dtype))

    denoiser = bind(torch.arange(32))
    with hold(file.parent, "tuned") if save is None else nullcontext():
        chosen = effort(denoiser, shape, steps, seconds, starts=starts, teacher=teacher, device=device)
        if tell is not None:
            tell(chosen)
        earlier = _of_fewer_steps(run, steps, purpose, guide)
        fitted = fit(
            denoiser,
            shape,
            steps,
            bind=bind,
            **chosen._asdict(),
            seconds=seconds,
            teacher=teacher,
            seed=seed,
            earlier=earlier,
            model=run.weights_hash,
            gain=not run.model.is_imported,  # so that it serves in the model's own pipeline, too
            device=device,
            progress=progress,
            stop=stop,
        )
        made = {"seconds": seconds, "teacher": teacher, "seed": seed, "device": device.type, **chosen._asdict()}
        made["earlier"] = None if earlier is None else earlier.fitted.calls
        made |= {"conditions": len(rows[0])} if rows is not None and purpose["condition"] else {}
        (save or partial(_save_json, file.parent))(file.name, {**fitted.to_dict(), "asked": purpose, "made": made})
    return fitted


def _of_fewer_steps(run: "Run", steps: int, purpose: Purpose, guide: Guidance) -> Tuned | None:
    """The stored solver of the most steps below so many, for this purpose; None where there is none to go by."""
    for fewer in reversed(range(1, steps)):
        own = _place(run, fewer, purpose, guide)
        if os.path.lexists(own):
            try:
                return _read(run, own, fewer, purpose, "")
            except (OrnsteinError, UsageError):  # of other weights, or damaged
                continue
    return None


def tuned(
    run: "Run",
    steps: int,
    *,
    label: Label | None = None,
    condition: Any = None,
    known: Any = None,
    guide: Guidance = PLAIN,
    file: str | Path | None = None,
    command: str | None = None,
) -> Tuned:
    """The solver of so many steps that `tune` (or `ornstein tune`) saved for this condition, and this guidance.

    For a label it is the one of that label, or of all; for another condition the one of that condition, or of several.
    `file` is one of another place (`ornstein tune --out`), which is used for any condition and guidance.
    Raises UsageError where there is none or the model has changed since, OrnsteinError for a file that is damaged; both say
    with which `command` it is made.
    """
    command = command or f"`ornstein tune {run.folder} --steps {steps}`"
    if file is not None:
        return _read(run, Path(file), steps, None, command)
    purpose = _requested(run, label, condition, known, guide)[1]
    for served in _served_by(run, purpose):
        own = _place(run, steps, served, guide)
        if os.path.lexists(own):
            return _read(run, own, steps, served, command)
    given = " for this condition" if purpose["condition"] else ""
    guided = "" if purpose["guidance"] == str(PLAIN) else f" with {guide}"
    raise UsageError(
        f"{own} is missing: no solver of {steps} steps is tuned{given}{guided} yet; make it with {command}"
    )


def _served_by(run: "Run", purpose: Purpose) -> list[Purpose]:
    """The purposes of solvers that serve this one, the nearest first."""
    wider = [purpose]
    if purpose["condition"] is not None:
        wider.append({**purpose, "condition": SEVERAL})
    if purpose["label"] is not None or all("label" in part.names for part in run.model.conditions.parts):
        wider.append({**purpose, "label": None, "condition": None})
    return wider


def _requested(
    run: "Run", label: Label | None, condition: Any, known: Any, guide: Guidance
) -> "tuple[Rows | None, Purpose]":
    """The rows of what a user asks for, and the purpose of a solver for it. Raises UsageError."""
    purpose: Purpose = {"label": None, "condition": None, "guidance": str(guide)}
    rows = different_rows(run, label, condition, known)
    if condition is None and known is None and isinstance(label, (int, str)) and run.model.conditions.label is not None:
        purpose["label"] = int(label_ids(run, label, 1))
    elif rows is not None and not _is_null(run, rows):
        purpose["condition"] = SEVERAL if len(rows[0]) > 1 else ConditionBatch(rows).digest
    return rows, purpose


def _read(run: "Run", file: Path, steps: int, purpose: dict[str, Any] | None, command: str) -> Tuned:
    """The solver in a file, which must be for so many steps and this purpose, unless that is None."""
    try:
        data = read_json(file, root=None if purpose is None else run.folder)  # links in a run are not followed
        stored = Tuned.from_dict(data, run.model.path)
        if stored.fitted.calls != steps:
            raise ValueError(f"it holds {stored.fitted.calls} steps")
        theirs = {"label": None, "condition": None, "guidance": str(PLAIN), **data.get("asked", {})}
        if purpose is not None and theirs != purpose:
            given = "" if theirs["condition"] is None else f" and condition {theirs['condition']}"
            raise ValueError(f"it was tuned for label {theirs['label']}{given} with {theirs['guidance']}")
    except FileNotFoundError:
        raise UsageError(f"{file} is missing; make it with {command}") from None
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, OverflowError) as error:
        raise OrnsteinError(
            f"{file} cannot be read ({type(error).__name__}: {error}); make it anew with {command}"
        ) from error
    if stored.model != run.weights_hash:
        raise UsageError(f"{file} was tuned for other weights than {run.folder} has now; tune again with {command}")
    return stored


def _is_null(run: "Run", rows: "Rows") -> bool:
    """Whether the rows say nothing, as where nothing is asked of a run without classes."""
    parts = run.model.conditions
    return parts.label is None and all(map(torch.equal, rows, parts.null(len(rows[0]))))


def _place(run: "Run", steps: int, purpose: Purpose, guide: Guidance) -> Path:
    """The file of a tuned solver for a purpose. Raises UsageError for guidance without a name."""
    if not (isinstance(guide, GuidanceConfig) and guide.named):
        raise UsageError(
            f"guidance: {guide} has no name that a tuned solver could be stored under; give a "
            "guidance.GuidanceConfig whose scale is a number, or use tuning.fit"
        )
    words = [f"steps-{steps}"]
    words += [] if purpose["label"] is None else [f"label-{purpose['label']}"]
    words += [] if purpose["condition"] is None else [f"given-{purpose['condition']}"]
    words += [] if guide.plain else [guide.slug]
    return run.folder / "tuned" / f"{'-'.join(words)}.json"


def _save_json(folder: Path, name: str, content: dict[str, Any]) -> None:
    with new_file(folder / name) as file:
        file.write_text(json.dumps(content, indent=1) + "\n")
