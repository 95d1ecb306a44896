"""Tensors into files, where a disk that refuses is the OSError that it is for every other file."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ornstein.files.reading import spelled


def save_tensors(tensors: Mapping[str, Tensor], file: Path, about: Mapping[str, str] | None = None) -> None:
    """Write a safetensors file, with strings about it in its header. Raises OSError when the disk refuses."""
    try:
        named, places = dict[str, Tensor](), set[int]()
        for name, tensor in tensors.items():
            own = tensor.detach().cpu().contiguous()
            place = own.untyped_storage().data_ptr()
            named[name] = own.clone() if place in places else own  # tied weights are written under each of their names
            places.add(place)
        save_file(named, file, None if about is None else dict(about))
    except SafetensorError as error:
        number = re.search(r"os error (\d+)", str(error))
        if number is None:
            raise OSError(str(error)) from error
        raise OSError(int(number[1]), os.strerror(int(number[1]))) from error


def load_tensors(file: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file. Raises OSError or SafetensorError for one that cannot be read."""
    with spelled(file) as name:
        return load_file(name)
