"""Samples that were made before: every file and folder that `sample` writes, and arrays of one's own."""

from collections.abc import Iterable
from dataclasses import replace
from hashlib import file_digest, sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ornstein.cli.printing import say
from ornstein.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from ornstein.runs import Run


def read(file: Path, trained: "Run") -> "tuple[NDArray[Any], Tensor | None, str]":
    """Items in the run's own units, their classes where they are known, and a hash of what was read.

    A .npz with an array `samples`, and `labels` or none; a .npy; a folder of .npy, a file for each; a folder or zip of images.
    Numbers of another type are taken as they are, and those outside the range of the training counted, with a note.
    Raises UsageError for what is none of these and for items of another shape, OrnsteinError for those that hold NaN.
    """
    from ornstein.data.table_files import is_table

    labels = None
    if not file.exists():
        raise UsageError(f"--samples {file} cannot be read (No such file or directory); give a .npz file or a folder")
    if trained.spec.may_lack and is_table(file):
        return _rows(file, trained)
    if trained.spec.origin and (opened := _like_data(file, trained)) is not None:
        return opened
    if file.is_dir() and (numbers := sorted(file.glob("*.npy"))):
        items, digest = _stacked(file, numbers)
    elif file.suffix.lower() in (".npz", ".npy"):
        items, labels, digest = _array(file, trained)
    elif file.is_dir() or file.suffix.lower() == ".zip":
        return _images(file, trained)
    else:
        raise UsageError(
            f"--samples {file} is no .npz, .npy or folder; an image of many samples cannot be taken apart, so write them with "
            "`ornstein sample --out FOLDER` or `--out FILE.npz`"
        )
    adopted = _adopted(items, file, trained)
    if labels is not None and len(labels) != len(adopted):
        raise UsageError(f"--samples {file} holds {len(adopted)} samples and {len(labels)} labels; give one for each")
    return adopted, labels, digest


def _like_data(file: Path, trained: "Run") -> "tuple[NDArray[Any], Tensor | None, str] | None":
    """Items of a file, or a folder of files, of the kind that the data of the run came from; None for others."""
    import numpy as np

    from ornstein import data
    from ornstein.data.origins import ItemForm, form_of

    form = form_of(trained.spec)
    if form is None:
        return None
    folder = (
        isinstance(form, ItemForm)
        and file.is_dir()
        and any(name.name.endswith(form.endings) for name in file.iterdir())
    )
    if not folder and not file.name.lower().endswith(form.endings):
        return None
    opened = data.open(file, like=trained.spec)
    return np.asarray(_adopted(np.asarray(opened.items), file, trained)), None, opened.spec.content_hash


def _rows(file: Path, trained: "Run") -> "tuple[NDArray[Any], Tensor | None, str]":
    """Rows of a table in the columns of the run."""
    import numpy as np

    from ornstein import data

    opened = data.open(file, like=trained.spec)
    return np.asarray(opened.items), None, opened.spec.content_hash


def _array(file: Path, trained: "Run") -> "tuple[NDArray[Any], Tensor | None, str]":
    import numpy as np
    import torch

    from ornstein.data.classes import index_of

    labels = None
    try:
        if file.suffix.lower() == ".npy":
            items = np.load(file, allow_pickle=False)
        else:
            with np.load(file, allow_pickle=False) as arrays:
                items = arrays["samples"]
                labels = arrays.get("labels")
    except KeyError:
        raise UsageError(f"--samples {file} has no array `samples`; write it with `ornstein sample`") from None
    except (OSError, ValueError, EOFError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"--samples {file} cannot be read ({reason}); give a .npz file or a folder") from error
    if labels is not None and trained.spec.classes:
        where = f"--samples {file}: labels"
        place = {label: index_of(label, trained.spec.classes, where) for label in np.unique(labels).tolist()}
        labels = torch.tensor([place[label] for label in labels.tolist()])
    with file.open("rb") as stream:
        return items, None if not trained.spec.classes else labels, file_digest(stream, "sha256").hexdigest()


def _stacked(folder: Path, files: list[Path]) -> "tuple[NDArray[Any], str]":
    """A file for each sample, in the order of their names."""
    import numpy as np

    digest, items = sha256(), []
    for file in files:
        try:
            items.append(np.load(file, allow_pickle=False))
        except (OSError, ValueError, EOFError) as error:
            raise UsageError(f"--samples {folder}: {file.name} cannot be read ({error}); leave it out") from error
        if items[-1].shape != items[0].shape or items[-1].dtype != items[0].dtype:
            raise UsageError(
                f"--samples {folder}: {file.name} holds {items[-1].dtype} of shape {items[-1].shape}, and {files[0].name} "
                f"{items[0].dtype} of {items[0].shape}; give samples of one kind"
            )
        digest.update(np.ascontiguousarray(items[-1]).data)
    images = sum(1 for file in folder.glob("*.png"))
    if images:
        raise UsageError(
            f"--samples {folder} holds {len(files)} .npy files and {images} images; give a folder of one kind"
        )
    return np.stack(items), digest.hexdigest()


def _images(file: Path, trained: "Run") -> "tuple[NDArray[Any], Tensor | None, str]":
    """In the run's units: black and white are the ends of its range where one is declared, else the files' numbers count."""
    import numpy as np

    from ornstein import data
    from ornstein.data.content import chunks

    spec = trained.spec
    if not spec.traits.pixels:
        raise UsageError(
            f"--samples {file}: {trained.folder} makes {spec.traits.plural}, which are no images; give a .npz or .npy"
        )
    opened = data.open(file, channels=spec.shape[0], like=spec)
    if opened.spec.shape != spec.shape:
        raise UsageError(f"--samples {file} holds items of shape {opened.spec.shape}, not {spec.shape}")
    if not spec.is_whole:
        say(f"Note: {file} holds images of whole numbers, and the run makes {spec.dtype}; a .npz holds them exactly.")
    adopted, notes = opened.adopt(spec)
    _say(notes)
    items = np.asarray(adopted.items)
    if not adopted.spec.has_units_of(replace(spec, dtype=adopted.spec.dtype)):  # black to white in another type
        items = np.concatenate([spec.from_model(adopted.spec.to_model(np.array(part))) for part in chunks(items)])
    return items, None, opened.spec.content_hash


def _adopted(items: "NDArray[Any]", file: Path, trained: "Run") -> "NDArray[Any]":
    """Items in the axes and units of the run, with notes. Raises UsageError or OrnsteinError for what is no such item."""
    from ornstein.runs.items import check_units

    where = f"--samples {file}"
    if not items.size:
        raise UsageError(f"{where} holds no samples; give 100 or more")
    if items.dtype.kind in "biuf":
        check_units(trained, items, where)
    adopted, notes = trained.spec.adopt(items, where)
    _say(notes)
    return adopted


def _say(notes: Iterable[str]) -> None:
    for note in notes:
        say(f"Note: {note}")
