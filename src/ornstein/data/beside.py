"""What is known of each item beside its class: sets of labels, vectors, captions; from arrays and from tables beside pictures."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ornstein.errors import OrnsteinError, UsageError

VECTOR_KEYS = ("conditions", "condition")
TEXT_KEYS = ("captions", "caption", "text")
TABLES = ("metadata.jsonl", "metadata.json", "metadata.csv")
FILE_KEYS = ("file_name", "file", "image")
SET_KEYS = ("labels", "tags")


@dataclass(frozen=True, eq=False)
class Beside:
    """Rows that belong to the items of a data set; None where there are none.

    - `sets`: bool `(N, K)`, which of the K labels `tags` an item has, any number of them;
    - `vectors`: float32 `(N, C)`, in the user's own units; `encoder` names what made them out of the captions, if they are that;
    - `captions`: N texts.
    """

    sets: NDArray[np.bool_] | None = None
    tags: tuple[str, ...] = ()
    vectors: NDArray[np.float32] | None = None
    captions: tuple[str, ...] | None = None
    encoder: str = ""

    def take(self, indices: NDArray[np.int64]) -> Beside:
        """Only the rows of these items."""
        return replace(
            self,
            sets=None if self.sets is None else self.sets[indices],
            vectors=None if self.vectors is None else self.vectors[indices],
            captions=None if self.captions is None else tuple(self.captions[i] for i in indices.tolist()),
        )

    def content(self) -> bytes:
        """The sets and vectors, for a hash; captions count where they are used (`ornstein.conditions.encoded`)."""
        parts = [] if self.sets is None else [str(self.tags).encode(), self.sets.tobytes()]
        if self.vectors is not None and not self.encoder:
            parts += [str(self.vectors.shape).encode(), self.vectors.tobytes()]
        return b"".join(parts)


def from_arrays(archive: Mapping[str, NDArray[Any]], count: int, where: str) -> Beside:
    """The vectors and captions held by an .npz file's arrays. Raises `UsageError` for what does not fit the items."""
    vectors, captions, held = None, None, set(archive)
    for key in [key for key in VECTOR_KEYS if key in held]:
        vectors = checked_vectors(archive[key], count, f"{key} in {where}")
    for key in [key for key in TEXT_KEYS if key in held]:
        found = archive[key]
        if found.dtype.kind not in "US" or found.shape != (count,):
            raise UsageError(f"{key} in {where} has type {found.dtype} and shape {found.shape}; give {count} texts.")
        captions = tuple(text.decode() if isinstance(text, bytes) else str(text) for text in found.tolist())
    return Beside(vectors=vectors, captions=captions)


def is_sets(array: NDArray[Any], count: int) -> bool:
    """Whether an array of labels is a table with a column for each of several labels, of which an item has any number."""
    return array.ndim == 2 and len(array) == count and array.shape[1] > 1 and array.dtype.kind in "biuf"


def checked_sets(
    array: NDArray[Any], names: Sequence[str] | None, where: str
) -> tuple[NDArray[np.bool_], tuple[str, ...]]:
    """A table `(N, K)` of 0 and 1 and the names of its columns, by default their numbers. Raises `UsageError` otherwise."""
    if not np.isin(array, (0, 1)).all():
        raise UsageError(f"{where} has shape {array.shape}, a column for each label, and must hold only 0 and 1.")
    names = tuple(map(str, range(array.shape[1]) if names is None else names))
    if len(names) != array.shape[1]:
        raise UsageError(
            f"{where} has {array.shape[1]} columns, but there are {len(names)} classes: name one for each."
        )
    return np.ascontiguousarray(array, dtype=np.bool_), names


def checked_vectors(array: NDArray[Any], count: int, where: str) -> NDArray[np.float32]:
    """Vectors `(count, C)`, float32; `(count,)` numbers become vectors of one. Raises `UsageError` otherwise."""
    array = array[:, None] if array.ndim == 1 else array
    if array.dtype.kind not in "biuf" or array.ndim != 2 or len(array) != count or array.shape[1] == 0:
        raise UsageError(
            f"{where} has type {array.dtype} and shape {array.shape}; give numbers ({count}, C), a vector for each item."
        )
    found = array.astype(np.float32)
    if not np.isfinite(found).all():
        row = int(np.argmin(np.isfinite(found).all(axis=1)))
        raise UsageError(f"Row {row} of {where} is not finite as a 32-bit number; mend it.")
    return np.ascontiguousarray(found)


