"""Progress of something that takes a while: a bar on a terminal, and in notebooks, files and pipes lines at growing intervals."""

import sys
import time
from types import TracebackType

from ornstein import terminal
from ornstein.processes import silent
from ornstein.terminal import clean, encodable


class Meter:
    """Progress of something that goes from 0 to 1: a bar on a terminal, elsewhere a line at growing intervals.

    Nothing is shown in the first `patience` seconds.
    """

    def __init__(self, label: str, patience: float = 0.0) -> None:
        self._label, self._next, self._gap, self._spoke, self._unsaid = label, patience, 2.0, False, ""
        self._silent = silent()
        bar = sys.stdout is not None and sys.stdout.isatty() and not self._silent
        self._started, self._bar = time.monotonic(), _Bar(label) if bar else None

    def __enter__(self) -> "Meter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.progress.stop()
        if self._unsaid and self._spoke:
            _say(f"{self._label} {self._unsaid}")

    def update(self, done: float, text: str) -> None:
        """Show how far it is."""
        if self._silent:
            return
        elapsed, self._unsaid = time.monotonic() - self._started, f"{100 * done:3.0f} %  {text}"
        if elapsed < self._next:
            return
        self._spoke = True
        if self._bar:
            self._bar.show(done, text)
            return
        _say(f"{self._label} {self._unsaid}")
        self._next, self._gap, self._unsaid = elapsed + self._gap, self._gap * 1.5, ""

    def tell(self, text: str) -> None:
        """A line that stays, above the bar, if there is one."""
        if self._bar:
            self._bar.tell(text)
        else:
            _say(text)


def _say(line: str) -> None:
    """Only the first of several processes prints."""
    if not silent():
        terminal.write(line)


class _Bar:
    """A bar of rich, which is imported only where there is a terminal."""

    def __init__(self, label: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        text = TextColumn("{task.percentage:>3.0f} %  {task.fields[text]}", markup=False)
        columns = (TextColumn("{task.description}", markup=False), BarColumn(bar_width=None), text)
        self.progress = Progress(*columns, console=Console(), transient=True, expand=True)
        self.degradation = self.progress.add_task(self._plain(label), total=1.0, text="")

    def show(self, done: float, text: str) -> None:
        self.progress.start()
        self.progress.update(self.degradation, completed=done, text=self._plain(text))

    def tell(self, text: str) -> None:
        """A line above the bar."""
        self.progress.console.print(self._plain(text), markup=False, emoji=False, highlight=False, soft_wrap=True)

    def _plain(self, text: str) -> str:
        return encodable(clean(text), self.progress.console.file)
