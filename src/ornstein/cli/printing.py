"""What commands print: lines of output, tables, and numbers for people."""

import stat
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ornstein import terminal
from ornstein.processes import silent
from ornstein.terminal import clean

if TYPE_CHECKING:
    import torch

    from ornstein.data import DataSpec


def say(lines: str | Sequence[str] = "") -> None:
    """A line of output, or several, there at once also in a file; of several processes the first one speaks."""
    if not silent():
        terminal.write(lines)


def say_if_busy(device: "torch.device", threads: int | None = None) -> None:
    """A line where other programs take some of the CPUs that this work is about to use; none on a GPU."""
    if device.type == "cpu" and not silent():
        from ornstein.cpu import busy_line, usable_threads

        if line := busy_line(usable_threads() if threads is None else threads):
            say(line)


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
    """Shape of one item in words: 28x28 (width x height) grey, or 2 numbers."""
    return spec.traits.words(spec.shape)


def few(names: Sequence[str], most: int = 12) -> str:
    """How many names there are, and the first of them."""
    rest = ", ..." if len(names) > most else ""
    return f"{len(names)}: {', '.join(names[:most])}{rest}"


def epochs(count: float) -> str:
    """How often each item is seen."""
    return f"{count:,.0f} epochs" if count >= 100 else f"{count:.3g} epochs"