# Tables beside pictures


def read_table(name: str, content: bytes, where: str) -> dict[str, dict[str, Any]]:
    """The rows of a metadata table by the picture's name, as the fields `label`, `labels`, `conditions`, `text` say.

    JSON lines or CSV with a column `file_name`, or one JSON object of an object for each picture.
    Raises `OrnsteinError` for a file that cannot be read, `UsageError` for one without names.
    """
    place = f"{name} in {where}"
    try:
        text = content.decode("utf-8-sig")
        if name.endswith(".csv"):
            rows: list[Any] = list(csv.DictReader(io.StringIO(text)))
        elif name.endswith(".jsonl"):
            rows = [json.loads(line) for line in text.splitlines() if line.strip()]
        else:
            found = json.loads(text)
            rows = found if isinstance(found, list) else [{"file_name": key, **row} for key, row in found.items()]
    except (ValueError, AttributeError, TypeError, RecursionError, csv.Error) as error:
        raise OrnsteinError(f"{place} cannot be read as a table ({error}); mend it or take it away.") from error
    table = {}
    for number, row in enumerate(rows, 1):
        file = next((row[key] for key in FILE_KEYS if row.get(key)), None) if isinstance(row, dict) else None
        if file is None:
            raise UsageError(f"{place} names no picture in row {number}; give each row a `file_name`.")
        table[str(file).removeprefix("./")] = row
    return table


@dataclass(frozen=True, eq=False)
class Read:
    """What a table says of pictures, in their order."""

    labels: tuple[int, ...] | None
    classes: tuple[str, ...]
    beside: Beside


def from_table(table: Mapping[str, Mapping[str, Any]], names: Sequence[str], where: str) -> Read:
    """The columns of a table for these pictures. A column counts when any picture has it, and then all must.

    Raises `UsageError` that names the first picture without it, or a value that has no meaning.
    """

    def column(keys: Sequence[str]) -> list[Any] | None:
        key = next((key for key in keys if any(row.get(key) is not None for row in table.values())), None)
        if key is None:
            return None
        missing = [name for name in names if table.get(name, {}).get(key) is None]
        if missing:
            raise UsageError(
                f"{where}: {len(missing)} of {len(names)} pictures have no `{key}` ({missing[0]} is the first); give each one."
            )
        return [table[name][key] for name in names]

    labels, sets = column(("label",)), column(SET_KEYS)
    vectors, captions = column(VECTOR_KEYS), column(TEXT_KEYS)
    classes = tuple(sorted({str(label) for label in labels or ()}))
    beside = Beside(captions=None if captions is None else tuple(map(str, captions)))
    if sets is not None:
        several = [_names(entry) for entry in sets]
        tags = tuple(sorted({name for entry in several for name in entry}))
        found = np.zeros((len(names), len(tags)), np.bool_)
        for row, entry in zip(found, several, strict=True):
            row[[tags.index(name) for name in entry]] = True
        beside = replace(beside, sets=found, tags=tags)
    if vectors is not None:
        try:
            numbers = np.array([[float(part) for part in _names(entry)] for entry in vectors])
        except (TypeError, ValueError):
            raise UsageError(f"{where}: `conditions` must be as many numbers for each picture; mend them.") from None
        beside = replace(beside, vectors=checked_vectors(numbers, len(names), f"`conditions` in {where}"))
    return Read(None if labels is None else tuple(classes.index(str(label)) for label in labels), classes, beside)


def _names(entry: Any) -> list[str]:
    """The parts of a cell: a list, or words between semicolons, commas or bars."""
    parts = entry if isinstance(entry, list) else re.split(r"[;,|]", str(entry))
    return [word for part in parts if (word := str(part).strip())]
