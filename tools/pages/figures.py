"""The page of all figures: tables of every file of benchmarks/results, with the command that measures it."""

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

MADE_BY = {"training-zen4": "training", "experiments-digits": "experiments", "experiments-fashion-mnist": "experiments"}
MADE_BY |= {"experiments-plane": "experiments", "sbi-peers": "sbi"}
MADE_BY |= {"flowmaps-digits": "flowmaps_images", "flowmaps-fashion-mnist": "flowmaps_images"}
MOST = 40  # rows of a table; a longer one says how many it leaves out

Row = tuple[tuple[str, ...], dict[str, str]]


def page(root: Path) -> str:
    """The page in Markdown."""
    parts = [
        "# Figures",
        "All numbers of `benchmarks/results`, as the benchmarks wrote them. [Measured](measured.md), and the",
    ]
    parts[1] += " pages of\neach topic, say what they mean and on which machine they were measured."
    for file in sorted((root / "benchmarks" / "results").glob("*.json")):
        name = MADE_BY.get(file.stem, file.stem)
        about = ast.get_docstring(ast.parse((root / "benchmarks" / f"{name}.py").read_text(encoding="utf-8"))) or ""
        parts.append(f"## {file.stem}")
        parts.append(
            f"{about.splitlines()[0]} Command: `python -m benchmarks.{name}`; file: `benchmarks/results/{file.name}`."
        )
        parts += tables(json.loads(file.read_text(encoding="utf-8")))
    return "\n\n".join(parts) + "\n"


def tables(data: Any) -> Iterator[str]:
    """Tables of nested numbers: rows of one parent that have the same columns stand in one."""
    groups: dict[tuple[tuple[str, ...], tuple[str, ...]], list[Row]] = {}
    for trail, cells in rows(data, ()):
        groups.setdefault((trail[:-1], tuple(cells)), []).append((trail, cells))
    for (parents, columns), found in groups.items():
        if len(found) == 1 and len(columns) > 6:
            (trail, cells) = found[0]
            head, body = ["", "value"], [[name, text] for name, text in cells.items()]
            parents = trail
        else:
            head, body = ["", *columns], [[trail[-1] if trail else "", *cells.values()] for trail, cells in found]
        yield "\n".join(filter(None, [f"**{' › '.join(parents)}**\n" if parents else "", *table(head, body)]))


def table(head: list[str], body: list[list[str]]) -> list[str]:
    lines = ["| " + " | ".join(cell(c) for c in row) + " |" for row in [head, *body[:MOST]]]
    left = len(body) - MOST
    more = [f"\n… and {left} rows more in the file."] if left > 0 else []
    return [lines[0], "|---" * len(head) + "|", *lines[1:], *more]


def cell(text: str) -> str:
    return re.sub(r"([|\\<>*_`])", r"\\\1", text)


def rows(data: Any, trail: tuple[str, ...]) -> Iterator[Row]:
    """The innermost mappings as rows of text, each with the keys that lead to it."""
    if isinstance(data, list):
        data = {str(i + 1): item for i, item in enumerate(data)}
    leaves = {str(key): shown for key, value in data.items() if (shown := leaf(value)) is not None}
    if leaves:
        yield trail, leaves
    for key, value in data.items():
        if leaf(value) is None:
            yield from rows(value, (*trail, str(key)))


def leaf(value: Any) -> str | None:
    """A value as text, None where it holds more than one: of many numbers the median, of an interval its ends."""
    if isinstance(value, dict):
        if {"value", "low", "high"} <= value.keys():
            return f"{leaf(value['value'])} ({leaf(value['low'])} to {leaf(value['high'])})"
        return None
    if isinstance(value, list):
        if not value:
            return "none"
        if not all(isinstance(v, (int, float)) for v in value):
            return ", ".join(map(str, value)) if all(isinstance(v, str) for v in value) else None
        if len(value) <= 3:
            return ", ".join(f"{v:.4g}" for v in value)
        return f"{median(value):.4g} (median of {len(value)})"
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)
