"""Files that somebody else may have written: regular files alone, up to a size, and into plain values of the kind expected.

A run folder may come from anywhere. A reader here opens neither pipes nor devices, which would be waited for, nor, in a run,
links, which could lead to a private file. It takes no YAML tags or aliases, which could run code or stand for gigabytes, and no
values nested deeper than those of any file of a run.
"""

from __future__ import annotations

import json
import math
import os
import stat
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile, ZipFile

from ornstein.files.owner import open_here

if TYPE_CHECKING:
    from numpy.typing import NDArray

LARGEST = 64 << 20  # bytes of JSON; a β-table or the names of 22,000 classes take less than one million
LARGEST_YAML = 1 << 18  # bytes; the longest file of settings has some hundred lines
DEEPEST = 64  # levels of lists and objects within each other


def must_be_inside(file: Path, root: Path) -> None:
    """Raises ValueError for a file whose way from the folder `root` goes through a link or leads outside."""
    place = root
    for part in file.relative_to(root).parts:
        place = place / part
        if part == ".." or place.is_symlink():
            raise ValueError(f"{part} is a link, and links are not followed there")


def must_be_regular(file: Path, root: Path | None = None) -> None:
    """Raises OSError or ValueError unless there is a regular file; within `root`, reached without links.

    For files that another library opens by their name.
    """
    if root is not None:
        must_be_inside(file, root)
    if not stat.S_ISREG(os.stat(file).st_mode):
        raise OSError("it is no file")


def listed(folder: Path, root: Path) -> list[Path]:
    """The entries of a folder within `root`, by name; empty if there is no such folder.

    Raises OSError or ValueError for a link, or what is no folder.
    """
    must_be_inside(folder, root)
    try:
        return sorted(folder.iterdir())
    except FileNotFoundError:
        return []


def read_bytes(file: Path, largest: int = LARGEST, root: Path | None = None) -> bytes:
    """The content of a regular file of up to `largest` bytes; within `root`, reached without links.

    Raises FileNotFoundError where there is none, OSError or ValueError for anything else.
    """
    if root is None:
        file = Path(os.path.realpath(file))
    else:
        must_be_inside(file, root)
    with open(open_here(file, os.O_RDONLY), "rb") as stream:
        content = stream.read(
            min(largest, os.fstat(stream.fileno()).st_size) + 1
        )  # Python takes as much memory at once
    if len(content) > largest:
        raise ValueError(
            f"it is larger than {largest >> 20} MB" if largest >> 20 else f"it is larger than {largest >> 10} kB"
        )
    return content


@contextmanager
def spelled(file: Path) -> Iterator[str]:
    """Within, a path of an existing file that is text, for libraries that take no other; a name may be any bytes."""
    try:
        str(file).encode()
    except UnicodeEncodeError:
        with file.open("rb") as stream:
            yield f"/proc/self/fd/{stream.fileno()}"  # where names are bytes, Linux has one made of text
    else:
        yield str(file)


def read_json(file: Path, largest: int = LARGEST, root: Path | None = None) -> dict[str, Any]:
    """The object in a JSON file: see `read_bytes`.

    Raises FileNotFoundError where there is none, OSError or ValueError for anything else.
    """
    try:
        value = json.loads(read_bytes(file, largest, root))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError("it holds no JSON object")
    _must_be_shallow(value)
    return value


def read_yaml(file: Path, root: Path | None = None) -> dict[Any, Any]:
    """The mapping in a YAML file of plain values, without aliases: see `read_bytes`.

    Raises FileNotFoundError where there is none, OSError or ValueError for anything else.
    """
    import yaml

    class Plain(yaml.SafeLoader):
        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                raise yaml.YAMLError("aliases (*name) are not allowed")
            return super().compose_node(parent, index)

    content = read_bytes(file, LARGEST_YAML, root)
    try:
        value = yaml.load(content.decode("utf-8"), Plain)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except (yaml.YAMLError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError) as error:
        raise ValueError(f"it is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(value, dict):
        raise ValueError("it holds no `key: value`")
    _must_be_shallow(value)
    return value


def read_lines(file: Path, keys: Sequence[str], root: Path | None = None) -> list[dict[str, Any]]:
    """The lines of a file of JSON objects that hold finite numbers under all of the keys; none where there is no such file.

    Left out are lines that a kill cut short, and whatever else got in.
    """
    lines = []
    try:
        content = read_bytes(file, LARGEST, root)
    except (OSError, ValueError):
        return []
    for line in content.decode("utf-8", "replace").splitlines():
        try:
            values = json.loads(line)
            if all(type(values[key]) in (int, float) and math.isfinite(values[key]) for key in keys):
                lines.append(values)
        except (ValueError, LookupError, TypeError, ArithmeticError, RecursionError):
            continue
    return lines


def read_arrays(file: Path, largest: int = LARGEST, root: Path | None = None) -> dict[str, NDArray[Any]]:
    """The arrays of an .npz file that take up to `largest` bytes, packed and unpacked; no pickles: see `read_bytes`.

    Raises FileNotFoundError where there is none, OSError or ValueError for anything else.
    """
    import numpy as np

    content = BytesIO(read_bytes(file, largest, root))
    try:
        with ZipFile(content) as archive:
            if sum(member.file_size for member in archive.infolist()) > largest:
                raise ValueError(f"it unpacks to more than {largest >> 20} MB")
        with np.load(content, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (BadZipFile, zlib.error, EOFError, KeyError, NotImplementedError, RuntimeError, MemoryError) as error:
        raise ValueError(f"it is no whole .npz ({error})") from error


def _must_be_shallow(value: Any) -> None:
    level = [value]
    for _ in range(DEEPEST):
        level = [
            inner
            for v in level
            for inner in (v.values() if isinstance(v, dict) else v)
            if isinstance(inner, (dict, list))
        ]
        if not level:
            return
    raise ValueError("it is nested too deeply")
