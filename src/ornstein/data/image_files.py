"""Image files as data: folders, zip files, and lists of images that other sources give."""

from __future__ import annotations

import os
import re
import stat
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path, PurePosixPath
from statistics import median
from typing import IO, Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from ornstein.data.annotations import TABLES, Annotations, from_table, read_table
from ornstein.data.arrays import DAMAGE, Arrays
from ornstein.data.cache import Items
from ornstein.data.decode import DEPTHS, NO_MEMORY, SUFFIXES, Format, ImageHeader, Unreadable, decode, header
from ornstein.data.pixels import Size
from ornstein.data.stamps import stamp, stamps
from ornstein.errors import OrnsteinError, UsageError

T = TypeVar("T")
Progress = Callable[[int, int], None]  # done, total

AUTO_SIDE = 64  # the longer side when sizes differ and none was requested
MAX_MEMBER = 128 << 20  # bytes of one image inside a zip file, which is read whole
MAX_FILE = 1 << 30  # bytes of one image file, which some readers read whole; 80 megapixels take less in any format
MAX_TEXT = 64 << 20  # bytes of a caption
THREADS = min(8, os.cpu_count() or 1)
ODD = 10  # of what one of so many files or fewer is, nothing is decided
SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("test", "testing", "holdout", "hold-out", "held-out", "held_out"), "test"),
    **dict.fromkeys(("val", "valid", "validation", "dev", "development", "eval", "evaluation"), "val"),
}
"""Names of folders of the parts of a data set, in any case."""
HELD_OUT = ("test", "val")
IGNORED = ("thumbs.db", "desktop.ini", "samples.json")  # of systems, and of folders of samples


class FileKind(NamedTuple):
    """Files of one item each: what they are called, and their endings."""

    plural: str
    suffixes: frozenset[str]

    def __contains__(self, name: object) -> bool:
        return str(name).lower().endswith(tuple(self.suffixes))


IMAGES = FileKind("images", SUFFIXES)


@dataclass(frozen=True)
class ImageFile:
    """An image file somewhere: its name for people, and how to open it."""

    name: str
    open: Callable[[], IO[bytes]]


