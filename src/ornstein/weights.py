"""Files of weights from anywhere: what they hold is known from their headers, and nothing in them is run.

A network that its file does not hold is refused before memory is taken for it. Links within a `root` are not followed.
"""

import math
import os
from collections.abc import Callable, Iterator, Mapping
from hashlib import file_digest
from pathlib import Path as File
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.modules.module import register_module_parameter_registration_hook

from ornstein.errors import OrnsteinError
from ornstein.files.reading import must_be_regular, spelled

T = TypeVar("T")
Shapes = dict[str, tuple[int, ...]]
MEND = "resume the training to write it anew"


def hashed(file: File, load: Callable[[File], T], root: File | None = None, mend: str = MEND) -> tuple[T, str]:
    """The result of `load(file)`, and the sha256 of the bytes that it read: also where another process replaces the file.

    Raises OrnsteinError that names a file which cannot be read, within `root` is a link, or is replaced again and again.
    """
    for _ in range(20):
        try:
            must_be_regular(file, root)
            with file.open("rb") as stream:
                before = os.fstat(stream.fileno())
                tensors, digest = load(file), file_digest(stream, "sha256").hexdigest()
            after = file.stat()
        except (OSError, ValueError) as error:
            raise unreadable(file, error, mend) from error
        if all(getattr(before, key) == getattr(after, key) for key in ("st_dev", "st_ino", "st_size", "st_mtime_ns")):
            return tensors, digest
    raise OrnsteinError(f"{file} is being replaced all the time; wait for who writes it, and try again")


def weights(file: File, network: torch.nn.Module, root: File | None = None) -> dict[str, Tensor]:
    """The tensors of a safetensors file, within `root` no link, that must be a network's state.

    Raises OrnsteinError that names the file.
    """
    must_be(shapes_in(network), shapes(file, root, is_floating(network)), file)
    return loaded(file, root)


def shapes_in(network: torch.nn.Module) -> Shapes:
    """The shapes of a network's state."""
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


def is_floating(network: torch.nn.Module) -> bool:
    """Whether a network's state is of floating types alone."""
    return all(tensor.is_floating_point() for tensor in network.state_dict().values())


def shapes(file: File, root: File | None = None, floating: bool = True, mend: str = MEND) -> Shapes:
    """The shapes of the tensors in a safetensors file, within `root` no link, by its header alone; all of a `floating` type.

    Raises OrnsteinError that names the file.
    """
    try:
        must_be_regular(file, root)
        with spelled(file) as name, safe_open(name, "pt") as stream:
            slices = {name: stream.get_slice(name) for name in stream.keys()}  # noqa: SIM118
        strange = [name for name, about in slices.items() if about.get_dtype() not in ("F64", "F32", "F16", "BF16")]
        if strange and floating:
            raise ValueError(f"{strange[0]} is not of a floating type")
        return {name: tuple(about.get_shape()) for name, about in slices.items()}
    except (OSError, SafetensorError, ValueError) as error:
        raise unreadable(file, error, mend) from error


def loaded(file: File, root: File | None = None, mend: str = MEND) -> dict[str, Tensor]:
    """The tensors of a safetensors file. Raises OrnsteinError that names the file."""
    try:
        must_be_regular(file, root)
        with spelled(file) as name:
            return load_file(name)
    except (OSError, SafetensorError, ValueError) as error:
        raise unreadable(file, error, mend) from error


def unreadable(file: File, error: Exception, mend: str = MEND) -> OrnsteinError:
    """The error of a file that cannot be read, with how to mend it."""
    reason = getattr(error, "strerror", None) or " ".join(str(error).split())
    return OrnsteinError(f"{file} cannot be read ({reason}); {mend}")


def must_be(expected: Shapes, actual: Shapes, file: File, what: str = "its config.json") -> None:
    """Raises OrnsteinError that names the first tensor which is not as expected."""
    if expected != actual:
        wrong = sorted(name for name in expected.keys() | actual.keys() if expected.get(name) != actual.get(name))[0]
        raise OrnsteinError(
            f"{file} does not fit {what}: {wrong} is {actual.get(wrong, 'missing')}, not {expected.get(wrong, 'there')}"
        )


def shapes_of(kind: Callable[..., torch.nn.Module], arguments: Mapping[str, Any], held: Shapes) -> Shapes:
    """The shapes of a network's tensors, without memory for them.

    Raises ValueError as soon as it turns out to be larger than what a file holds.
    """
    tensors, numbers = len(held), sum(map(math.prod, held.values()))
    larger = ValueError("the network is larger than its file of weights")
    if any(value > numbers for value in whole(arguments)):  # no size or count of a network exceeds its numbers
        raise larger

    def count(module: torch.nn.Module, name: str, parameter: Tensor | None) -> None:
        nonlocal tensors, numbers
        if parameter is not None:
            tensors, numbers = tensors - 1, numbers - parameter.numel()
            if min(tensors, numbers) < 0:
                raise larger

    with register_module_parameter_registration_hook(count), torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in kind(**arguments).state_dict().items()}


def whole(value: Any) -> Iterator[int]:
    """All whole numbers in nested lists and dictionaries."""
    if isinstance(value, int):
        yield value
    for inner in value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ():
        yield from whole(inner)
