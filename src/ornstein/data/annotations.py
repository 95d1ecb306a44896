"""Annotations of items besides their class: sets of labels, vectors, captions; from arrays and from tables of images."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ornstein.data import sets as tables
from ornstein.data.classes import indexed, listed, name_of, notes_of
from ornstein.data.content import item_bytes
from ornstein.data.sets import Sets
from ornstein.errors import OrnsteinError, UsageError

VECTOR_KEYS = ("conditions", "condition")
TEXT_KEYS = ("captions", "caption", "text")
TABLES = ("metadata.jsonl", "metadata.json", "metadata.csv", "metadata.tsv")
DELIMITERS = ",;\t|"  # of the cells of a row
FILE_KEYS = ("file_name", "filename", "file", "image")
SET_KEYS = ("labels", "tags")
LABEL_KEY = "label"
KEYS = frozenset((*FILE_KEYS, LABEL_KEY, *SET_KEYS, *VECTOR_KEYS, *TEXT_KEYS))
SEPARATORS = re.compile(r"[;,|]")  # between the parts of a cell
MOST_JSON = 256 << 20  # bytes of a table that is one JSON object, which is read whole


@dataclass(frozen=True, eq=False)
class Annotations:
    """Rows that belong to the items of a data set; None where there are none.

    - `sets`: a boolean table `(N, K)`, which of the K labels `tags` an item has, any number of them; `unknown`, boolean `(N,)`,
      is true where that is missing, None where it never is;
    - `vectors`: float32 `(N, C)`, in the user's own units, a row of NaN where one is missing; `encoder` names what made them out
      of the captions, if they are that;
    - `captions`: N texts, a missing one empty.
    """

    sets: Sets | None = None
    tags: tuple[str, ...] = ()
    vectors: NDArray[np.float32] | None = None
    captions: tuple[str, ...] | None = None
    encoder: str = ""
    unknown: NDArray[np.bool_] | None = None

    def take(self, indices: NDArray[np.int64]) -> Annotations:
        """Only the rows of these items."""
        return replace(
            self,
            sets=None if self.sets is None else self.sets.take(indices),
            vectors=None if self.vectors is None else self.vectors[indices],
            captions=None if self.captions is None else tuple(self.captions[i] for i in indices.tolist()),
            unknown=None if self.unknown is None else self.unknown[indices],
        )

    def with_tags(self, tags: tuple[str, ...]) -> tuple[Annotations, str]:
        """The sets in the columns of other tags, matched by name, and a sentence where some are left out or lack."""
        if self.sets is None or self.tags == tags:
            return self, ""
        places = np.array([tags.index(name) if name in tags else -1 for name in self.tags])
        strange = [name for name in self.tags if name not in tags]
        lacking = [name for name in tags if name not in self.tags]
        notes = [f"The labels {listed(strange)} are left out, which the run does not have."] if strange else []
        notes += [f"No item has the run's labels {listed(lacking)}."] if lacking else []
        return replace(self, sets=self.sets.moved(places, len(tags)), tags=tags), " ".join(notes)

    def content(self) -> Iterator[bytes | memoryview]:
        """The sets and vectors, for a hash; captions count where they are used (`ornstein.conditions.encoded`)."""
        if self.sets is not None:
            yield f"\0sets {self.tags}".encode()
            yield item_bytes(self.sets.starts)
            yield item_bytes(self.sets.columns)
        if self.unknown is not None:
            yield b"\0unknown"
            yield item_bytes(self.unknown)
        if self.vectors is not None and not self.encoder:
            yield f"\0vectors {self.vectors.shape}".encode()
            yield item_bytes(self.vectors)

    @property
    def lacking(self) -> dict[str, int]:
        """How many items lack what others have, by its name."""
        return {
            "set of labels": 0 if self.unknown is None else int(self.unknown.sum()),
            "vector": 0 if self.vectors is None or self.encoder else int(np.isnan(self.vectors[:, 0]).sum()),
            "caption": sum(not text.strip() for text in self.captions or ()),
        }

    def notes(self) -> tuple[str, ...]:
        """Sentences on the items that lack an annotation."""
        return tuple(
            f"{count:,} items have no {what}, and are learned without one."
            for what, count in self.lacking.items()
            if count
        )


def from_arrays(archive: Mapping[str, NDArray[Any]], count: int, where: str) -> Annotations:
    """The vectors and captions held by an .npz file's arrays. Raises `UsageError` for what does not fit the items."""
    vectors, captions, held = None, None, set(archive)
    for key in [key for key in VECTOR_KEYS if key in held]:
        vectors = checked_vectors(archive[key], count, f"{key} in {where}")
    for key in [key for key in TEXT_KEYS if key in held]:
        texts = archive[key]
        if texts.dtype.kind not in "US" or texts.shape != (count,):
            raise UsageError(f"{key} in {where} has type {texts.dtype} and shape {texts.shape}; give {count} texts.")
        captions = tuple(text.decode() if isinstance(text, bytes) else str(text) for text in texts.tolist())
        if not any(text.strip() for text in captions):
            raise UsageError(f"{key} in {where}: all {count} texts are empty; give some, or leave it out.")
    return Annotations(vectors=vectors, captions=captions)


