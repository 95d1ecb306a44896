"""Folders of files of one item each, besides images: which kind they are of, and their items in one array.

Labels, captions and numbers of the files are those that image files may have: folders, and a table beside them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import IO, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ornstein.data.arrays import DAMAGE, SMALL, Arrays, ArraySource
from ornstein.data.decode import Unreadable
from ornstein.data.gathering import gathered
from ornstein.data.image_files import IMAGES, FileKind, ImageFile, ImageFiles, folder, walk
from ornstein.data.image_rows import images_of, shards
from ornstein.data.layout import own_shape
from ornstein.data.origins import ItemForm
from ornstein.errors import OrnsteinError, UsageError

SOUNDS = FileKind("sounds", frozenset((".wav", ".flac")))
SCANS = FileKind("NIfTI files", frozenset((".nii", ".nii.gz")))
READERS = {SOUNDS: "sound:SoundFiles", SCANS: "nifti:NiftiFiles"}
"""The module and the class that read each kind."""


@dataclass(frozen=True)
class Head:
    """What a file says of its item: its shape, the type of its numbers, and its `form`, which those of one folder share."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    form: ItemForm


class ItemReader(ABC):
    """Abstract. Reads the files of a kind."""

    cropped: ClassVar[bool] = False
    """Whether items may be cut into pieces along their first axis."""

    @abstractmethod
    def head(self, stream: IO[bytes]) -> Head:
        """Raises what is in `DAMAGE`, UsageError for what is readable and not taken."""

    @abstractmethod
    def read(self, stream: IO[bytes], head: Head, form: ItemForm) -> NDArray[Any]:
        """The item of a file, of `head.shape`, in the type that all items have by `form`."""

    @abstractmethod
    def layout(self, shape: tuple[int, ...]) -> str:
        """Of items of this shape."""

    @abstractmethod
    def agreed(self, heads: Mapping[str, Head]) -> tuple[ItemForm, np.dtype[Any]]:
        """What files of samples are like, and the type of all items. Raises UsageError naming the first file that differs."""


@dataclass(frozen=True, kw_only=True)
class ItemFolder(ArraySource):
    """A folder of files of one item each. `crop`: cut into pieces of so many numbers."""

    files: ImageFiles
    kind: FileKind
    crop: int | None = None

    @cached_property
    def reader(self) -> ItemReader:
        """What reads the files. Raises MissingExtra."""
        module, _, name = READERS[self.kind].partition(":")
        made: ItemReader = getattr(import_module(f"ornstein.data.{module}"), name)()
        return made

    @cached_property
    def heads(self) -> dict[str, Head]:
        """What each file says of its item, by its name."""
        made = {}
        for file in self.files.image_files:
            with self._opened(file) as stream:
                made[file.name] = self.reader.head(stream)
        return made

    @contextmanager
    def _opened(self, file: ImageFile) -> Any:
        """A file; what is wrong with it is one sentence that names it."""
        try:
            with file.open() as stream:
                yield stream
        except UsageError as error:
            raise UsageError(f"{self.path / file.name}: {error}") from error
        except (*DAMAGE, Unreadable) as error:
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise OrnsteinError(
                f"{self.path / file.name} cannot be read ({reason}); mend it or take it away."
            ) from error

    @property
    def direct(self) -> bool:
        try:
            return sum(int(np.prod(head.shape)) * head.dtype.itemsize for head in self.heads.values()) < SMALL
        except OrnsteinError:  # as `load` will say
            return True

    def fingerprint(self) -> str:
        files = folder(self.path, self.kind)
        return f"{files.fingerprint()}\n{self.crop} {self._how}"

    def _read(self, scratch: Path | None) -> Arrays:
        form, dtype = self.reader.agreed(self.heads)
        length, notes = self._length()
        counts = [1 if length is None else head.shape[0] // length for head in self.heads.values()]
        shape = next(iter(self.heads.values())).shape
        shape = shape if length is None else (length, *shape[1:])
        layout = self.reader.layout(shape)
        if self.layout not in (None, layout):
            raise UsageError(f"layout: {self.path} holds {self.kind.plural}, whose axes are {layout}; leave it out")

        def parts() -> Any:
            for file, count in zip(self.files.image_files, counts, strict=True):
                if count:
                    with self._opened(file) as stream:
                        item = self.reader.read(stream, self.heads[file.name], form)
                    yield item[: count * shape[0]].reshape(count, *shape)

        size = sum(counts) * int(np.prod(shape)) * dtype.itemsize
        items = gathered(parts(), size, scratch, self.path)
        rows = np.repeat(np.arange(len(counts)), counts)
        labels = None if self.files.labels is None else np.array(self.files.labels, np.int64)[rows]
        return Arrays(
            items,
            labels,
            self.files.classes,
            notes=(*self.files.notes, *notes),
            annotations=self.files.annotations.take(rows),
            layout=layout,
            origin=form.origin,
        )

    def _length(self) -> tuple[int | None, list[str]]:
        """The length of pieces that items are cut into, None where they are taken whole, and a sentence about what is left over.

        Raises UsageError where items have several lengths and none is asked for.
        """
        shapes = {name: head.shape for name, head in self.heads.items()}
        names = sorted(shapes, key=lambda name: shapes[name][0])
        shortest, longest = shapes[names[0]][0], shapes[names[-1]][0]
        wanted = self.crop
        if wanted is None and self.like is not None and self.reader.cropped:
            run = own_shape(self.like[1], self.like[0])[0]
            wanted = None if shortest == longest == run else run
        if wanted is None:
            if shortest != longest:
                raise UsageError(
                    f"{self.path} holds {self.kind.plural} of {shortest:,} ({names[0]}) to {longest:,} numbers ({names[-1]}); "
                    f"cut them into pieces of one length by --crop {shortest}, in Python crop={shortest}"
                )
            return None, []
        if not self.reader.cropped:
            raise UsageError(f"crop: {self.path} holds {self.kind.plural}, which are not cut; leave it out")
        if longest < wanted:
            raise UsageError(f"crop: the longest file of {self.path}, {names[-1]}, has {longest:,} numbers; give fewer")
        short = [name for name in names if shapes[name][0] < wanted]
        left = sum(shape[0] % wanted for shape in shapes.values())
        notes = (
            [f"{left:,} numbers at the ends of files in {self.path} fill no piece of {wanted:,} and are left out."]
            if left
            else []
        )
        if short:
            few = ", ".join(short[:3]) + (", ..." if len(short) > 3 else "")
            notes.append(f"{len(short)} of {len(names)} files are shorter than {wanted:,} and are left out ({few}).")
        return wanted, notes


def same(heads: Mapping[str, Head], what: str, of: Sequence[Any], mend: str) -> None:
    """Raises UsageError naming the first file of which something is not as of the first one."""
    names = list(heads)
    odd = next((i for i, value in enumerate(of) if value != of[0]), None)
    if odd is not None:
        raise UsageError(f"{names[0]} has {what} {of[0]} and {names[odd]} {of[odd]}; {mend}")


def open_folder(path: Path) -> ImageFiles | ItemFolder:
    """The files of a folder of the kind that most of them are of; images, where there are as many."""
    names = walk(path)
    counts = {kind: sum(name in kind for name in names) for kind in (IMAGES, *READERS)}
    if not any(counts.values()) and (tables := shards(names)) and (rows := images_of(tables, str(path))) is not None:
        return rows
    kind = max(counts, key=lambda kind: counts[kind])
    files = folder(path, kind, names)
    return files if kind is IMAGES else ItemFolder(path=path, files=files, kind=kind)