@dataclass(frozen=True)
class ImageFiles:
    """Image files in order, with labels. `stamp` changes when any of them does."""

    where: str
    image_files: tuple[ImageFile, ...]
    labels: tuple[int, ...] | None
    classes: tuple[str, ...]
    stamp: str
    notes: tuple[str, ...] = ()
    annotations: Annotations = Annotations()

    def fingerprint(self) -> str:
        """Changes when a file does that decides what is read."""
        return f"{self.stamp}\n{self.classes}\n{self.notes}"

    def take(self, indices: NDArray[np.int64]) -> ImageFiles:
        """Only these files."""
        labels = None if self.labels is None else tuple(self.labels[i] for i in indices)
        image_files = tuple(self.image_files[i] for i in indices)
        return replace(self, image_files=image_files, labels=labels, annotations=self.annotations.take(indices))

    def decode_into(
        self, items: Items, size: Size | None, channels: int | None, pad: bool, progress: Progress | None
    ) -> Arrays:
        """Decodes every file into `items`, alike in size, channels and type; the rest is returned.

        Unreadable files are skipped and named in the notes: one, or fewer than 1 % of all. More raise `OrnsteinError`.
        """
        total = len(self.image_files)
        bad: dict[str, str] = {}
        with warnings.catch_warnings():  # a reader's remarks on broken metadata help nobody
            warnings.simplefilter("ignore")
            headers = [_read(file_, header, bad) for file_ in self.image_files]
            self._stop_if_too_many(bad)
            good = [i for i, head in enumerate(headers) if head is not None]
            remarks = self._remarks(headers)
            to, note = common_format([h for h in headers if h is not None], size, channels, pad)
            remarks += self._odd(headers, to, size is None, channels is None)
            decoded = []
            for i, image in _in_order(lambda i: _read(self.image_files[i], lambda file: decode(file, to), bad), good):
                if image is not None:
                    items.append(image)
                    decoded.append(i)
                if progress is not None:
                    progress(i + 1, total)
            self._stop_if_too_many(bad)
        notes = [*self.notes, *note, *remarks]
        if bad:
            notes.append(f"{len(bad)} of {total} files in {self.where} cannot be read and are skipped: {_listed(bad)}.")
        labels = None if self.labels is None else np.array([self.labels[i] for i in decoded], np.int64)
        annotations = self.annotations.take(np.array(decoded, np.int64))
        return Arrays(np.zeros(0), labels, self.classes, notes=tuple(notes), annotations=annotations)

    def _remarks(self, headers: Sequence[ImageHeader | None]) -> list[str]:
        """Contents of readable files that are not read."""
        remarks = []
        for holds, lost in (
            ("have more than 8 bits a channel, of which 8 are read; save them as 16-bit PNG to keep all", "cut"),
            ("hold several images, of which the first is read; take them apart to have all", "several"),
        ):
            named = [
                p.name for p, h in zip(self.image_files, headers, strict=True) if h is not None and getattr(h, lost)
            ]
            if named:
                remarks.append(f"{len(named)} of {len(headers)} files in {self.where} {holds} ({_few(named)}).")
        return remarks

    def _odd(self, headers: Sequence[ImageHeader | None], to: Format, sizes: bool, colours: bool) -> list[str]:
        """Sentences of the files that lose something to become what most are: a wider type, colours, another size."""
        known = [(file.name, head) for file, head in zip(self.image_files, headers, strict=True) if head is not None]
        wider = [f"{n}: {h.dtype}" for n, h in known if DEPTHS.index(h.dtype) > DEPTHS.index(to.dtype)]
        coloured = [n for n, h in known if colours and h.colours > to.channels]
        other = [f"{n}: {h.size[1]}x{h.size[0]}" for n, h in known if h.size != to.size]
        few_sizes = sizes and len(other) < len(known) and len(other) <= _odd_most(len(known))
        return [
            f"{len(names)} of {len(headers)} files in {self.where} become {what}, as most are ({_few(names)})."
            for names, what in (
                (wider, to.dtype),
                (coloured, "grey"),
                (other if few_sizes else [], f"{to.size[1]}x{to.size[0]} (width x height)"),
            )
            if names
        ]

    def _stop_if_too_many(self, bad: dict[str, str]) -> None:
        total = len(self.image_files)
        short = {name: reason for name, reason in bad.items() if reason == NO_MEMORY}
        if short:  # which others would be left out is a matter of chance
            raise OrnsteinError(
                f"memory ran out while {self.where} was read ({_listed(short)}); free some, or make these images smaller."
            )
        if len(bad) > max(1, (total - 1) // 100) or (bad and total - len(bad) < 2):
            raise OrnsteinError(
                f"{len(bad)} of {total} files in {self.where} cannot be read ({_listed(bad)}); "
                "remove or mend them, since only one file or fewer than 1 % may be skipped."
            )


def common_format(
    headers: Sequence[ImageHeader], size: Size | None, channels: int | None, pad: bool
) -> tuple[Format, list[str]]:
    """The common size and channels of all images: the requested; without them the size that all have but a few, or the median
    shrunk to at most 64 (with a note), the colours (transparency is composited) and the type that `_common` finds."""
    notes = []
    sizes = Counter(head.size for head in headers)
    most, count = sizes.most_common(1)[0]
    if size is None and len(headers) - count <= (_odd_most(len(headers)) if count > 1 else 0):
        size = most
    elif size is None:
        height, width = (median(s[axis] for s in (h.size for h in headers)) for axis in (0, 1))
        shrink = min(1.0, AUTO_SIDE / max(height, width))
        size = _round_to_8(height * shrink), _round_to_8(width * shrink)
        notes.append(
            f"The images have {len(sizes)} different sizes and become {size[1]}x{size[0]} (width x height); "
            "ask for a size to have another."
        )
    if channels is None:
        channels = _common([head.colours for head in headers])
    elif channels not in (1, 3, 4):
        raise UsageError(f"Image files can be read with 1, 3 or 4 channels, not {channels}.")
    return Format(size, channels, DEPTHS[_common([DEPTHS.index(head.dtype) for head in headers])], pad), notes


def _odd_most(count: int) -> int:
    """How many of so many files may be odd."""
    return max(1, count // ODD)


def _common(widths: Sequence[int]) -> int:
    """The widest that more than a tenth of the files have, and more than one; else the most common one."""
    counts = Counter(widths)
    common = [width for width, count in counts.items() if count > _odd_most(len(widths))]
    return max(common) if common else max(counts, key=lambda width: (counts[width], width))


def _few(names: Sequence[str]) -> str:
    """The first names, for a sentence."""
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def folder(root: Path, kind: FileKind = IMAGES, names: Mapping[str, Path] | None = None) -> ImageFiles:
    """Every image, or other file of a kind, under `root`, sorted by path; links are followed once each, hidden names left out.

    Of folders that are the parts of a data set, such as train and test, it is the images in train. Raises `UsageError` when there
    is none.
    """
    names = walk(root) if names is None else names
    openers = {name: opener(path) for name, path in names.items()}
    return _described(str(root), openers, lambda used: f"{root.resolve()}\n{stamps(root, used)}", kind)


def walk(root: Path) -> dict[str, Path]:
    """All files under a folder by their names."""
    paths: list[Path] = []
    seen: set[tuple[int, int]] = set()
    for here, folders, files in os.walk(root, followlinks=True, onerror=_stop):
        about = os.stat(here)
        if (about.st_dev, about.st_ino) in seen:  # a link back into what was already walked
            folders.clear()
            continue
        seen.add((about.st_dev, about.st_ino))
        folders[:] = sorted(name for name in folders if not _hidden(name))
        paths += [Path(here, name) for name in files if not _hidden(name)]
    return {path.relative_to(root).as_posix(): path for path in paths}


def archive(path: Path, below: str = "") -> ImageFiles:
    """Every image in a zip file, or in the folder `below` in it, read in memory and never unpacked to disk.

    Members that are links, or whose names lead outside (`..`, absolute), are ignored. Raises `OrnsteinError` for a damaged file,
    `UsageError` when it holds no image.
    """
    openers = {name: read for name, read in _members(path).items() if not below or name.startswith(f"{below}/")}
    return _described(str(path / below), openers, lambda used: f"{path.resolve()} {below} {stamp(path)}")


def within_archive(path: Path) -> tuple[Path, str] | None:
    """The zip file and the folder in it that a path such as images.zip/test names; None where it is no such path."""
    file = next((parent for parent in path.parents if parent.suffix == ".zip" and parent.is_file()), None)
    return None if file is None else (file, path.relative_to(file).as_posix())


def _members(path: Path) -> dict[str, Callable[[], IO[bytes]]]:
    """The files in a zip file."""
    try:
        opened = zipfile.ZipFile(path)
    except DAMAGE as error:
        raise OrnsteinError(f"{path} is not a zip file that can be read ({error}); make it anew.") from error
    openers: dict[str, Callable[[], IO[bytes]]] = {}
    for member in opened.infolist():
        parts = PurePosixPath(member.filename).parts
        link = stat.S_ISLNK(member.external_attr >> 16)
        outside = ".." in parts or member.filename.startswith(("/", "\\"))
        nameless = not member.filename  # Python's own is_dir takes it for no such thing
        if not (nameless or member.is_dir() or link or outside or any(map(_hidden, parts))):
            openers[member.filename] = _member_opener(opened, member)
    return openers


def _described(
    where: str,
    openers: dict[str, Callable[[], IO[bytes]]],
    stamp_of: Callable[[list[str]], str],
    kind: FileKind = IMAGES,
) -> ImageFiles:
    """The images among some files, with what the others say of them; a note of the parts and of the files passed over."""
    notes, below = [], parts(openers, kind)
    if below:
        if "train" not in below:
            raise UsageError(
                f"{where} holds {' and '.join(sorted(below))}, parts of a data set, and no train; name one of them, such as "
                f"{where}/{sorted(below.values())[0]}."
            )
        counts = {part: sum(name in kind for name in openers if name.startswith(f"{below[part]}/")) for part in below}
        said = ", ".join(f"{below[part]} ({count:,} {kind.plural})" for part, count in counts.items())
        notes.append(
            f"{where} holds the parts {said} of a data set, no classes; these are the {kind.plural} of {below['train']}."
        )
        openers = {name: read for name, read in openers.items() if name.startswith(f"{below['train']}/")}
    images = {name: read for name, read in openers.items() if name in kind}
    texts = {name: openers[name] for name in sidecars(openers, kind)}
    notes += _passed_over([name for name in openers if name not in images and name not in texts], where, kind)
    made = from_names(where, images, stamp_of([*images, *texts]), texts, kind)
    return replace(made, notes=(*notes, *made.notes))


def parts(names: Iterable[str], kind: FileKind = IMAGES) -> dict[str, str]:
    """The folders of the parts of a data set by what they are (train, test, val), where all images lie in such; else none."""
    images = [name for name in names if name in kind]
    if not images:
        return {}
    depth = _shared_depth(images)
    folders = {PurePosixPath(name).parts[: depth + 1] for name in images}
    if len(folders) < 2 or any(len(PurePosixPath(name).parts) <= depth + 1 for name in images):
        return {}
    kinds = [SPLITS.get(folder[-1].lower(), "") for folder in sorted(folders)]
    if "" in kinds or len(set(kinds)) < len(kinds):
        return {}
    return {kind: "/".join(folder) for kind, folder in zip(kinds, sorted(folders), strict=True)}


def held_out(root: Path) -> Path | None:
    """The folder of the held-out part of a data set, test or else val, where `root` is a folder or a zip file of such parts."""
    zipped = root.suffix == ".zip" and root.is_file()
    below = parts(walk(root) if root.is_dir() else _members(root) if zipped else ())
    return next((root / below[kind] for kind in HELD_OUT if kind in below and "train" in below), None)


def _shared_depth(names: Iterable[str]) -> int:
    """How many folders all files lie below."""
    parents = [PurePosixPath(name).parts[:-1] for name in names]
    differing = next((i for i, parts in enumerate(zip(*parents, strict=False)) if len(set(parts)) > 1), None)
    return min(map(len, parents)) if differing is None else differing  # every path begins with the shortest


def _passed_over(names: Sequence[str], where: str, kind: FileKind) -> list[str]:
    """A note of files that are no images, by their endings."""
    others = [name for name in names if PurePosixPath(name).name.lower() not in IGNORED]
    endings = Counter(PurePosixPath(name).suffix.lower() or "without an ending" for name in others)
    said = ", ".join(f"{count:,} {ending}" for ending, count in endings.most_common(8))
    table = next((name for name in others if PurePosixPath(name).suffix.lower() in (".csv", ".tsv", ".jsonl")), None)
    named = (
        "" if table is None else f"; a table of labels or captions such as {table} is read where it is named metadata"
    )
    return (
        [f"{len(others):,} files in {where} are no {kind.plural} that can be read and are passed over: {said}{named}."]
        if others
        else []
    )


def sidecars(names: Iterable[str], kind: FileKind = IMAGES) -> list[str]:
    """Names of files that describe images: the nearest table in the folders that all images lie below, and texts with
    the name of an image."""
    names = list(names)
    images = [PurePosixPath(name) for name in names if name in kind]
    if not images:
        return []
    stems, there = {image.with_suffix("") for image in images}, set(names)
    shared = images[0].parts[: _shared_depth(map(str, images))]
    places = ("/".join((*shared[:depth], name)) for depth in range(len(shared), -1, -1) for name in TABLES)
    tables = [place for place in places if place in there][:1]
    return [
        *tables,
        *(name for name in names if name.endswith(".txt") and PurePosixPath(name).with_suffix("") in stems),
    ]


def from_names(
    where: str,
    openers: dict[str, Callable[[], IO[bytes]]],
    stamp: str,
    texts: Mapping[str, Callable[[], IO[bytes]]] | None = None,
    kind: FileKind = IMAGES,
) -> ImageFiles:
    """Images by their path under a root. The class is the first folder below the folder that holds everything.

    There are no labels when that folder holds images itself, or no folder is below it. `texts` are the files that tell of the
    images (see `beside_images`): classes in a table come before folders.
    Raises `UsageError` when there is no image.
    """
    if not openers:
        raise UsageError(
            f"{where} holds no {kind.plural}; these endings are looked for: {' '.join(sorted(kind.suffixes))}."
        )
    names = sorted(openers)
    parents = [PurePosixPath(name).parts[:-1] for name in names]
    shared = _shared_depth(names)
    firsts = [parent[shared] if len(parent) > shared else None for parent in parents]
    classes = sorted({first for first in firsts if first is not None}, key=_natural)
    notes: tuple[str, ...] = ()
    labels = None
    if classes and None in firsts:
        outside = Counter(firsts)[None]
        notes = (f"{outside} of {len(names)} {kind.plural} in {where} lie in no sub-folder, so there are no classes.",)
        classes = []
    elif classes:
        places = {name: i for i, name in enumerate(classes)}
        labels = tuple(places[str(first)] for first in firsts)
    image_files = tuple(ImageFile(name, openers[name]) for name in names)
    table, unused = _table(texts, names, where) if texts else ({}, ())
    described = from_table(table, names, where) if texts else None
    if described is not None and described.labels is not None:
        labels, classes, notes = described.labels, list(described.classes), ()
    notes += unused if described is None else (*unused, *described.notes)
    return ImageFiles(
        where,
        image_files,
        labels,
        tuple(classes),
        stamp,
        notes,
        Annotations() if described is None else described.annotations,
    )


def _table(
    texts: Mapping[str, Callable[[], IO[bytes]]], names: Sequence[str], where: str
) -> tuple[dict[str, dict[str, Any]], tuple[str, ...]]:
    """Annotations of images from other files: the rows of the table, and captions; and notes on unused parts."""
    table: dict[str, dict[str, Any]] = {}
    notes: tuple[str, ...] = ()
    captions: dict[PurePosixPath, str] = {}
    for name, member in texts.items():
        try:
            with member() as file:
                if PurePosixPath(name).name in TABLES:
                    below = PurePosixPath(name).parent
                    rows, notes = read_table(name, file, where)
                    table = {(below / key).as_posix(): row for key, row in rows.items()}
                    continue
                content = file.read(MAX_TEXT + 1)
        except (Unreadable, OSError) as error:
            raise OrnsteinError(f"{name} in {where} cannot be read ({error}); mend it or take it away.") from error
        if len(content) > MAX_TEXT:
            raise OrnsteinError(f"{name} in {where} is larger than {MAX_TEXT >> 20} MB; split it or take it away.")
        captions[PurePosixPath(name).with_suffix("")] = content.decode("utf-8", "replace").strip()
    for name in names if captions else ():
        caption = captions.get(PurePosixPath(name).with_suffix(""))
        table[name] = {**table.get(name, {}), **({} if caption is None else {"text": caption})}
    return table, notes


def _read(image: ImageFile, read: Callable[[IO[bytes]], T], bad: dict[str, str]) -> T | None:
    """The result of `read(file)`; `None`, with the reason in `bad`, if it is unreadable."""
    try:
        with image.open() as file:
            return read(file)
    except Unreadable as error:
        bad[image.name] = str(error)
    except OSError as error:
        bad[image.name] = error.strerror or str(error)
    return None


def _in_order(work: Callable[[int], T], indices: Sequence[int]) -> Iterator[tuple[int, T]]:
    """`(i, work(i))` for every index in order, by several threads that never run far ahead of the reader."""
    with ThreadPoolExecutor(THREADS) as pool:
        for start in range(0, len(indices), 16 * THREADS):
            some = indices[start : start + 16 * THREADS]
            yield from zip(some, pool.map(work, some), strict=True)


def opener(path: Path) -> Callable[[], IO[bytes]]:
    """How an image file is opened. What is opened may be anything that has the name of one."""

    def read() -> IO[bytes]:
        about = path.stat()
        if not stat.S_ISREG(about.st_mode):  # a pipe or a device would be waited for, or read for ever
            raise Unreadable("not a file")
        if about.st_size > MAX_FILE:
            raise Unreadable(f"more than {MAX_FILE >> 20} MB")
        return path.open("rb")

    return read


def _member_opener(opened: zipfile.ZipFile, member: zipfile.ZipInfo) -> Callable[[], IO[bytes]]:
    def read() -> IO[bytes]:
        if member.file_size > MAX_MEMBER:
            raise Unreadable(f"more than {MAX_MEMBER >> 20} MB")
        try:
            return BytesIO(opened.read(member))  # zipfile stops at the size checked above, whatever follows
        except DAMAGE as error:
            raise Unreadable(str(error)) from error

    return read


def _listed(bad: dict[str, str]) -> str:
    """The first few names, with reasons, in order."""
    first = [f"{name}: {bad[name]}" for name in sorted(bad)[:5]]
    return "; ".join(first) + (f"; and {len(bad) - 5} more" if len(bad) > 5 else "")


def _stop(error: OSError) -> None:
    raise OrnsteinError(
        f"{error.filename} cannot be looked into ({error.strerror}); change its permissions."
    ) from error


def _natural(name: str) -> list[str | int]:
    """For sorting: class 10 comes after class 9."""
    return [int(part) if i % 2 else part for i, part in enumerate(re.split(r"(\d+)", name))]


def _round_to_8(side: float) -> int:
    return max(8, round(side / 8) * 8) if side >= 8 else max(1, round(side))


def _hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"