def is_sets(array: NDArray[Any], count: int) -> bool:
    """Whether an array of labels is a table with a column for each of several labels, of which an item has any number."""
    return array.ndim == 2 and len(array) == count and array.shape[1] > 1 and array.dtype.kind in "biuf"


def checked_sets(array: NDArray[Any], names: Sequence[str] | None, where: str) -> tuple[Sets, tuple[str, ...]]:
    """A table `(N, K)` of 0 and 1 and the names of its columns, by default their numbers. Raises `UsageError` otherwise."""
    try:
        sets = tables.from_table(array)
    except ValueError:
        raise UsageError(
            f"{where} has shape {tuple(array.shape)}, a column for each label, and must hold only 0 and 1."
        ) from None
    names = tuple(map(str, range(sets.width) if names is None else names))
    if len(names) != sets.width:
        raise UsageError(f"{where} has {sets.width} columns, but there are {len(names)} classes: name one for each.")
    return sets, names


def checked_vectors(array: NDArray[Any], count: int, where: str) -> NDArray[np.float32]:
    """Vectors `(count, C)`, float32; `(count,)` numbers become vectors of one, and a row of NaN is a missing vector.

    Raises `UsageError` for another shape or type, a row that is not finite in part, and where all are missing.
    """
    array = array[:, None] if array.ndim == 1 else array
    if array.dtype.kind not in "biuf" or array.ndim != 2 or len(array) != count or array.shape[1] == 0:
        raise UsageError(
            f"{where} has type {array.dtype} and shape {tuple(array.shape)}; give numbers ({count}, C), a vector for each item."
        )
    vectors = array.astype(np.float32)
    missing = np.isnan(vectors).all(axis=1)
    wrong = ~np.isfinite(vectors).all(axis=1) & ~missing
    if wrong.any():
        raise UsageError(
            f"Row {int(np.argmax(wrong))} of {where} is not finite as a 32-bit number; mend it, or write NaN in the whole row "
            "where it is missing."
        )
    if missing.all():
        raise UsageError(f"{where}: all {count} rows are missing; give some, or leave it out.")
    return np.ascontiguousarray(vectors)


# Tables next to images


