"""What the commands have in common on the screen: progress as a bar or as plain lines, and numbers for people."""

import stat
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from ornstein import terminal
from ornstein.processes import silent
from ornstein.terminal import clean, encodable

if TYPE_CHECKING:
    from ornstein.data import DataSpec


def say(lines: str | Sequence[str] = "") -> None:
    """A line of output, or several, there at once also in a file; of several processes the first one speaks."""
    if not silent():
        terminal.write(lines)


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
            say(f"{self._label} {self._unsaid}")

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
        say(f"{self._label} {self._unsaid}")
        self._next, self._gap, self._unsaid = elapsed + self._gap, self._gap * 1.5, ""

    def tell(self, text: str) -> None:
        """A line that stays, above the bar, if there is one."""
        if self._bar:
            self._bar.tell(text)
        else:
            say(text)


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


def duration(seconds: float) -> str:
    """41 s, 3 min 20 s, 2 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def size(count: float) -> str:
    """312 B, 1.2 MB."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError


def folder_size(folder: Path) -> int:
    """The bytes of all files in a folder; links count as what they are."""
    if folder.is_symlink():
        return 0
    return sum(status.st_size for file in folder.rglob("*") if stat.S_ISREG((status := file.lstat()).st_mode))


def table(rows: Sequence[tuple[str, str]]) -> list[str]:
    """Lines of names and values in two columns."""
    rows = [(clean(name), value) for name, value in rows]
    width = max(len(name) for name, _ in rows)
    return [f"  {name:{width}}  {value}" for name, value in rows]


def columns(lines: Sequence[Sequence[str]]) -> list[str]:
    """Lines of cells, the first to the left and the others to the right of columns as wide as they need."""
    lines = [[clean(cell) for cell in line] for line in lines]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        "  ".join(["", f"{line[0]:{widths[0]}}", *(f"{c:>{w}}" for c, w in zip(line[1:], widths[1:], strict=True))])
        for line in lines
    ]


def dims(spec: "DataSpec") -> str:
    """What one item is: 28x28 (width x height) grey, or 2 numbers."""
    if spec.kind == "vector":
        return "one number each" if spec.shape == (1,) else f"{spec.shape[0]} numbers each"
    channels, height, width = spec.shape
    colour = {1: "grey", 3: "colour", 4: "colour with alpha"}.get(channels, f"{channels} channels")
    return f"{width}x{height} {colour}"


def few(names: Sequence[str], most: int = 12) -> str:
    """How many names there are, and the first of them."""
    rest = ", ..." if len(names) > most else ""
    return f"{len(names)}: {', '.join(names[:most])}{rest}"
