"""`ornstein data`: what a source holds, and the types of the columns of a table."""

from collections.abc import Sequence
from shlex import quote
from typing import TYPE_CHECKING

from ornstein.cli.options import Data
from ornstein.cli.parse import parse
from ornstein.cli.printing import dims, few, say, table
from ornstein.errors import UsageError
from ornstein.meter import Meter

if TYPE_CHECKING:
    from ornstein.data import Dataset

MOST = 200  # columns of a table


def run(words: Sequence[str]) -> int:
    """Print one screen about a source; exit code 2 where a column cannot be learned as it is."""
    options = parse(Data, "data", words)
    from ornstein.data.sources import find
    from ornstein.data.table_files import TableFile

    how = {name: getattr(options, name) for name in ("layout", "missing", "time", "id", "crop")}
    long = options.time is not None or options.id is not None
    source = None if long else find(options.data)
    said = () if options.column is None else options.column.splitlines()
    if isinstance(source, TableFile):
        used = [f"--{name}" for name, value in how.items() if value is not None]
        if used:
            raise UsageError(f"{used[0]}: {options.data} is a table of rows; leave it out, or give --time and --id")
        return _columns(options.data, source, said)
    if said and not long:
        raise UsageError(f"--column is for tables, and {options.data} is none; leave it out")
    from ornstein import data

    dataset = data.open(options.data, columns=said, **how)
    spec = dataset.spec
    say(
        table(
            [
                ("data", f"{spec.source}: {spec.count:,} {spec.traits.plural}, {dims(spec)}, {spec.dtype}"),
                *(("units" if i == 0 else "", line) for i, line in enumerate(spec.units())),
                ("classes", few(spec.classes) if spec.classes else "none"),
                *_annotations(dataset),
            ]
        )
    )
    return 0


def _annotations(dataset: "Dataset") -> list[tuple[str, str]]:
    """What else items have: sets of labels, vectors, captions."""
    other, count = dataset.annotations, len(dataset)
    lines = []
    if other.sets is not None:
        lines.append(("labels", f"any of {few(other.tags)}"))
    if other.vectors is not None:
        lines.append(("vectors", f"{other.vectors.shape[1]:,} numbers each"))
    if other.captions is not None:
        first = next(text for text in other.captions if text.strip())
        there = count - other.lacking["caption"]
        lines.append(("captions", f"of {there:,} items, such as {first[:60]!r}; --text words or minilm learns them"))
    return lines


def _columns(name: str, source: "object", said: Sequence[str]) -> int:
    from dataclasses import replace

    from ornstein.data.column_types import must_be_learnable, read_wanted
    from ornstein.data.table_files import TableFile

    assert isinstance(source, TableFile)
    wanted = read_wanted(said)
    with Meter(f"reading {name}", patience=1.0):
        columns = replace(source, wanted=tuple(wanted.items())).surveyed()
    for note in source.reader.notes():
        say(f"Note: {note}")
    rows = [
        ("column", "type", "why"),
        *((c.name, c.type, c.why + (" (!)" if c.problem else "")) for c in columns[:MOST]),
    ]
    widths = [max(len(row[i]) for row in rows) for i in range(2)]
    say([f"  {a:{widths[0]}}  {b:{widths[1]}}  {why}" for a, b, why in rows])
    if len(columns) > MOST:
        say(f"  ... ({len(columns):,} columns)")
    must_be_learnable(columns, name)
    flags = "".join(f" --column {quote(text)}" for text in said)
    say(f"Train: ornstein train --data {quote(name)}{flags} --out runs/NAME --minutes 5")
    return 0
