"""Data sets of the Hugging Face hub, through the optional `datasets` package."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import numpy as np

from ornstein.data.annotations import TEXT_KEYS, Annotations
from ornstein.data.classes import notes_of
from ornstein.data.decode import Unreadable
from ornstein.data.image_files import ImageFile, ImageFiles, opener
from ornstein.errors import OrnsteinError, UsageError
from ornstein.extras import library

OLDEST = 4  # of the package: the first major version that runs no program that comes with data


def hub(name: str) -> ImageFiles:
    """The images of `NAME` or `NAME:SPLIT` (by default the split `train`), labelled by the first column of classes; captions are
    a column `text` or `caption`.

    Nothing that comes with the data is run. Raises `UsageError` when the package is not installed or older than 4, or there is
    no column of images, `OrnsteinError` when the data cannot be fetched.
    """
    datasets = library("datasets", f"hf:{name}")
    if int(datasets.__version__.split(".")[0]) < OLDEST:
        raise UsageError(
            f"hf:{name}: datasets {datasets.__version__} may run programs that come with data; "
            f"run `pip install 'datasets>={OLDEST}'`."
        )
    name, _, split = name.partition(":")
    try:
        table = datasets.load_dataset(name, split=split or "train")
    except Exception as error:  # the package raises its own and its network's errors
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise OrnsteinError(f"hf:{name} could not be fetched ({first}); check the name and the network.") from error
    image = next((key for key, kind in table.features.items() if isinstance(kind, datasets.Image)), None)
    if image is None:
        raise UsageError(f"hf:{name} has no column of images, only {', '.join(table.features)}.")
    label = next((key for key, kind in table.features.items() if isinstance(kind, datasets.ClassLabel)), None)
    table = table.cast_column(image, datasets.Image(decode=False))
    classes = () if label is None else tuple(table.features[label].names)
    labels: tuple[int, ...] | None = None if label is None else tuple(table[label])
    notes: tuple[str, ...] = ()
    if labels is not None:  # the hub writes -1, or nothing, where a label is not said
        labels = tuple(len(classes) if i is None or i < 0 else i for i in labels)
        if all(i == len(classes) for i in labels):
            labels, classes = None, ()
        else:
            notes = notes_of(np.array(labels, np.int64), classes)
    text = next((key for key in TEXT_KEYS if key in table.features), None)
    captions = None if text is None else tuple("" if cell is None else str(cell) for cell in table[text])
    return ImageFiles(
        where=f"hf:{name}",
        image_files=tuple(ImageFile(f"row {row}", _opener(table, row, image)) for row in range(len(table))),
        labels=labels,
        classes=classes,
        stamp=f"hf:{name}:{split} {table._fingerprint}",
        notes=notes,
        annotations=Annotations(captions=captions),
    )


def _opener(table: Any, row: int, column: str) -> Callable[[], IO[bytes]]:
    def read() -> IO[bytes]:
        cell = table[row][column]
        if cell is None:
            raise Unreadable("no image")
        return BytesIO(cell["bytes"]) if cell["bytes"] is not None else opener(Path(cell["path"]))()

    return read
