"""Tables as data: CSV and other texts, Parquet, Arrow, Excel and SQLite files, in parts of some rows.

Texts are read by Python's own reader: it takes no package, names the line of every fault, and holds one part at a time. What is
binary is read by pyarrow (the extra `tables`).
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import math
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ornstein import extras
from ornstein.data.arrays import Arrays
from ornstein.data.cells import LARGEST, UNKNOWN, UnreadableCell, text_of
from ornstein.data.column_types import Guess, Survey, WantedType, guesses, must_be_learnable
from ornstein.data.columns import Column
from ornstein.data.stamps import Changed, stamp
from ornstein.errors import OrnsteinError, UsageError, brief

SQLITE = "sqlite:"
TEXTS = (".csv", ".tsv", ".tab")
ARROW = (".parquet", ".pq", ".feather", ".arrow", ".ipc")
EXCEL = (".xlsx", ".xlsm")
ENDINGS = (*TEXTS, *ARROW, *EXCEL)
DELIMITERS = ",;\t|"
PART = 1 << 15  # cells of texts that are looked at together, and
ROWS = 1 << 16  # rows of them at most
SAMPLE = 200  # lines by which the delimiter is recognised
IN_MEMORY = 256 << 20  # bytes of numbers that lie in memory; more lie in a file
WIDEST = 20_000  # columns
NUMERIC = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64")

Cell = str | None
Part = Sequence[Sequence[Cell] | NDArray[np.float64]]
"""The cells of each column of some rows: texts, or numbers with NaN for a missing one."""


class TableReader(ABC):
    """Reads one table: the names of its columns, the type the file has for each, and its rows in parts."""

    where: str

    @abstractmethod
    def header(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The names of the columns, and their types in the file, empty where it has none."""

    @abstractmethod
    def parts(self) -> Iterator[Part]:
        """All rows, in parts."""

    def notes(self) -> tuple[str, ...]:
        """Sentences about how it is read."""
        return ()


def is_table(source: str | Path) -> bool:
    """Whether a source is a table by its name."""
    text = str(source)
    return text.startswith(SQLITE) or _plain(Path(text)).suffix.lower() in ENDINGS


def reader(source: str | Path) -> TableReader:
    """What reads a table. Raises UsageError where its reader is not installed."""
    text = str(source)
    if text.startswith(SQLITE):
        return SQLiteReader(text)
    path = Path(text).expanduser()
    ending = _plain(path).suffix.lower()
    if ending in TEXTS:
        return TextReader(path)
    return ExcelReader(path) if ending in EXCEL else ArrowReader(path)


def place_of(source: str | Path) -> Path:
    """The file of a table's name."""
    text = str(source)
    return Path(text.removeprefix(SQLITE).partition("?")[0] if text.startswith(SQLITE) else text).expanduser()


def _plain(path: Path) -> Path:
    return path.with_suffix("") if path.suffix.lower() == ".gz" else path


def checked_names(names: Sequence[str], where: str) -> tuple[str, ...]:
    """The names of columns without spaces around them. Raises UsageError for one that is empty or there twice."""
    plain = tuple(name.strip() for name in names)
    if not plain:
        raise UsageError(f"{where} has no columns; there is nothing to learn from")
    if len(plain) > WIDEST:
        raise UsageError(
            f"{where} has {len(plain):,} columns, and {WIDEST:,} are the most; give an array (.npy) instead"
        )
    if "" in plain:
        place = plain.index("")
        index = ", or leave it out where it is an index (to_csv(index=False) of pandas)" if place == 0 else ""
        raise UsageError(f"{where}: column {place + 1} has no name; give it one{index}")
    seen: dict[str, int] = {}
    for place, name in enumerate(plain):
        if name in seen:
            raise UsageError(
                f"{where}: columns {seen[name] + 1} and {place + 1} are both called {brief(name)}; rename one"
            )
        seen[name] = place
    return plain


# Texts


@dataclass(frozen=True)
class Dialect:
    """How a text file is written."""

    encoding: str
    delimiter: str
    spaced: bool
    """Whether a space follows each delimiter, which belongs to no cell."""


