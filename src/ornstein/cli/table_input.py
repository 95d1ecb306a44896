"""Tables that commands fill or predict from, and the file of the result: what `impute` and `predict` share."""

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ornstein.cli.printing import say
from ornstein.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ornstein.files.output import Output
    from ornstein.runs import Run


def read_rows(trained: "Run", name: str, besides: str | None = None) -> "tuple[NDArray[Any], str]":
    """The rows (N, C) of a table in the columns of a run, NaN where they are missing, and a hash of them.

    Columns that are not there are missing, and so are categories that the run does not have, with a note; none of the column
    `besides`, which is to be found.
    """
    import numpy as np

    from ornstein.data.column_spec import ColumnSpec
    from ornstein.data.table_files import is_table, place_of, read_like, reader

    spec = trained.spec
    assert isinstance(spec, ColumnSpec)
    if not is_table(name) or not place_of(name).is_file():
        raise UsageError(
            f"{name}: there is no such table; give a .csv, .tsv, .parquet, .feather, .xlsx or sqlite:FILE?table"
        )
    opened = reader(name)
    arrays = read_like(opened, spec.columns, optional=True)
    there = {besides, *opened.header()[0]}
    if lacking := [column.name for column in spec.columns if column.width and column.name not in there]:
        listed = f"{', '.join(lacking[:6])}{', ...' * (len(lacking) > 6)}"
        say(f"Note: {name} lacks {listed}: missing in all rows.")
    rows = np.asarray(arrays.items)
    for note in (*arrays.notes, *spec.notes_on(rows, name)):
        say(f"Note: {note}")
    return rows, sha256(np.ascontiguousarray(rows, "<f8").tobytes()).hexdigest()


def table_output(trained: "Run", out: str | None, name: str, recipe: Mapping[str, Any], force: bool) -> "Output":
    """The file of a result: --out, or one of this name in the run folder. Raises UsageError for what cannot be written."""
    from ornstein.data.table_writing import must_be_writable
    from ornstein.files.output import Output, digest, unused

    place = Path(out).expanduser() if out else trained.folder / name
    if place.suffix.lower() == ".npz":
        raise UsageError(f"--out {place}: the result is a table; give a .csv, .tsv, .parquet, .feather or .xlsx")
    must_be_writable(place)
    whole = digest({"model": trained.weights_hash, **recipe})
    output = Output(place, whole, force) if out else unused(place, whole, force)
    output.check()
    return output