def read_table(name: str, file: IO[bytes], where: str) -> tuple[dict[str, dict[str, Any]], tuple[str, ...]]:
    """The rows of a metadata table by the image's name, as the fields `label`, `labels`, `conditions`, `text` say; and notes of
    what is not used.

    JSON lines, or CSV with a column `file_name` whose cells are separated by commas, semicolons, tabs or bars, both read line by
    line, or one JSON object of an object for each image. Capitals in the names of columns do not matter.
    Raises `OrnsteinError` for a file that cannot be read, `UsageError` for one without names, and for what is ambiguous: a row of
    more cells than columns, two columns of one name, two rows of one image that differ.
    """
    place = f"{name} in {where}"
    table: dict[str, dict[str, Any]] = {}
    unused: dict[str, None] = {}
    repeated = 0
    try:
        for number, row in enumerate(_rows(name, file, place), 1):
            known = _fields(row, place, unused) if isinstance(row, dict) else {}
            image = next((known[key] for key in FILE_KEYS if known.get(key)), None)
            if image is None:
                raise UsageError(f"{place} names no image in row {number}; give each row a `file_name`.")
            image, before = str(image).removeprefix("./"), table.get(str(image).removeprefix("./"))
            if before is None:
                table[image] = known
                continue
            differs = [key for key in known if key not in (*FILE_KEYS, *TEXT_KEYS) and known[key] != before.get(key)]
            if differs:
                raise UsageError(
                    f"{place} names {image} twice, with {differs[0]} {str(before.get(differs[0]))[:40]!r} and, in row {number}, "
                    f"{str(known[differs[0]])[:40]!r}; give each image one row."
                )
            repeated += 1
    except UnicodeDecodeError as error:
        raise OrnsteinError(f"{place} is not text in UTF-8 ({error}); save it as that.") from error
    except (ValueError, AttributeError, TypeError, RecursionError, csv.Error) as error:
        raise OrnsteinError(f"{place} cannot be read as a table ({error}); mend it or take it away.") from error
    notes = [f"{repeated:,} rows of {place} name an image again; the first row of each is used."] if repeated else []
    if unused:
        columns = f"the column {next(iter(unused))}" if len(unused) == 1 else f"the columns {listed(list(unused))}"
        are = "is" if len(unused) == 1 else "are"
        notes.append(
            f"{place} has {columns} too, which {are} not used; a class goes under `label`, numbers under `conditions`."
        )
    return table, tuple(notes)


def _fields(row: Mapping[Any, Any], place: str, unused: dict[str, None]) -> dict[str, Any]:
    """The fields of a row that are known, by their names in small letters; the names of others go into `unused`."""
    fields: dict[str, Any] = {}
    for own, value in row.items():
        key = str(own).strip().lower()
        if key not in KEYS:
            unused[str(own).strip() or "without a name"] = None
        elif key in fields:
            raise UsageError(f"{place} has two columns {key}; rename or remove one.")
        else:
            fields[key] = value
    return fields


def _rows(name: str, file: IO[bytes], place: str) -> Iterator[Any]:
    if name.endswith(".json"):
        content = file.read(MOST_JSON + 1)
        if len(content) > MOST_JSON:
            raise ValueError(f"larger than {MOST_JSON >> 20} MB; write it as metadata.jsonl, a line for each image")
        rows = json.loads(content.decode("utf-8-sig"))
        yield from rows if isinstance(rows, list) else ({"file_name": key, **row} for key, row in rows.items())
        return
    in_cells = name.endswith((".csv", ".tsv"))
    with io.TextIOWrapper(file, "utf-8-sig", newline="" if in_cells else None) as lines:
        yield from _cells(lines, place) if in_cells else (json.loads(line) for line in lines if line.strip())


def _cells(lines: IO[str], place: str) -> Iterator[dict[str, str | None]]:
    """The rows of a table whose first line names its columns; that line tells what separates cells."""
    first = lines.readline()
    headers = {mark: next(csv.reader([first], delimiter=mark, skipinitialspace=True), []) for mark in DELIMITERS}
    marks = [mark for mark, header in headers.items() if any(cell.strip().lower() in FILE_KEYS for cell in header)]
    if not marks:
        raise UsageError(f"{place} has no column `file_name` (its first line is {first.strip()[:80]!r}); give it one.")
    header = [cell.strip() for cell in headers[marks[0]]]
    twice = next((cell for i, cell in enumerate(header) if cell and cell in header[:i]), None)
    if twice is not None:
        raise UsageError(f"{place} has two columns {twice}; rename or remove one.")
    for number, cells in enumerate(csv.reader(lines, delimiter=marks[0], skipinitialspace=True), 1):
        if any(cell.strip() for cell in cells[len(header) :]):
            raise UsageError(
                f"{place} has {len(cells)} cells in row {number} and {len(header)} columns; put a cell that holds {marks[0]!r} "
                "into quotes."
            )
        if cells:
            yield {key: cells[i] if i < len(cells) else None for i, key in enumerate(header)}