@dataclass(frozen=True)
class TextReader(TableReader):
    """A CSV or TSV file, plain or gzipped; encoding, delimiter and spaces are recognised."""

    path: Path

    @property
    def where(self) -> str:  # type: ignore[override]
        return str(self.path)

    @property
    def dialect(self) -> Dialect:
        """Recognised once."""
        known: Dialect | None = self.__dict__.get("_dialect")
        if known is None:
            with self._faults():
                known = self._recognised()
            object.__setattr__(self, "_dialect", known)
        return known

    def header(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        with self._faults(), self._rows() as rows:
            names = next((row for row in rows if row), None)
        if names is None:
            raise UsageError(f"{self.path} is empty; there is nothing to learn from")
        checked = checked_names(names, self.where)
        if all(_is_number(name) for name in checked):
            raise UsageError(
                f"{self.path}: its first line is {brief(','.join(checked))}, numbers alone; write the names of the columns there"
            )
        return checked, ("",) * len(checked)

    def parts(self) -> Iterator[Part]:
        width = len(self.header()[0])
        size = max(1, min(ROWS, PART * 32 // width))
        with self._faults(), self._rows() as rows:
            next((row for row in rows if row), None)
            while block := list(islice(rows, size)):
                yield self._columns(block, width, rows)

    def notes(self) -> tuple[str, ...]:
        encoding = self.dialect.encoding
        usual = encoding in ("utf-8", "utf-8-sig", "utf-16")
        return () if usual else (f"{self.path} is not in UTF-8 and is read as {encoding}.",)

    def _columns(self, block: list[list[str]], width: int, rows: Any) -> list[Sequence[Cell]]:
        if any(len(row) != width for row in block):
            block = [row for row in block if row] if width > 1 else [row or [""] for row in block]
            for place, row in enumerate(block):
                if len(row) != width:
                    line = rows.line_num - (len(block) - place - 1)
                    raise UsageError(
                        f"{self.path}: near line {line} a row has {len(row)} cells and the header {width} "
                        f"(it begins {brief(self.dialect.delimiter.join(row)[:60])}); put a cell that holds "
                        f"{self.dialect.delimiter!r} into quotes, or mend the row"
                    )
        return list(zip(*block, strict=True)) if block else [()] * width

    @contextmanager
    def _rows(self) -> Iterator[Any]:
        dialect = self.dialect
        with self._opened() as raw, io.TextIOWrapper(raw, dialect.encoding, newline="") as lines:
            yield csv.reader(lines, delimiter=dialect.delimiter, skipinitialspace=dialect.spaced, strict=True)

    @contextmanager
    def _opened(self) -> Iterator[IO[bytes]]:
        if self.path.suffix.lower() == ".gz":
            with gzip.open(self.path) as file:
                yield file  # type: ignore[misc]
        else:
            with self.path.open("rb") as file:
                yield file

    @contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except csv.Error as error:
            reason = str(error)
            if "unexpected end" in reason:
                reason = "a quote is opened and not closed"
            raise OrnsteinError(f"{self.path} cannot be read as a table ({reason}); mend it") from error
        except UnicodeError as error:
            reason = getattr(error, "reason", "") or str(error)
            raise OrnsteinError(f"{self.path} is no text that can be read ({reason}); save it as UTF-8") from error
        except (OSError, EOFError) as error:
            raise OrnsteinError(f"{self.path} cannot be read ({error}); fetch it again") from error

    def _recognised(self) -> Dialect:
        encoding = self._encoding()
        with self._opened() as raw, io.TextIOWrapper(raw, encoding, newline="") as lines:
            sample = list(islice((line for line in lines if line.strip()), SAMPLE))
        if _plain(self.path).suffix.lower() in (".tsv", ".tab"):
            return Dialect(encoding, "\t", False)
        best, score = ",", (0.0, 0, 0)
        for delimiter in DELIMITERS:  # of several that fit all lines a comma comes last: it may be a mark
            try:
                rows = [row for row in csv.reader(sample, delimiter=delimiter, skipinitialspace=True) if row]
            except csv.Error:
                continue
            if not rows or len(rows[0]) < 2:
                continue
            same = sum(len(row) == len(rows[0]) for row in rows) / len(rows)
            fit = same, int(delimiter != ",") if same == 1 else 0, len(rows[0])
            if fit > score:
                best, score = delimiter, fit
        if score == (0.0, 0, 0):  # one column: what separates its cells is what no line holds
            best = next((mark for mark in DELIMITERS if not any(mark in line for line in sample)), ",")
        body = [line for line in sample[1:] if best in line]
        spaced = bool(body) and all(line.count(best) == line.count(best + " ") for line in body)
        return Dialect(encoding, best, spaced)

    def _encoding(self) -> str:
        with self._opened() as file:
            start = file.read(4)
            if start.startswith(codecs.BOM_UTF8):
                return "utf-8-sig"
            if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                return "utf-16"
            decoder = codecs.getincrementaldecoder("utf-8")()
            try:
                block = start + file.read(1 << 20)
                while block:
                    if b"\0" in block:
                        raise OrnsteinError(f"{self.path} is no text (it holds a byte of 0); save it as CSV in UTF-8")
                    decoder.decode(block)
                    block = file.read(1 << 20)
                decoder.decode(b"", final=True)
            except UnicodeDecodeError:
                return "cp1252"
        return "utf-8"


def _is_number(text: str) -> bool:
    try:
        float(text.replace(",", "."))
    except ValueError:
        return False
    return True


# Other files


@dataclass(frozen=True)
class ArrowReader(TableReader):
    """A Parquet, Feather or Arrow file."""

    path: Path

    @property
    def where(self) -> str:  # type: ignore[override]
        return str(self.path)

    def header(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        with self._faults(), self._file() as (schema, _):
            stored = []
            for field in schema:
                kind = str(field.type)
                kind = {"float": "float32", "double": "float64", "halffloat": "float16"}.get(kind, kind)
                kind = "string" if kind.startswith("dictionary") or kind in ("large_string", "string_view") else kind
                stored.append(kind)
            return checked_names(schema.names, self.where), tuple(stored)

    def parts(self) -> Iterator[Part]:
        names = self.header()[0]
        with self._faults(), self._file() as (_, batches):
            for batch in batches():
                yield [_arrow_cells(batch.column(i), name, self.where) for i, name in enumerate(names)]

    @contextmanager
    def _file(self) -> Iterator[tuple[Any, Callable[[], Iterator[Any]]]]:
        purpose = f"reading {self.path.suffix} files"
        if self.path.suffix.lower() in (".parquet", ".pq"):
            parquet = extras.library("pyarrow.parquet", purpose)
            with closing(parquet.ParquetFile(self.path)) as file:
                yield file.schema_arrow, lambda: file.iter_batches(ROWS)
            return
        ipc = extras.library("pyarrow.ipc", purpose)
        pyarrow = extras.library("pyarrow", purpose)
        with pyarrow.memory_map(str(self.path)) as source:
            try:
                file = ipc.open_file(source)
            except pyarrow.ArrowInvalid:
                stream = ipc.open_stream(source)
                yield stream.schema, lambda: iter(stream)
                return
            yield file.schema, lambda: (file.get_batch(i) for i in range(file.num_record_batches))

    @contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except OrnsteinError:
            raise
        except (OSError, ValueError, KeyError, NotImplementedError) as error:  # those of pyarrow are of these
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise OrnsteinError(f"{self.path} cannot be read as a table ({reason}); make it anew") from error


def _arrow_cells(column: Any, name: str, where: str) -> Sequence[Cell] | NDArray[np.float64]:
    """The cells of a column of a record batch."""
    kind = str(column.type)
    if kind in (*NUMERIC, "float", "double", "halffloat"):
        filled = column.to_numpy(zero_copy_only=False)
        if column.null_count == 0 and kind in ("int64", "uint64") and len(filled) and _is_beyond(filled):
            return [str(value) for value in filled.tolist()]
        return np.asarray(filled, np.float64)
    if kind.startswith(("list", "large_list", "struct", "map", "binary", "large_binary", "fixed_size", "union")):
        raise UsageError(
            f"{where}: column {name} holds values of type {kind}, which are no cells of a table; leave it out"
        )
    return [text_of(value) for value in column.to_pylist()]


def _is_beyond(values: NDArray[Any]) -> bool:
    return bool(max(abs(int(values.min())), abs(int(values.max()))) > LARGEST)


@dataclass(frozen=True)
class ExcelReader(TableReader):
    """The first sheet of an Excel file, through openpyxl."""

    path: Path

    @property
    def where(self) -> str:  # type: ignore[override]
        return str(self.path)

    def header(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        with self._rows() as rows:
            names = next(rows, ())
        checked = checked_names(["" if name is None else str(name) for name in names], self.where)
        return checked, ("",) * len(checked)

    def parts(self) -> Iterator[Part]:
        width = len(self.header()[0])
        with self._rows() as rows:
            next(rows, ())
            whole = (row for row in rows if any(cell is not None for cell in row))
            while block := list(islice(whole, ROWS)):
                for row in block:
                    if len(row) > width and any(cell is not None for cell in row[width:]):
                        raise UsageError(
                            f"{self.path}: a row has {len(row)} cells and the header {width}; mend the row"
                        )
                filled = [[*row[:width], *(None,) * (width - len(row))] for row in block]
                yield [[_excel_text(cell) for cell in column] for column in zip(*filled, strict=True)]

    @contextmanager
    def _rows(self) -> Iterator[Iterator[tuple[Any, ...]]]:
        openpyxl = extras.library("openpyxl", "reading Excel files")
        try:
            book = openpyxl.load_workbook(self.path, read_only=True, data_only=True)
        except Exception as error:  # openpyxl raises whatever zip and XML do
            raise OrnsteinError(f"{self.path} cannot be read as an Excel file ({error}); save it anew") from error
        try:
            yield book.worksheets[0].iter_rows(values_only=True)
        finally:
            book.close()


def _excel_text(cell: Any) -> str | None:
    text = text_of(cell)
    return text.removesuffix(" 00:00:00") if text is not None and hasattr(cell, "hour") else text


@dataclass(frozen=True)
class SQLiteReader(TableReader):
    """`sqlite:FILE?table`: one table of a SQLite file, which is opened for reading alone."""

    source: str

    @property
    def where(self) -> str:  # type: ignore[override]
        return self.source

    @property
    def path(self) -> Path:
        """The file."""
        return place_of(self.source)

    def header(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        with self._cursor() as cursor:
            names = checked_names([column[0] for column in cursor.description], self.where)
        return names, ("",) * len(names)

    def parts(self) -> Iterator[Part]:
        names = self.header()[0]
        with self._cursor() as cursor:
            while block := cursor.fetchmany(ROWS):
                columns = list(zip(*block, strict=True))
                for name, column in zip(names, columns, strict=True):
                    if any(isinstance(cell, bytes) for cell in column):
                        raise UsageError(f"{self.source}: column {name} holds bytes, which are no cells; leave it out")
                yield [[text_of(cell) for cell in column] for column in columns]

    @contextmanager
    def _cursor(self) -> Iterator[sqlite3.Cursor]:
        table = self.source.partition("?")[2]
        try:
            with closing(sqlite3.connect(f"{self.path.absolute().as_uri()}?mode=ro", uri=True)) as base:
                there = [
                    row[0] for row in base.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')")
                ]
                if table not in there:
                    raise UsageError(
                        f"{self.source}: there is no table {brief(table)}; give one of {', '.join(there[:8]) or 'none'}, such as "
                        f"sqlite:{self.path.name}?{there[0] if there else 'table'}"
                    )
                quoted = table.replace('"', '""')
                yield base.execute(f'SELECT * FROM "{quoted}"')
        except sqlite3.Error as error:
            raise OrnsteinError(f"{self.path} cannot be read as a SQLite file ({error})") from error


# From rows to data


@dataclass(frozen=True)
class TableFile:
    """A table as a source of data. `wanted` are the types that the user says; `like`: the columns of a run, which other data
    are read in: matched by name, in the run's order and categories."""

    source: str
    wanted: tuple[tuple[str, WantedType], ...] = ()
    like: tuple[Column, ...] = ()
    direct = False

    @property
    def path(self) -> Path:
        """The file."""
        return place_of(self.source)

    @property
    def reader(self) -> TableReader:
        """What reads it."""
        return reader(self.source)

    def fingerprint(self) -> str:
        """Changes when the file does, or what is said of its columns."""
        like = [column.to_json() for column in self.like]
        return f"{self.path.resolve()} {stamp(self.path)} {self.source} {self.wanted} {like}"

    def surveyed(self) -> list[Guess]:
        """The types of the columns, which takes one pass over all rows. Raises UsageError, OrnsteinError."""
        return survey(self.reader, dict(self.wanted))

    def load(self, scratch: Path | None = None) -> Arrays:
        """All rows as numbers `(N, C)`. Raises UsageError for columns that cannot be learned, OrnsteinError for a damaged file,
        Changed when it changes meanwhile."""
        before = self.fingerprint()
        opened = self.reader
        try:
            if self.like:
                arrays = read_like(opened, self.like, scratch)
            else:
                columns = survey(opened, dict(self.wanted))
                must_be_learnable(columns, opened.where)
                arrays = read(opened, columns, scratch)
        except OrnsteinError as error:
            if self.fingerprint() != before:
                raise Changed(f"{self.path} changed while it was read; try again when it is whole.") from error
            raise
        except MemoryError:
            raise OrnsteinError(f"{self.path} takes more memory than there is; give fewer rows or columns.") from None
        if self.fingerprint() != before:
            raise Changed(f"{self.path} changed while it was read; try again when it is whole.")
        return arrays


def survey(opened: TableReader, wanted: dict[str, WantedType]) -> list[Guess]:
    """The types of the columns of a table."""
    names, stored = opened.header()
    surveys = [Survey(name, kind) for name, kind in zip(names, stored, strict=True)]
    for part in opened.parts():
        for one, column in zip(surveys, part, strict=True):
            one.add(column)
    if not surveys[0].rows:
        raise UsageError(f"{opened.where} has no rows; there is nothing to learn from")
    if surveys[0].rows == 1:
        raise UsageError(f"{opened.where} has one row alone; there is nothing to learn from")
    return guesses(surveys, wanted, opened.where)


def read(opened: TableReader, columns: Sequence[Guess], scratch: Path | None = None) -> Arrays:
    """The rows as numbers `(N, C)` of the columns that are not dropped, with their types."""
    places = [i for i, guess in enumerate(columns) if guess.type != "drop"]
    learned = [columns[i] for i in places]
    return Arrays(_numbers(opened, learned, places, scratch), notes=opened.notes(), layout="NK", columns=tuple(learned))


def read_like(
    opened: TableReader, columns: Sequence[Column], scratch: Path | None = None, optional: bool = False
) -> Arrays:
    """The rows in the columns of a run, matched by name; what else there is, is named in a note.

    Rows with categories that the run does not have are left out, with a note. `optional`: columns that are not there are missing
    in all rows, and so are such categories. Raises UsageError where a column is not there, and for a cell that is no value of its
    column.
    """
    names = opened.header()[0]
    wanted = [column.name for column in columns]
    lacking = [name for name in wanted if name not in names]
    if lacking and (not optional or len(lacking) == len(wanted)):
        raise UsageError(
            f"{opened.where} lacks the column {', '.join(lacking[:6])}; give a table with the run's columns"
        )
    unused = [name for name in names if name not in wanted]
    notes = (
        [f"{opened.where} has the column{'s' * (len(unused) > 1)} {', '.join(unused[:6])} too, not used."]
        if unused
        else []
    )
    places = [names.index(name) if name in names else -1 for name in wanted]
    unknown: dict[str, set[str]] = {}
    items = _numbers(opened, columns, places, scratch, unknown)
    if unknown:
        strange = items == UNKNOWN
        for i, column in enumerate(columns):
            strange[:, i] &= column.name in unknown
        rows = strange.any(1)
        name = next(iter(unknown))
        what = "taken for missing there" if optional else "left out; items are counted without them"
        example = brief(sorted(unknown[name])[0])
        notes.append(
            f"{int(rows.sum()):,} of {len(items):,} rows of {opened.where} hold a category that the training data do not have, "
            f"such as {example} in column {name}, and are {what}."
        )
        items = np.where(strange, math.nan, items) if optional else np.asarray(items[~rows])
        if not len(items):
            raise UsageError(f"{notes[-1].rstrip('.')}; give others")
    return Arrays(items, notes=(*opened.notes(), *notes), layout="NK", columns=tuple(columns))


def _numbers(
    opened: TableReader,
    columns: Sequence[Guess | Column],
    places: Sequence[int],
    scratch: Path | None,
    unknown: dict[str, set[str]] | None = None,
) -> NDArray[np.float64]:
    """The cells as numbers (N, C): in memory, and where that is much in a file of `scratch`. `unknown` gets, by their column, the
    categories that the columns do not have; without it they are refused."""
    blocks: list[NDArray[np.float64]] = []
    rows, file = 0, None
    for part in opened.parts():
        count = len(part[0])
        block = np.full((count, len(columns)), math.nan)
        for to, (column, place) in enumerate(zip(columns, places, strict=True)):
            if place < 0:
                continue
            try:
                strange: set[str] | None = None if unknown is None else set()
                block[:, to] = column.cells.read(part[place], strange)
                if unknown is not None and strange:
                    unknown.setdefault(column.name, set()).update(strange)
            except UnreadableCell as error:
                raise UsageError(
                    f"{opened.where}: column {column.name} holds {brief(error.text)} in row {rows + error.place + 1}: "
                    f"{error.reason}"
                ) from None
        rows += count
        if file is None:
            blocks.append(block)
            if scratch is not None and rows * len(columns) * 8 > IN_MEMORY:
                file = (scratch / "numbers").open("w+b")
                for held in blocks:
                    file.write(held.tobytes())
                blocks = []
        else:
            file.write(block.tobytes())
    if file is not None:
        with file:
            file.flush()
            return np.memmap(file, np.float64, "r", shape=(rows, len(columns)))
    if not rows:
        raise UsageError(f"{opened.where} has no rows")
    return np.concatenate(blocks)
