"""metrics.jsonl: the loss, the norm of the gradient and the learning rate of a training as it goes."""

import json
import os
from pathlib import Path

import numpy as np

from ornstein.errors import OrnsteinError
from ornstein.files.atomic import new_file, written
from ornstein.files.lock import OTHER
from ornstein.files.owner import open_here
from ornstein.files.reading import read_bytes
from ornstein.folder.layout import METRICS_MOST
from ornstein.training.checkpoint import State
from ornstein.training.loop import TrainingProgress


class Means:
    """Lines of metrics: one per step at first, then per 10 and per 100, each the mean of the finite steps since the line before;
    no line where there were none."""

    def __init__(self) -> None:
        self._sums, self._count = np.zeros(2), 0

    def add(self, progress: TrainingProgress) -> dict[str, float] | None:
        """The line after a step, where there is one."""
        interval = 1 if progress.step <= 100 else 10 if progress.step <= 10_000 else 100
        if progress.finite:
            self._sums += progress.loss, progress.gradient
            self._count += 1
        if progress.step % interval or not self._count:
            return None
        loss, gradient = self._sums / self._count
        self._sums, self._count = np.zeros(2), 0
        return {
            "step": progress.step,
            "loss": round(float(loss), 6),
            "gradient": round(float(gradient), 6),
            "rate": progress.rate,
            "seconds": round(progress.seconds, 3),
            "images": progress.images,
            "skipped": progress.skipped,
        }


class Metrics:
    """The file of these lines, written with each checkpoint."""

    def __init__(self, file: Path) -> None:
        self._file, self._waiting = file, ""

    def go_on(self, step: int) -> None:
        """Removes the lines of steps after the checkpoint that the run goes on from."""
        file = self._file
        try:
            lines = read_bytes(file, METRICS_MOST, file.parent).decode("utf-8", "replace").splitlines()
        except FileNotFoundError:
            lines = []
        except (OSError, ValueError) as error:
            raise OrnsteinError(f"{file} cannot be gone on with ({error}); remove it") from error
        before = [line for line in lines if _step_of(line) <= step]
        if len(before) < len(lines):
            with new_file(file) as new:
                new.write_text("".join(line + "\n" for line in before))

    def add(self, line: dict[str, float] | None) -> None:
        """A line to be written; nothing where there is none."""
        if line is not None:
            self._waiting += json.dumps(line) + "\n"

    def diverged(self, state: State) -> None:
        """A line without a loss, which tells if it is the last one; a run that goes on from the checkpoint before removes it."""
        line = {"step": state.step, "seconds": round(state.seconds, 3), "skipped": state.skipped, "diverged": True}
        self._waiting += json.dumps(line) + "\n"
        self.flush()

    def flush(self) -> None:
        with written(self._file, OTHER):
            handle = open_here(self._file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            with open(handle, "a") as stream:
                stream.write(self._waiting)
        self._waiting = ""


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError, RecursionError, OverflowError):  # a line cut short by a kill
        return float("inf")