@dataclass(frozen=True, eq=False)
class Read:
    """Annotations from a table, in the order of the images."""

    labels: tuple[int, ...] | None
    classes: tuple[str, ...]
    annotations: Annotations
    notes: tuple[str, ...] = ()


def from_table(table: Mapping[str, Mapping[str, Any]], names: Sequence[str], where: str) -> Read:
    """The columns of a table for these images. A column counts when any image has it.

    An image that is not in the table lacks all of it. An empty cell, or null, is a missing label, vector or caption; an empty
    cell of `labels` says that there are none, and null that they are not known.
    Raises `UsageError` where the table names none of the images, or for a value that has no meaning.
    """
    rows = [table.get(name) for name in names]
    if not any(row is not None for row in rows):
        raise UsageError(
            f"{where}: none of the {len(names)} images is named in its table (the first image is {names[0]}, the first row "
            f"{next(iter(table), 'none')}); give `file_name` as the path below the folder."
        )

    def column(keys: Sequence[str], missing: Callable[[Any], bool]) -> list[Any] | None:
        """The values of the first of these keys that any image has; None for an image that lacks it."""
        key = next((key for key in keys if any(row is not None and not missing(row.get(key)) for row in rows)), None)
        if key is None:
            return None
        cells = (None if row is None else row.get(key) for row in rows)
        return [None if missing(cell) else cell for cell in cells]

    labels, sets = column((LABEL_KEY,), _is_blank), column(SET_KEYS, lambda cell: cell is None)
    vectors, captions = column(VECTOR_KEYS, _is_blank), column(TEXT_KEYS, _is_blank)
    annotations = Annotations(
        captions=None if captions is None else tuple("" if text is None else str(text) for text in captions)
    )
    if sets is not None:
        members, tags = tables.from_names([] if entry is None else _names(entry) for entry in sets)
        unknown = np.array([entry is None for entry in sets])
        annotations = replace(annotations, sets=members, tags=tags, unknown=unknown if unknown.any() else None)
    if vectors is not None:
        annotations = replace(annotations, vectors=_table_vectors(vectors, names, where))
    notes = [_strange_rows(table, names, where)] if table.keys() - set(names) else []
    if labels is None:
        return Read(None, (), annotations, (*notes, *annotations.notes()))
    several = next((i for i, label in enumerate(labels) if isinstance(label, (list, dict))), None)
    if several is not None:
        raise UsageError(
            f"{where}: the label of {names[several]} is {str(labels[several])[:80]}, not one word or number; several labels of "
            "an image go under `labels`."
        )
    index, classes = indexed(labels)
    return Read(tuple(index.tolist()), classes, annotations, (*notes, *notes_of(index, classes), *annotations.notes()))


def _is_blank(cell: Any) -> bool:
    return cell == [] or (not isinstance(cell, (list, dict)) and name_of(cell) is None)


def _table_vectors(entries: Sequence[Any], names: Sequence[str], where: str) -> NDArray[np.float32]:
    """The vectors of images, rows of NaN where there is none."""
    try:
        numbers = [None if entry is None else [float(part) for part in _names(entry)] for entry in entries]
        width = next(len(row) for row in numbers if row is not None)
        array = np.array([[np.nan] * width if row is None else row for row in numbers])
    except (TypeError, ValueError):
        raise UsageError(f"{where}: `conditions` must be as many numbers for each image; mend them.") from None
    return checked_vectors(array, len(names), f"`conditions` in {where}")


def _strange_rows(table: Mapping[str, Any], names: Sequence[str], where: str) -> str:
    strange = sorted(table.keys() - set(names))
    return f"{len(strange):,} of {len(table):,} rows of the table in {where} name no image there ({strange[0]} is the first)."


def _names(entry: Any) -> list[str]:
    """The parts of a cell: a list, or words between semicolons, commas or bars."""
    parts = entry if isinstance(entry, list) else SEPARATORS.split(str(entry))
    return [word for part in parts if (word := str(part).strip())]
