"""From what a user writes after `--data` to a `Dataset`."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ornstein.data import image_files, packages, pixels
from ornstein.data.arrays import ArrayFile, Arrays, ArraySource, idx_labels_of
from ornstein.data.cache import ELSEWHERE, Items, cached, default_folder, remembered
from ornstein.data.column_spec import ColumnSpec
from ornstein.data.column_types import WantedType, read_wanted
from ornstein.data.content import chunks
from ornstein.data.dataset import Dataset
from ornstein.data.hub import hub
from ornstein.data.image_files import ImageFiles, Progress
from ornstein.data.image_rows import ENDINGS as PARQUET
from ornstein.data.image_rows import images_of
from ornstein.data.item_files import ItemFolder, open_folder
from ornstein.data.kinds import LAYOUTS
from ornstein.data.layout import from_model_order, to_model_order
from ornstein.data.long_series import LongFile, LongForm
from ornstein.data.measuring import is_masked, measure
from ornstein.data.origins import form_of
from ornstein.data.pairs import is_pairs, open_pairs
from ornstein.data.pixels import Size
from ornstein.data.scientific import variable_of
from ornstein.data.spec import DataSpec
from ornstein.data.stamps import Changed
from ornstein.data.table_files import SQLITE, TableFile, is_table, place_of
from ornstein.data.table_rows import ColumnDataset
from ornstein.data.toys import Toy
from ornstein.errors import OrnsteinError, UsageError
from ornstein.files.atomic import scratch
from ornstein.spelling import near

HUB = "hf:"
LARGEST_SIDE = 1 << 14
REMEMBERED = 32 << 20  # bytes of items that are used where they are, from which on what they are is kept in the cache

Matched = ArraySource | ImageFiles | TableFile | Toy
Keep = Callable[[Callable[[Items], Arrays]], Arrays]  # gives what the function builds, from the cache where it is there


class Wanted(NamedTuple):
    """Conversions of a source; None for none."""

    size: Size | None
    channels: int | None
    pad: bool
    limit: int | None
    layout: str | None = None


class Said(NamedTuple):
    """What a user says of a source; None for nothing."""

    layout: str | None = None
    missing: str | None = None
    like: DataSpec | None = None
    columns: tuple[tuple[str, WantedType], ...] = ()
    time: str | None = None
    id: str | None = None
    crop: int | None = None


def open(
    source: str | Path,
    *,
    size: int | tuple[int, int] | None = None,
    channels: int | None = None,
    pad: bool = False,
    limit: int | None = None,
    layout: str | None = None,
    missing: str | None = None,
    columns: Iterable[str] | Mapping[str, str] = (),
    time: str | None = None,
    id: str | None = None,
    crop: int | None = None,
    like: DataSpec | None = None,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> Dataset:
    """The data that `source` names: a known name (`names()`), `hf:NAME`, or a path.

    A path is a folder of images, a .zip of images (or a folder in it: images.zip/test), .npy, .npz, IDX, a variable of a file of
    HDF5, NetCDF or Zarr (FILE.h5?variable), a folder of WAV, FLAC or NIfTI files, or a table: .csv, .tsv,
    .parquet, .feather, .xlsx, or sqlite:FILE?table, of which `columns` says the types that are not to be guessed, as texts
    NAME=TYPE or a mapping (`ornstein.data.column_types`). `time` and `id` are the columns of a table in long form, of which each
    value of `id` is a series (`ornstein.data.long_series`). `crop` cuts sounds and such series into pieces of so many numbers.
    `size` is the side,
    or (height, width), that images are resized and cropped to (with `pad`: padded to); `channels` 1, 3 or 4 converts colours.
    Without them images keep their own. `limit` keeps that many items, evenly spaced. `layout` names the axes of an array where
    its shape has several readings (`ornstein.data.layout`); without it, items that fit `like` have its axes. `missing`
    "mask" takes NaN of a floating array for missing numbers, which are not learned; without it they are refused. `cache` is where
    decoded data lie; `progress(done, total)` is called while decoding. Warnings say what was
    skipped or decided.

    Raises `UsageError` if there is no such source or it cannot be used, `OrnsteinError` when it is damaged, `Changed`
    when it changes while it is read: here, or later from items that are read on demand.
    """
    wanted = Wanted(_sides(size), channels, pad, limit, layout)
    if limit is not None and limit < 1:
        raise UsageError(f"limit={limit} keeps nothing; give 1 or more.")
    if crop is not None and crop < 1:
        raise UsageError(f"crop={crop} leaves nothing; give 1 or more.")
    said = Said(layout, missing, like, tuple(read_wanted(columns).items()), time, id, crop)
    if (isinstance(source, Path) or source not in packages.NAMED) and not is_table(source):
        place = Path(source).expanduser()
        if is_pairs(place):
            return _unchanged(open_pairs(place), wanted, layout, missing)
    matched, name = _described(source, said), name_of(source)
    folder, fingerprint = default_folder() if cache is None else cache, matched.fingerprint()

    def still() -> None:
        if not str(source).startswith(HUB) and _fingerprint(source, said) != fingerprint:
            raise Changed(f"{name} changed while it was read; try again when it is whole.")

    keep = partial(cached, folder, (fingerprint, *wanted), source=name, describe=measure, still=still)
    try:
        if isinstance(matched, ImageFiles):
            arrays = _images(matched, wanted, progress, keep)
        else:
            arrays = _arrays(matched, wanted, progress, keep, folder)
        if arrays.spec is not None:
            spec = replace(arrays.spec, source=name)
        elif arrays.items.nbytes < REMEMBERED:
            spec = measure(arrays, name)
        else:
            spec = remembered(folder, (fingerprint, *wanted), arrays, name)
    except Changed:
        raise
    except OrnsteinError:  # half of a file that is being written may look damaged
        still()
        raise
    except MemoryError:
        raise OrnsteinError(
            f"memory ran out while {name} was read; free some, give a smaller --size, or write the items as .npy, of which a "
            "large one is read in parts."
        ) from None
    for note in arrays.notes:
        warnings.warn(note, stacklevel=2)
    if isinstance(spec, ColumnSpec):
        return ColumnDataset(arrays.items, None, spec, use=arrays.use)
    return Dataset(arrays.items, arrays.labels, spec, arrays.annotations, arrays.use, isinstance(matched, ImageFiles))


def _unchanged(pairs: Dataset, wanted: Wanted, layout: str | None, missing: str | None) -> Dataset:
    """Pairs, of which nothing else can be made. Raises UsageError where that is wanted."""
    if wanted.limit is not None or wanted.pad or layout is not None or is_masked(missing):
        raise UsageError(
            f"{pairs.spec.source} holds pairs of noise and sample, which are taken as they are; leave limit, pad, layout "
            "and missing out"
        )
    size = (wanted.size,) * 2 if isinstance(wanted.size, int) else wanted.size
    if size not in (None, pairs.spec.shape[1:]) or wanted.channels not in (None, pairs.spec.shape[0]):
        raise UsageError(
            f"{pairs.spec.source} holds pairs of items of shape {pairs.spec.shape}; leave size and channels out"
        )
    return pairs


def name_of(source: str | Path) -> str:
    """The normalised name of a source: ./images/ is images."""
    known = isinstance(source, str) and (source in packages.NAMED or source.startswith((HUB, SQLITE)) or not source)
    return str(source) if known else os.path.normpath(source)


def names() -> tuple[str, ...]:
    """The sources that have a name of their own."""
    return tuple(packages.NAMED)


def find(source: str | Path) -> Matched:
    """Where the data of `source` are, without decoding them. A `Path` is never taken for a name.

    Raises `UsageError` when nothing is there (with the nearest name), or a package is not installed.
    """
    if isinstance(source, str):
        if source in packages.NAMED:
            return packages.NAMED[source]()
        if source.startswith(HUB):
            return hub(source.removeprefix(HUB))
    if is_table(source) and place_of(source).is_file():
        path = place_of(source)
        if path.suffix.lower() in PARQUET and (rows := images_of([path], str(path))) is not None:
            return rows
        return TableFile(str(source))
    if (variable := variable_of(source)) is not None:
        return variable
    path = place_of(source)
    if path.is_dir():
        return open_folder(path)
    if not path.exists() and (inside := image_files.within_archive(path)) is not None:
        return image_files.archive(*inside)
    if not path.is_file():
        raise UsageError(_unknown(str(source), path))
    name = path.name.removesuffix(".gz")
    if path.suffix == ".zip":
        return image_files.archive(path)
    if path.suffix in (".npy", ".npz"):
        return ArrayFile(path)
    if name.endswith((".idx", "-ubyte", "idx1", "idx2", "idx3", "idx4")):
        return ArrayFile(path, labels=idx_labels_of(path), images=True)
    raise UsageError(
        f"{path} is not a kind of data that is known; give a folder or a .zip of images, .npy, .npz, an IDX file, a "
        "variable (FILE.h5?variable, .nc, .zarr), or a table (.csv, .tsv, .parquet, .feather, .xlsx, sqlite:FILE?table)."
    )


def _described(source: str | Path, said: Said) -> Matched:
    """A source with what the user says of it. Raises UsageError for a layout of what has known axes, holes in what has none,
    columns of what is no table, pieces of what is not cut."""
    matched, like = find(source), said.like
    if isinstance(matched, TableFile):
        time, id = said.time, said.id
        if like is not None and like.origin and like.origin[0] == LongForm.name and time is None and id is None:
            form = form_of(like)
            assert isinstance(form, LongForm)
            time, id = form.time, form.id
        if time is not None and id is not None:
            shape = None if like is None else (like.layout, like.shape)
            path, crop = matched.path, said.crop
            return LongFile(
                path=path, source=matched.source, time=time, id=id, wanted=said.columns, crop=crop, like=shape
            )
        if said.layout is not None or said.missing is not None:
            raise UsageError("layout and missing are for arrays; a table has columns, and empty cells are missing")
        if time is not None or id is not None:
            lacking = "id, the column that names each series" if id is None else "time, the column of its times"
            raise UsageError(f"a table in long form needs {lacking}, too")
        if said.crop is not None:
            raise UsageError(
                "crop: a table has rows, which are not cut; give time and id of one in long form, or leave it out"
            )
        return (
            replace(matched, like=like.columns)
            if isinstance(like, ColumnSpec)
            else replace(matched, wanted=said.columns)
        )
    if said.time is not None or said.id is not None:
        raise UsageError("time and id are columns of a table in long form, and this source is no table; leave them out")
    if said.columns:
        raise UsageError("columns: these are for tables, and this source is none; leave --column out")
    if said.crop is not None:
        if not isinstance(matched, ItemFolder):
            raise UsageError("crop: this is for folders of sounds and for tables in long form; leave it out")
        matched = replace(matched, crop=said.crop)
    if is_masked(said.missing):
        if not isinstance(matched, ArraySource):
            raise UsageError(
                "missing: this is for floating arrays, and image files and toy sets lack no numbers; leave it out"
            )
        matched = replace(matched, masked=True)
    if said.layout is None:
        return (
            matched
            if like is None or not isinstance(matched, ArraySource)
            else replace(matched, like=(like.layout, like.shape))
        )
    if not isinstance(matched, ArraySource):
        raise UsageError("layout: this is for arrays, and the axes of image files and toy sets are known; leave it out")
    return replace(matched, layout=said.layout)


def _fingerprint(source: str | Path, said: Said) -> str:
    """Content hash of the source as it is now; empty if it cannot be used."""
    try:
        return _described(source, said).fingerprint()
    except OrnsteinError:
        return ""


def _images(files: ImageFiles, wanted: Wanted, progress: Progress | None, keep: Keep) -> Arrays:
    size, channels, pad, limit, _ = wanted
    if limit is not None and limit < len(files.image_files):
        files = files.take(_spread(len(files.image_files), limit))
    return keep(lambda items: files.decode_into(items, size, channels, pad, progress))


def _arrays(
    file: ArraySource | TableFile | Toy, wanted: Wanted, progress: Progress | None, keep: Keep, folder: Path
) -> Arrays:
    size, channels, pad, limit, _ = wanted

    def build(items: Items) -> Arrays:
        with scratch(folder, ELSEWHERE) as place:
            return copied(items, file.load(place))

    def copied(items: Items, arrays: Arrays) -> Arrays:
        arrays = _limited(arrays, limit)
        if size is None and channels is None:
            for item in (item for chunk in chunks(arrays.items) for item in chunk):
                items.append(item)
            return arrays
        _must_be_images(arrays, str(file.path))
        if size is not None and arrays.masked:
            raise UsageError("missing: images with missing numbers cannot be resized; leave out --size or --missing")
        layout = "NHWC" if arrays.layout == "NHW" and channels not in (None, 1) else arrays.layout
        whole = (item for chunk in chunks(arrays.items) for item in _channels_last(chunk, arrays.layout))
        for done, item in enumerate(whole, 1):
            if channels is not None:
                item = pixels.with_channels(item, channels, str(file.path))
            item = item if size is None else _fitted(item, size, pad, arrays.low, arrays.high)
            items.append(from_model_order(item.transpose(2, 0, 1)[None], layout)[0])
            if progress is not None:
                progress(done, len(arrays.items))
        return replace(arrays, layout=layout)

    if file.direct:
        arrays = file.load()
        if size is None and channels is None:
            return _limited(arrays, limit)
        _must_be_images(arrays, str(file.path))
        shape = _channels_last(np.empty((0, *arrays.items.shape[1:]), np.bool_), arrays.layout).shape[1:]
        if size in (None, shape[:2]) and channels in (None, shape[-1]):
            return _limited(arrays, limit)
    return keep(build)


def _fitted(item: NDArray[Any], size: Size, pad: bool, low: float | None, high: float | None) -> NDArray[Any]:
    """An image in another size, within the range that the source states: an antialiasing filter swings a little beyond it."""
    made = pixels.fit(item, size, pad=pad, alpha=False)
    if low is None or high is None:
        return made
    return np.clip(made, min(low, item.min()), max(high, item.max())).astype(made.dtype)


def _channels_last(items: NDArray[Any], layout: str) -> NDArray[Any]:
    """Images (N, H, W, C) of a layout: a view."""
    moved: NDArray[Any] = to_model_order(items, layout).transpose(0, 2, 3, 1)
    return moved


def _must_be_images(arrays: Arrays, where: str) -> None:
    kind = LAYOUTS[arrays.layout]
    if not kind.pixels:
        raise UsageError(f"{where} holds {kind.plural}, which have no size and no channels; leave these options out.")


def _limited(arrays: Arrays, limit: int | None) -> Arrays:
    count = len(arrays.items)
    return arrays if limit is None or limit >= count else arrays.take(_spread(count, limit))


def _spread(count: int, limit: int) -> NDArray[np.int64]:
    """`limit` different indices spread evenly, so that files sorted by class keep all their classes."""
    return np.arange(limit, dtype=np.int64) * count // limit


def _sides(size: int | tuple[int, int] | None) -> Size | None:
    sides = (size, size) if isinstance(size, int) else size
    if sides is not None and (len(sides) != 2 or min(sides) < 1):
        raise UsageError(f"size={size} is no size; give the side, or height and width, in pixels.")
    if sides is not None and max(sides) > LARGEST_SIDE:
        raise UsageError(f"size is larger than {LARGEST_SIDE:,} pixels a side; give a smaller one.")
    return sides


def _unknown(source: str, path: Path) -> str:
    nearest = near(source, packages.NAMED)
    if nearest is None and path.parent.is_dir() and (name := near(path.name, _listing(path.parent))):
        nearest = str(path.with_name(name))
    hint = f"did you mean {nearest}?" if nearest else f"give a path, hf:NAME, or one of {', '.join(packages.NAMED)}."
    return f"There is no data source {source}; {hint}"


def _listing(folder: Path) -> list[str]:
    try:
        return [path.name for path in folder.iterdir()]
    except OSError:
        return []
