"""Objects of Python as data: arrays, tensors, tables and torch data sets become the same `Dataset` as files do."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ornstein.data.arrays import DATA_KEYS, LABEL_KEYS, from_mapping
from ornstein.data.dataset import Dataset
from ornstein.data.frames import table_of
from ornstein.data.measuring import is_masked, measure
from ornstein.data.sources import open as open_source
from ornstein.data.streams import Row, Stream, beginning
from ornstein.errors import OrnsteinError, UsageError

IN_MEMORY = "memory"
"""The source of data that came as objects."""
MISSING = np.array(None)
"""The label of an item that has none."""
KINDS = (
    "a source's name or path, an array or tensor, a pair (x, y), a table with columns, a torch Dataset or DataLoader, "
    "or a Dataset of ornstein.data"
)


def dataset_of(
    value: Any,
    *,
    size: int | None = None,
    channels: int | None = None,
    layout: str | None = None,
    missing: str | None = None,
    columns: Iterable[str] | Mapping[str, str] = (),
) -> Dataset:
    """The data set of an object.

    - a name or path: as `ornstein.data.open` reads it, with `size` and `channels`, which are for these alone;
    - an array (N, D), (N, H, W), (N, H, W, C), ..., or a tensor (N, D), (N, H, W), (N, C, H, W), ..., whose samples have its
      axes; `layout` names them where the shape has several readings (`ornstein.data.layout`);
    - a pair (x, y) of such: whole numbers or words (N,) in y are labels (None, an empty word or a masked one is missing), a table
      (N, K) of whole numbers 0 and 1 is sets of labels, floating numbers (N,) or (N, C) are vectors (a row of NaN is missing); or
      a mapping with the keys of an .npz file (x, y, conditions, …), where NaN in y is a missing label;
    - a frame with `.columns` and `.to_numpy()` of numbers: vectors; its column `label` or `y`, where there is one, holds
      the labels;
    - a frame with columns of words, dates or missing numbers, or with `columns` that say types, such as {"zip": "category"}: rows
      of a table (`ornstein.data.frames`);
    - a map-style data set, with `len` and whole-number indices, of items x, (x, y) or mappings with keys as above. Each item
      is read once, into memory: what an item draws at random is drawn once;
    - data that can only be read in turn (a torch `IterableDataset`, a generator of items): they are held in memory, as above,
      where they end within 10,000 items and 256 MiB. Longer ones are a `Stream`: these first items give the classes, the range
      and the units, and each batch of a training is what comes next, each item once, from the beginning again at the end. Their
      order is no function of the seed: a training that goes on reads the stream from its beginning, and is not the unbroken one;
    - a torch `DataLoader`: of an indexed data set that it only batches or shuffles, that data set, with its own batch size but in
      the order by seed of this library; of another, or with a sampler or a collation of its own, the stream of its items.

    `missing` "mask" takes NaN among floating items for missing numbers, which are not learned; without it they are refused.

    Raises UsageError for anything else, and for values that do not fit each other; OrnsteinError, when it is read, for a stream
    whose later items have another shape, type or class than its first.
    """
    if isinstance(value, (str, Path)):
        return open_source(value, size=size, channels=channels, layout=layout, missing=missing, columns=columns)
    masked = is_masked(missing)
    if size is not None or channels is not None:
        raise UsageError("size and channels are for sources of images by name; resize the data themselves")
    if isinstance(value, Dataset):
        return value
    if _is_loader(value) and _only_batches(value):
        value = value.dataset
    if (make := _rows_of(value)) is not None:
        first, rows = beginning(make)
        if rows is None:
            return _measured(_stacked(first), layout, _is_loader(value), masked)  # which makes tensors
        if masked:
            raise UsageError(
                "missing: a stream is read once, so its holes are not known before; give data that fit in memory"
            )
        head = _measured(_stacked(first), layout, _is_loader(value))
        return Stream(
            head.items,
            head.labels,
            head.spec,
            head.annotations,
            rows=rows,
            pack=lambda some: _packed(_stacked(some), head),
        )
    if _is_frame(value) and (columns or (_is_mixed(value) and not masked)):
        return table_of(value, columns)
    return _measured(_columns(value), layout, _of_tensors(value), masked)


def _is_frame(value: Any) -> bool:
    return hasattr(value, "to_numpy") and hasattr(value, "columns") and not isinstance(value, type)


def _is_mixed(frame: Any) -> bool:
    """Whether a frame has a column besides its labels that is no number, or lacks some: such are the rows of a table."""
    if not hasattr(frame, "__getitem__"):
        return False
    for name in frame.columns:
        column = frame[name]
        values = np.asarray(column.to_numpy() if hasattr(column, "to_numpy") else column)
        if str(name) in LABEL_KEYS or values.ndim != 1:
            continue
        if values.dtype.kind not in "biuf" and not _is_numeric(values):
            return True
        if values.dtype.kind == "f" and np.isnan(values).any():
            return True
    return False


def _measured(columns: Mapping[str, NDArray[Any]], layout: str | None, torch: bool, masked: bool = False) -> Dataset:
    arrays = replace(from_mapping(columns, IN_MEMORY, layout, torch), masked=masked)
    for note in arrays.notes:
        warnings.warn(note, stacklevel=3)
    return Dataset(arrays.items, arrays.labels, measure(arrays, IN_MEMORY), arrays.annotations)


def batch_size_of(value: Any) -> int | None:
    """The batch size of a DataLoader; None of anything else, or where it says none."""
    return value.batch_size if _is_loader(value) else None


def _is_loader(value: Any) -> bool:
    return hasattr(value, "dataset") and hasattr(value, "batch_sampler") and hasattr(value, "collate_fn")


def _is_indexed(value: Any) -> bool:
    iterable = any(kind.__name__ == "IterableDataset" for kind in type(value).__mro__)
    return not iterable and hasattr(value, "__getitem__") and hasattr(value, "__len__")


def _only_batches(loader: Any) -> bool:
    """Whether a loader does nothing to the items of an indexed data set but to batch and shuffle them."""
    plain = type(getattr(loader, "sampler", None)).__name__ in ("SequentialSampler", "RandomSampler")
    drawn = getattr(loader.sampler, "replacement", False) or getattr(loader.sampler, "_num_samples", None) is not None
    collated = getattr(loader.collate_fn, "__name__", "") in ("default_collate", "default_convert")
    return _is_indexed(loader.dataset) and plain and collated and not drawn


def _rows_of(value: Any) -> Callable[[], Iterator[Row]] | None:
    """A function that iterates anew over data that can only be read in turn; None for other data."""
    if _is_loader(value):
        whole = value.batch_size is None and value.batch_sampler is None
        return lambda: (_row(item) for batch in value for item in ([batch] if whole else _items_of(batch)))
    if isinstance(value, type) or _is_array(value) or isinstance(value, (tuple, Mapping)) or hasattr(value, "columns"):
        return None
    if _is_indexed(value) or not hasattr(value, "__iter__"):
        return None
    return lambda: (_row(item) for item in value)


def _items_of(batch: Any) -> Iterator[Any]:
    """The items of a batch."""
    if isinstance(batch, Mapping):
        keys = list(batch)
        return (dict(zip(keys, values, strict=True)) for values in zip(*batch.values(), strict=True))
    if isinstance(batch, (tuple, list)):
        return zip(*batch, strict=True)
    return iter(batch)


def _packed(columns: Mapping[str, NDArray[Any]], head: Dataset) -> Dataset:
    """Later items of a stream, in the classes and units of the first. Raises OrnsteinError where they have others."""
    arrays, classes = from_mapping(columns, IN_MEMORY, head.spec.layout), head.spec.classes
    here, first = (arrays.items.shape[1:], arrays.items.dtype), (head.items.shape[1:], head.items.dtype)
    if here != first:
        raise OrnsteinError(
            f"data: an item of the stream has shape {here[0]} and type {here[1]}, and the first ones {first[0]} and {first[1]}"
        )
    strange = [name for name in arrays.classes if name not in classes]
    if strange:
        raise OrnsteinError(
            f"data: the stream has the label {strange[0]}, which none of its first {len(head):,} items has; give data that begin "
            "with all classes"
        )
    labels = None
    if classes:
        known = np.array([*map(classes.index, arrays.classes), len(classes)], np.int64)
        labels = known[np.full(len(arrays.items), -1) if arrays.labels is None else arrays.labels]
    return Dataset(arrays.items, labels, head.spec, arrays.annotations)


def _of_tensors(value: Any) -> bool:
    """Whether the items are tensors, which have their channels first."""
    if isinstance(value, Mapping):
        return any(_is_tensor(value[key]) for key in DATA_KEYS if key in value)
    if isinstance(value, (tuple, list)):
        return bool(value) and _of_tensors(value[0])
    if _is_array(value) or hasattr(value, "columns"):
        return _is_tensor(value)
    return hasattr(value, "__getitem__") and _of_tensors(value[0])


def _columns(value: Any) -> Mapping[str, NDArray[Any]]:
    """The arrays of all items, by the keys of an .npz file."""
    if isinstance(value, tuple):
        if len(value) != 2:
            raise UsageError(
                f"data: a tuple is a pair (x, y) of arrays, and this one has {len(value)}; give data or (x, y)"
            )
        return {"x": _array(value[0]), **_labels(value[1])}
    if isinstance(value, Mapping):
        return {key: _label_column(part) if key in LABEL_KEYS else _array(part) for key, part in value.items()}
    if _is_array(value):
        return {"x": _array(value)}
    if hasattr(value, "to_numpy") and hasattr(value, "columns"):
        return _table(value)
    if not isinstance(value, type) and _is_indexed(value):
        return _stacked(_row(value[number]) for number in range(len(value)))
    raise UsageError(f"data: a {type(value).__name__} is no data; give {KINDS}")


def _stacked(rows: Iterable[Row]) -> Mapping[str, NDArray[Any]]:
    """The columns of items."""
    columns: dict[str, list[NDArray[Any]]] = {}
    for number, each in enumerate(rows):
        row = dict(each)
        if "y" in row and "y" not in columns:  # those before lack a label
            columns["y"] = [MISSING] * number
        elif "y" in columns and "y" not in row:
            row["y"] = MISSING
        if number and row.keys() != columns.keys():
            raise UsageError(f"data: item {number} has {', '.join(row)}, and those before have {', '.join(columns)}")
        for key, value in row.items():
            before = columns.setdefault(key, [])
            if before and value.shape != before[0].shape:
                raise UsageError(
                    f"data: {key} of item {number} has shape {value.shape}, and of item 0 {before[0].shape}; "
                    "give items of one shape"
                )
            before.append(value)
    if not columns:
        raise UsageError("data: this data set has no items")
    words = {value.dtype.kind in "US" for value in columns.get("y", [])}
    if len(words) == 2:  # numpy would write a missing one among them as a word
        columns["y"] = [value.astype(object) for value in columns["y"]]
    stacked = {key: np.stack(values) for key, values in columns.items()}
    y = stacked.pop("y", None)
    lacking = y is None or (y.dtype.kind == "O" and all(value is None for value in y.reshape(-1)))
    return stacked if lacking else {**stacked, **_labels(y)}


def _row(item: Any) -> dict[str, NDArray[Any]]:
    """One item by the keys x, y, conditions, captions."""
    if isinstance(item, Mapping):
        x = next((key for key in DATA_KEYS if key in item), "")
        if not x:
            raise UsageError(
                f"data: an item has the keys {', '.join(map(str, item))}; call the one to learn x, its label y"
            )
        names = {x: "x", **dict.fromkeys(LABEL_KEYS, "y")}
        return {str(names.get(key, key)): _array(part) for key, part in item.items() if part is not None}
    if isinstance(item, (tuple, list)) and 1 <= len(item) <= 2:
        return dict(zip(("x", "y"), (_array(item[0]), *map(_array, item[1:])), strict=False))
    if isinstance(item, (tuple, list)):
        raise UsageError(f"data: an item is a tuple of {len(item)}; give x, (x, y), or a mapping with the keys x and y")
    return {"x": _array(item)}


def _table(table: Any) -> Mapping[str, NDArray[Any]]:
    names = [str(name) for name in table.columns]
    values = np.asarray(table.to_numpy())
    label = next((names.index(key) for key in LABEL_KEYS if key in names), None)
    rest = [i for i in range(len(names)) if i != label]
    wrong = [names[i] for i in rest if not _is_numeric(values[:, i])]
    if wrong:
        raise UsageError(
            f"data: column {wrong[0]!r} holds no numbers; take it away, or call it label if it holds the classes"
        )
    x = values[:, rest].astype(np.result_type(*(np.asarray(values[:, i].tolist()).dtype for i in rest)))
    if label is None:
        return {"x": x}
    # of columns of several types the whole is of the widest, where a whole number is floating
    labels = _label_column(table[names[label]] if hasattr(table, "__getitem__") else values[:, label].tolist())
    plain = labels.dtype.kind != "f" or bool(((labels == np.rint(labels)) | np.isnan(labels)).all())
    return {"x": x, "y" if plain else "conditions": labels}


def _is_numeric(column: NDArray[Any]) -> bool:
    return np.asarray(column.tolist()).dtype.kind in "biuf"


def _labels(value: Any) -> dict[str, NDArray[Any]]:
    """Annotations of the items by key: labels or sets of labels; vectors, if the numbers are floating."""
    array = _label_column(value)
    if array.dtype.kind == "f" and array.ndim == 1 and bool((np.isnan(array) | (array == np.rint(array))).all()):
        warnings.warn(
            "y holds floating numbers, which are vectors to condition on; if they are classes, give whole numbers or words (and "
            "None where one is missing)",
            stacklevel=4,
        )
    return {"conditions" if array.dtype.kind == "f" else "y": array}


def _label_column(value: Any) -> NDArray[Any]:
    """An array of labels, in which a missing one is None, or NaN among floating numbers."""
    if isinstance(value, np.ma.MaskedArray):
        if value.dtype.kind == "f":
            return np.asarray(value.filled(np.nan))
        hidden = np.ma.getmaskarray(value)
        array = value.data.astype(object)
        array[hidden] = None
        return np.asarray(array if hidden.any() else value.data)
    mixed = isinstance(value, (list, tuple)) and any(isinstance(entry, str) for entry in value)
    if mixed and not all(isinstance(entry, str) for entry in value):  # numpy would write a missing one as a word
        array = np.empty(len(value), object)
        array[:] = list(value)
        return array
    return _array(value)


def _is_tensor(value: Any) -> bool:
    return hasattr(value, "detach") and hasattr(value, "cpu")


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray) or _is_tensor(value)


def _array(value: Any) -> NDArray[Any]:
    if isinstance(value, np.ma.MaskedArray) and np.ma.getmaskarray(value).any():
        raise UsageError("data: the items have masked numbers; give them values, or leave these items out")
    if _is_tensor(value):
        value = value.detach().cpu()
        return np.asarray(value.float().numpy() if str(value.dtype) == "torch.bfloat16" else value.numpy())
    try:
        return np.asarray(value)
    except ValueError as error:
        raise UsageError(f"data: these values make no array ({error}); give numbers of one shape") from error
