"""Files that items came from, as what samples go back to: a run keeps the kind of file and what in it belongs to no single item.

A kind is a frozen dataclass of JSON's values, under its name in `FORMS`; what a run remembers of it is `DataSpec.origin`.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from numpy.typing import NDArray

from ornstein import extras
from ornstein.errors import OrnsteinError, UsageError

if TYPE_CHECKING:
    from ornstein.data.spec import DataSpec
    from ornstein.files.output import Output

Append = Callable[[NDArray[Any]], None]

LONGEST = 1 << 20  # characters of what is kept of a file
FORMS = {
    "hdf5": "hdf5:Hdf5Form",
    "netcdf": "hdf5:NetCDFForm",
    "netcdf3": "netcdf3:ClassicForm",
    "zarr": "zarr_folder:ZarrForm",
    "sound": "sound:SoundForm",
    "nifti": "nifti:NiftiForm",
    "long": "long_series:LongForm",
}
"""The kinds by name, as module and class: none is imported before it is needed."""


@dataclass(frozen=True)
class FileForm(ABC):
    """Abstract. A kind of file that holds items."""

    name: ClassVar[str]
    endings: ClassVar[tuple[str, ...]]
    """Of files of it; the first is the usual one."""
    alone: ClassVar[bool] = False
    """Whether a file holds one item, so that several are a folder of files."""

    @property
    def ending(self) -> str:
        """Of samples without a name: none for a folder of files."""
        return "" if self.alone else self.endings[0]

    @property
    def origin(self) -> tuple[str, ...]:
        """What a run keeps of it; of too much, nothing."""
        text = json.dumps(asdict(self))
        return (self.name, text) if len(text) <= LONGEST else ()

    @abstractmethod
    def new(self, output: Output, count: int, spec: DataSpec) -> AbstractContextManager[Append]:
        """Within, a function that appends items `(n, *spec.item_shape)`, `count` in all, to a file, which is there when the block
        ends well, and not at all otherwise."""

    library: ClassVar[str] = ""
    """What writes such files, where that is no part of this one."""

    def check(self) -> None:
        """Raises MissingExtra where the library that writes such files is not installed."""
        if self.library:
            extras.check(self.library, f"writing {self.endings[0]} files")


@dataclass(frozen=True)
class ItemForm(FileForm):
    """Abstract. A kind of file of one item each."""

    alone = True

    @property
    def suffix(self) -> str:
        """Of a file."""
        return self.endings[0]

    @abstractmethod
    def write(self, file: Path, item: NDArray[Any], spec: DataSpec) -> None:
        """One item `(*spec.item_shape)` as a file, of which the ending is that of this kind."""

    def new(self, output: Output, count: int, spec: DataSpec) -> AbstractContextManager[Append]:
        if count != 1:
            raise UsageError(
                f"{output.path} holds one of {spec.traits.plural}, and {count:,} are asked for; give a folder, or -n 1"
            )

        @contextmanager
        def one() -> Iterator[Append]:
            with output.write() as file:
                yield lambda items: self.write(file, items[0], spec)

        return one()


def form_of(spec: DataSpec) -> FileForm | None:
    """The kind of file that the data of a run came from; None where any will do.

    Raises OrnsteinError for a run whose description is damaged.
    """
    if not spec.origin:
        return None
    kind, text = spec.origin
    try:
        module, _, name = FORMS[kind].partition(":")
        form: FileForm = getattr(import_module(f"ornstein.data.{module}"), name)(**json.loads(text))
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise OrnsteinError(
            f"the run's description of its data holds no kind of file that is known ({error}); give --out FILE.npz"
        ) from error
    return form


def item_form_of(spec: DataSpec | None) -> ItemForm | None:
    """The kind of file of one item that the data of a run came from; None for others."""
    form = None if spec is None else form_of(spec)
    return form if isinstance(form, ItemForm) else None
