"""Parquet files of images as data set hubs write them: a column of encoded images (`bytes`, `path`), beside labels and captions.

Names of classes are those of the `huggingface` entry of the schema, where it has some. Several files of a folder are parts of one
data set, in the order of their names. Nothing that comes with the data is run.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from threading import Lock
from typing import IO, Any

import numpy as np

from ornstein import extras
from ornstein.data.annotations import LABEL_KEY, TEXT_KEYS, Annotations
from ornstein.data.classes import indexed, notes_of
from ornstein.data.decode import Unreadable
from ornstein.data.image_files import MAX_FILE, ImageFile, ImageFiles
from ornstein.data.stamps import stamp
from ornstein.errors import OrnsteinError, UsageError

ENDINGS = (".parquet", ".pq")
PURPOSE = "reading Parquet files"
MANY = 100_000  # different labels; more are no classes


def images_of(files: Sequence[Path], where: str) -> ImageFiles | None:
    """The images of the rows of Parquet files of one schema; None where they have no column of images.

    The label is the column `label`, or the only one with names of classes; the caption `text` or `caption`. Raises MissingExtra,
    UsageError for files that differ, OrnsteinError for damaged ones.
    """
    parquet = extras.library("pyarrow.parquet", PURPOSE)
    try:
        opened = [parquet.ParquetFile(file) for file in files]
        schema = opened[0].schema_arrow
        column = next((field.name for field in schema if _is_image(field.type)), None)
        if column is None:
            return None
        for file, one in zip(files, opened, strict=True):
            if not one.schema_arrow.equals(schema):
                raise UsageError(f"{file} has other columns than {files[0]}; give files of one data set")
        names = _classes(schema.metadata or {})
        label = LABEL_KEY if LABEL_KEY in schema.names else next((name for name in names if name in schema.names), None)
        text = next((key for key in TEXT_KEYS if key in schema.names), None)
        wanted = [name for name in (label, text) if name is not None]
        said = {name: [value for one in opened for value in _column(one, name)] for name in wanted}
    except OrnsteinError:
        raise
    except (OSError, ValueError, KeyError, NotImplementedError) as error:  # those of pyarrow are of these
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise OrnsteinError(f"{where} cannot be read as images in Parquet ({reason}); make it anew") from error
    rows = [
        ImageFile(f"row {start + row} of {file.name}", _opener(group, row))
        for file, one in zip(files, opened, strict=True)
        for start, group in _groups(one, column)
        for row in range(group.rows)
    ]
    labels, classes = (None, ()) if label is None else _labels(said[label], names.get(label), f"{label} in {where}")
    captions = None if text is None else tuple("" if value is None else str(value) for value in said[text])
    return ImageFiles(
        where,
        tuple(rows),
        labels,
        classes,
        "\n".join(f"{file.resolve()} {stamp(file)}" for file in files),
        () if labels is None else notes_of(np.array(labels, np.int64), classes),
        Annotations(captions=captions),
    )


def shards(names: Mapping[str, Path]) -> list[Path]:
    """The Parquet files of a folder; those whose names begin with train, as hubs write train-00000-of-00003.parquet, if there are
    any."""
    files = [path for _, path in sorted(names.items()) if path.suffix.lower() in ENDINGS]
    return [path for path in files if path.name.lower().startswith("train")] or files


def _is_image(kind: Any) -> bool:
    """Whether a column holds encoded images."""
    return str(kind).startswith("struct<") and {kind.field(i).name for i in range(kind.num_fields)} >= {"bytes", "path"}


def _classes(metadata: Mapping[bytes, bytes]) -> dict[str, list[str]]:
    """The names of classes by column."""
    try:
        features = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"]
        names_of = {name: about.get("names") for name, about in features.items() if isinstance(about, dict)}
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        return {}
    lists = {name: names for name, names in names_of.items() if isinstance(names, list) and names}
    return {name: names for name, names in lists.items() if all(isinstance(each, str) for each in names)}


def _labels(values: list[Any], names: list[str] | None, where: str) -> tuple[tuple[int, ...] | None, tuple[str, ...]]:
    """Labels as places among classes, a missing one behind them all. Raises UsageError for what is no label."""
    if all(value is None for value in values):
        return None, ()
    if names is not None:
        wrong = next((v for v in values if v is not None and (type(v) is not int or v >= len(names))), None)
        if wrong is not None:
            raise UsageError(f"{where} holds {wrong!r}, which is none of its {len(names)} classes; mend it")
        return tuple(len(names) if value is None or value < 0 else value for value in values), tuple(names)
    if any(not isinstance(value, (int, str, bool, type(None))) for value in values):
        raise UsageError(f"{where} holds numbers or lists that are no labels; rename the column")
    distinct = list(dict.fromkeys(values))
    if len(distinct) > MANY:
        raise UsageError(f"{where} holds {len(distinct):,} different labels; rename it if it is no label")
    index, classes = indexed(distinct)
    place = dict(zip(distinct, index.tolist(), strict=True))
    return tuple(place[value] for value in values), classes


def _column(opened: Any, name: str) -> list[Any]:
    return list(opened.read(columns=[name]).column(0).to_pylist())


class _Group:
    """A row group, of which the images are read when one is wanted, and kept until another group's are."""

    def __init__(self, opened: Any, number: int, rows: int, column: str, shared: dict[str, Any], lock: Lock) -> None:
        self.rows = rows
        self._opened, self._number, self._column, self._shared, self._lock = opened, number, column, shared, lock

    def cell(self, row: int) -> Any:
        """One cell."""
        with self._lock:
            if self._shared.get("group") != self._number:
                held = self._opened.read_row_group(self._number, columns=[self._column]).column(0).combine_chunks()
                self._shared.update(group=self._number, cells=held)
            return self._shared["cells"][row].as_py()


def _groups(opened: Any, column: str) -> list[tuple[int, _Group]]:
    """The row groups of a file, with the number of the first row of each."""
    counts = [opened.metadata.row_group(i).num_rows for i in range(opened.num_row_groups)]
    starts = np.cumsum([0, *counts])[:-1].tolist()
    shared, lock = dict[str, Any](), Lock()
    groups = [_Group(opened, i, count, column, shared, lock) for i, count in enumerate(counts)]
    return list(zip(starts, groups, strict=True))


def _opener(group: _Group, row: int) -> Callable[[], IO[bytes]]:
    def read() -> IO[bytes]:
        try:
            cell = group.cell(row)
        except (OSError, ValueError, KeyError, NotImplementedError) as error:
            raise Unreadable(str(error)) from error
        if cell is None or cell["bytes"] is None:
            raise Unreadable("no bytes of an image, only the name of a file elsewhere" if cell else "no image")
        if len(cell["bytes"]) > MAX_FILE:
            raise Unreadable(f"more than {MAX_FILE >> 20} MB")
        return BytesIO(cell["bytes"])

    return read
