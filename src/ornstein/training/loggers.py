"""Where the numbers of a training go besides metrics.jsonl: TensorBoard, wandb and its like, or a logger of one's own."""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from ornstein import extras
from ornstein.errors import UsageError
from ornstein.names import LOGGERS


@runtime_checkable
class Logger(Protocol):
    """The interface of a logger: `start` once with all settings, `log` with the numbers of a step, `finish` at the end.

    The numbers are those of a line of metrics.jsonl: loss, gradient, rate, seconds, images, skipped; means since the line before.
    A logger may also have `image(step, file)`, which is called with each sample sheet. What a logger raises does not end the
    training: it is reported once, and the logger is not called again.
    """

    def start(self, settings: Mapping[str, Any]) -> None:
        """Called once, before the first step, with all settings."""
        ...

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        """Called with the numbers of a line of metrics.jsonl."""
        ...

    def finish(self) -> None:
        """Called at the end."""
        ...


class TensorBoard:
    """Event files in a folder, for `tensorboard --logdir`. Needs the extra `tensorboard`."""

    writes_files = True

    @staticmethod
    def check() -> None:
        """Raises UsageError where its library is not installed."""
        extras.check("tensorboard", "log: tensorboard")

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writer: Any = None
        self._settings: Mapping[str, Any] = {}

    def start(self, settings: Mapping[str, Any]) -> None:
        self._settings = settings

    def _at(self, step: int) -> Any:
        """The writer, made at the first step: what was written after it by a run that was killed is hidden."""
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self._folder), purge_step=step)
            lines = (f"    {key}: {value}" for key, value in self._settings.items())
            self._writer.add_text("settings", "\n".join(lines), step)
        return self._writer

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        for name, value in numbers.items():
            self._at(step).add_scalar(name, value, step)

    def image(self, step: int, file: Path) -> None:
        """A sample sheet."""
        import numpy as np
        from PIL import Image

        with Image.open(file) as opened:
            self._at(step).add_image("samples", np.asarray(opened.convert("RGB")), step, dataformats="HWC")

    def finish(self) -> None:
        if self._writer is not None:
            self._writer.close()


class Tracker:
    """A module with wandb's functions `init`, `log` and `finish`: wandb itself, or trackio."""

    writes_files = False

    def __init__(self, module: str, folder: Path) -> None:
        self._module, self._folder = module, folder

    def check(self) -> None:
        """Raises UsageError where its library is not installed."""
        if not extras.is_there(self._module):
            raise UsageError(f"log: {self._module} is not installed; run `pip install {self._module}`")

    def start(self, settings: Mapping[str, Any]) -> None:
        self._tracker = import_module(self._module)
        self._tracker.init(project="ornstein", name=self._folder.parent.name, config=dict(settings))

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        self._tracker.log(dict(numbers), step=step)

    def finish(self) -> None:
        self._tracker.finish()


def check(names: str) -> None:
    """Raises UsageError for a name that is not one of LOGGERS, or whose library is not installed."""
    for name in _split(names):
        LOGGERS.pick(name, Path()).check()


def made(names: str, out: str) -> tuple[Logger, ...]:
    """The loggers of names with commas between them; what they write goes below the run folder.

    Raises UsageError for one that writes files where there is no folder.
    """
    loggers = {name: LOGGERS.pick(name, Path(out) / name) for name in _split(names)}
    for name, logger in loggers.items():
        if logger.writes_files and not out:
            raise UsageError(f"log: {name} writes files into the run's folder; give out")
    return tuple(loggers.values())


def _split(names: str) -> list[str]:
    return [name.strip() for name in names.split(",")]


class Loggers:
    """Several loggers as one, of which none can end the training."""

    def __init__(self, loggers: Sequence[Logger], tell: Callable[[str], None]) -> None:
        self._loggers, self._tell = list(loggers), tell

    def _each(self, act: Callable[[Any], object]) -> None:
        for logger in list(self._loggers):
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", DeprecationWarning)  # of the loggers' own libraries
                    act(logger)
            except Exception as error:  # whatever a network or somebody's code may raise
                self._loggers.remove(logger)
                reason = " ".join(f"{type(error).__name__}: {error}".split())
                self._tell(f"Warning: {type(logger).__name__} failed ({reason}); the training goes on without it.")

    @contextmanager
    def started(self, settings: Mapping[str, Any]) -> Iterator["Loggers"]:
        """Within, they are started; they are finished afterwards, however it ends."""
        self._each(lambda logger: logger.start(settings))
        try:
            yield self
        finally:
            self._each(lambda logger: logger.finish())

    def log(self, line: Mapping[str, float] | None) -> None:
        """A line of metrics; nothing where there is none."""
        if line is not None:
            numbers = {key: float(value) for key, value in line.items() if key != "step"}
            self._each(lambda logger: logger.log(int(line["step"]), numbers))

    def image(self, step: int, file: Path | None) -> None:
        """A sample sheet, for those that take images; nothing where there is none, or it is no image."""
        if file is not None and file.suffix == ".png":
            self._each(lambda logger: getattr(logger, "image", lambda *_: None)(step, file))
