"""Rows as a file of a table: with the columns, order, types, decimal places and words for missing values of the training data."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ornstein import extras
from ornstein.data.cells import DateCells, NameCells, NumberCells
from ornstein.data.columns import Column
from ornstein.errors import UsageError
from ornstein.files.output import Output

Append = Callable[[NDArray[Any]], None]


@contextmanager
def new_table(output: Output, columns: Sequence[Column]) -> Iterator[Append]:
    """Within, a function that appends rows `(N, C)` to a file, which is there when the block ends well, and not at all otherwise.

    Raises UsageError for an ending that is not known, and what `Output.write` raises.
    """
    must_be_writable(output.path)
    with output.write() as file, WRITERS[output.path.suffix.lower()](file, columns, output) as append:
        yield append


def must_be_writable(out: Path) -> None:
    """Raises UsageError for the name of a file that no table can be written to, or whose writer is not installed."""
    ending = out.suffix.lower()
    if ending == ".npz":
        return
    if ending not in WRITERS:
        raise UsageError(
            f"--out {out} is no file of a table; use {', '.join(WRITERS)}, or .npz for an array of numbers"
        )
    if ending in ARROW:
        extras.check("pyarrow", f"writing {ending} files")
    if ending == ".xlsx":
        extras.check("openpyxl", "writing Excel files")


def texts(columns: Sequence[Column], rows: NDArray[Any]) -> list[list[str]]:
    """The cells of each column as texts."""
    return [column.cells.write(rows[:, i]) for i, column in enumerate(columns)]


def typed(columns: Sequence[Column], rows: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """The columns by their names, each in a type of its own: numbers, texts with None, dates."""
    return {column.name: column.cells.typed(rows[:, i]) for i, column in enumerate(columns)}


def delimiter(path: Path, columns: Sequence[Column]) -> str:
    """What separates cells: a semicolon where numbers have a decimal comma."""
    if path.suffix.lower() in (".tsv", ".tab"):
        return "\t"
    comma = any(isinstance(column.cells, NumberCells) and column.cells.mark == "," for column in columns)
    return ";" if comma else ","


@contextmanager
def _text(file: Path, columns: Sequence[Column], output: Output) -> Iterator[Append]:
    with file.open("w", encoding="utf-8", newline="") as stream:
        mark = delimiter(output.path, columns)
        alone = (
            mark == ";" and len(columns) == 1
        )  # where nothing but quotes would tell a decimal comma from a delimiter
        if alone:
            writer = csv.writer(stream, delimiter=mark, lineterminator="\n", quoting=csv.QUOTE_ALL)
        else:
            writer = csv.writer(stream, delimiter=mark, lineterminator="\n")
        writer.writerow([column.name for column in columns])
        yield lambda rows: writer.writerows(zip(*texts(columns, rows), strict=True))


@contextmanager
def _parquet(file: Path, columns: Sequence[Column], output: Output) -> Iterator[Append]:
    parquet = extras.library("pyarrow.parquet", "writing Parquet files")
    schema = _schema(columns).with_metadata({"ornstein": output.stamp})
    with parquet.ParquetWriter(file, schema) as writer:
        yield lambda rows: writer.write_batch(_batch(columns, rows, schema))


@contextmanager
def _feather(file: Path, columns: Sequence[Column], output: Output) -> Iterator[Append]:
    ipc = extras.library("pyarrow.ipc", "writing Arrow files")
    schema = _schema(columns).with_metadata({"ornstein": output.stamp})
    with ipc.new_file(str(file), schema) as writer:
        yield lambda rows: writer.write_batch(_batch(columns, rows, schema))


def _schema(columns: Sequence[Column]) -> Any:
    pyarrow = extras.library("pyarrow", "writing Arrow files")
    return pyarrow.schema([(column.name, _arrow_type(column)) for column in columns])


def _arrow_type(column: Column) -> Any:
    """The type that the training data had in their file, or the one of its cells."""
    pyarrow = extras.library("pyarrow", "writing Arrow files")
    cells = column.cells
    if isinstance(cells, NumberCells):
        return getattr(pyarrow, cells.stored or ("int64" if cells.whole else "float64"))()
    if isinstance(cells, DateCells):
        if cells.unit == "days":
            return pyarrow.date32()
        return (
            pyarrow.timestamp("us" if cells.unit == "microseconds" else "s") if "%Y" in cells.form else pyarrow.string()
        )
    return pyarrow.bool_() if isinstance(cells, NameCells) and cells.stored == "bool" else pyarrow.string()


def _batch(columns: Sequence[Column], rows: NDArray[Any], schema: Any) -> Any:
    pyarrow = extras.library("pyarrow", "writing Arrow files")
    arrays = []
    for i, column in enumerate(columns):
        kind, lacking = schema.field(i).type, np.isnan(rows[:, i])
        if pyarrow.types.is_string(kind):
            values: Any = np.array(column.cells.write(rows[:, i]), object)
            values[lacking] = None
        elif pyarrow.types.is_integer(kind):
            values = np.where(lacking, 0, rows[:, i]).astype(np.int64)
        else:
            values = column.cells.typed(rows[:, i])
        if pyarrow.types.is_boolean(kind):
            values = np.array(
                [
                    None if bad else name.lower() == "true"
                    for bad, name in zip(lacking, column.cells.write(rows[:, i]), strict=True)
                ],
                object,
            )
        arrays.append(pyarrow.array(values, mask=lacking, from_pandas=True).cast(kind))
    return pyarrow.record_batch(arrays, schema=schema)


@contextmanager
def _excel(file: Path, columns: Sequence[Column], output: Output) -> Iterator[Append]:
    openpyxl = extras.library("openpyxl", "writing Excel files")
    book = openpyxl.Workbook(write_only=True)
    sheet = book.create_sheet("samples")
    sheet.append([column.name for column in columns])

    def append(rows: NDArray[Any]) -> None:
        for cells in zip(*(_excel_cells(column, rows[:, i]) for i, column in enumerate(columns)), strict=True):
            sheet.append(cells)

    yield append
    with file.open("wb") as stream:
        book.save(stream)


def _excel_cells(column: Column, values: NDArray[np.float64]) -> list[Any]:
    """Numbers as numbers and dates as dates; texts as texts, also those that begin as formulas do."""
    if isinstance(column.cells, NumberCells):
        whole = column.cells.whole
        return [None if value != value else round(value) if whole else value for value in values.tolist()]
    if isinstance(column.cells, DateCells) and "%Y" in column.cells.form:
        return [value if value is not None else None for value in column.cells.typed(values).tolist()]
    lacking = np.isnan(values)
    return [None if bad else text for bad, text in zip(lacking, column.cells.write(values), strict=True)]


ARROW = (".parquet", ".pq", ".feather", ".arrow")
WRITERS: dict[str, Callable[[Path, Sequence[Column], Output], AbstractContextManager[Append]]] = {
    ".csv": _text,
    ".tsv": _text,
    ".parquet": _parquet,
    ".pq": _parquet,
    ".feather": _feather,
    ".arrow": _feather,
    ".xlsx": _excel,
}
