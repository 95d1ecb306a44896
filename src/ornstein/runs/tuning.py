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

from ornstein.denoiser import Denoiser
from ornstein.errors import OrnsteinError, UsageError
from ornstein.files.atomic import new_file
from ornstein.files.lock import hold
from ornstein.files.reading import read_json
from ornstein.guidance.config import PLAIN, Guidance, GuidanceConfig
from ornstein.runs.conditioning import Label, indexed_guide, label_ids
from ornstein.tuning import Effort, Progress, Tuned, effort, fit

if TYPE_CHECKING:
    from ornstein.runs.run import Run


def tune(
    run: "Run",
    steps: int = 6,
    *,
    label: int | str | None = None,
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

    Where a solver of fewer steps is there for the same weights, label and guidance, the fit may start from it too, so more steps
    are not worse. With classes, each start has one, drawn as often as it occurs in the data, or the `label`; `guide` is how the
    model is guided. There are as many starts, up to `starts`, as the time allows (`tuning.effort`), which `tell` is called with.
    A file for each number of steps, label and guidance in RUN/tuned holds the table, its errors on held-out starts, the sha256
    of the weights, and all that is needed to repeat the fit; or its name and content go to `save`.
    Raises UsageError for guidance that the run has not the means for, or that has no name for a file; OrnsteinError for
    a model of numbers that are not finite, where another process tunes this run, and when the disk refuses.
    """
    guide = indexed_guide(run, guide)
    file, purpose = _place(run, steps, label, guide)
    shape = run.spec.shape
    device = run.model.device
    most = 2 * max(starts, 32)  # with those held out; the cost of a call is measured on 32
    labels = run.model.labels(0, most, seed) if label is None else label_ids(run, label, most)
    labels = None if labels is None else labels.to(device)

    def bind(rows: Tensor) -> Denoiser:
        return guide(run.denoiser, None if labels is None else labels[rows.to(device)])

    denoiser = bind(torch.arange(32))
    with hold(file.parent, "tuned") if save is None else nullcontext():
        chosen = effort(denoiser, shape, steps, seconds, starts=starts, teacher=teacher, device=device)
        if tell is not None:
            tell(chosen)
        earlier = _of_fewer_steps(run, steps, label, guide)
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
        (save or partial(_save_json, file.parent))(file.name, {**fitted.to_dict(), "asked": purpose, "made": made})
    return fitted


def _of_fewer_steps(run: "Run", steps: int, label: int | str | None, guide: Guidance) -> Tuned | None:
    """The stored solver of the most steps below so many, for this label and guidance; None where there is none to go by."""
    for fewer in reversed(range(1, steps)):
        own, purpose = _place(run, fewer, label, guide)
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
    guide: Guidance = PLAIN,
    file: str | Path | None = None,
    command: str | None = None,
) -> Tuned:
    """The solver of so many steps that `tune` (or `ornstein tune`) saved for this label or for all, and this guidance.

    `file` is one of another place (`ornstein tune --out`), which is used for any label and guidance.
    Raises UsageError where there is none or the model has changed since, OrnsteinError for a file that is damaged; both say
    with which `command` it is made.
    """
    command = command or f"`ornstein tune {run.folder} --steps {steps}`"
    if file is not None:
        return _read(run, Path(file), steps, None, command)
    own, purpose = _place(run, steps, label if isinstance(label, (int, str)) else None, guide)
    if not os.path.lexists(own):
        own, purpose = _place(run, steps, None, guide)
    if not os.path.lexists(own):
        guided = "" if purpose["guidance"] == str(PLAIN) else f" with {guide}"
        raise UsageError(f"{own} is missing: no solver of {steps} steps is tuned{guided} yet; make it with {command}")
    return _read(run, own, steps, purpose, command)


def _read(run: "Run", file: Path, steps: int, purpose: dict[str, Any] | None, command: str) -> Tuned:
    """The solver in a file, which must be for so many steps and this purpose, unless that is None."""
    try:
        data = read_json(file, root=None if purpose is None else run.folder)  # links in a run are not followed
        stored = Tuned.from_dict(data, run.model.path)
        if stored.fitted.calls != steps:
            raise ValueError(f"it holds {stored.fitted.calls} steps")
        theirs = data.get("asked", {"label": None, "guidance": str(PLAIN)})
        if purpose is not None and theirs != purpose:
            raise ValueError(f"it was tuned for label {theirs['label']} with {theirs['guidance']}")
    except FileNotFoundError:
        raise UsageError(f"{file} is missing; make it with {command}") from None
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, OverflowError) as error:
        raise OrnsteinError(
            f"{file} cannot be read ({type(error).__name__}: {error}); make it anew with {command}"
        ) from error
    if stored.model != run.weights_hash:
        raise UsageError(f"{file} was tuned for other weights than {run.folder} has now; tune again with {command}")
    return stored


def _place(run: "Run", steps: int, label: int | str | None, guide: Guidance) -> tuple[Path, dict[str, Any]]:
    """The file of a tuned solver, and what it says that it is for. Raises UsageError for guidance without a name."""
    if not (isinstance(guide, GuidanceConfig) and guide.named):
        raise UsageError(
            f"guidance: {guide} has no name that a tuned solver could be stored under; give a "
            "guidance.GuidanceConfig whose scale is a number, or use tuning.fit"
        )
    number = None if label is None else int(label_ids(run, label, 1))
    of_label = [] if number is None else [f"label-{number}"]
    words = [f"steps-{steps}", *of_label, *([] if guide.plain else [guide.slug])]
    return run.folder / "tuned" / f"{'-'.join(words)}.json", {"label": number, "guidance": str(guide)}


def _save_json(folder: Path, name: str, content: dict[str, Any]) -> None:
    with new_file(folder / name) as file:
        file.write_text(json.dumps(content, indent=1) + "\n")
