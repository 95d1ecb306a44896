"""WAV and FLAC files as series, through soundfile: the numbers of the file, its sample rate and its subtype.

Whole numbers keep their scale: those of 16 bits go from −32,768 to 32,767, those of 24 bits to 8,388,607.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ornstein import extras
from ornstein.data.item_files import Head, ItemReader, same
from ornstein.data.layout import to_model_order
from ornstein.data.origins import ItemForm
from ornstein.errors import UsageError

if TYPE_CHECKING:
    from ornstein.data.spec import DataSpec

MOST = 1 << 32  # numbers of one file


class Depth(NamedTuple):
    """How the numbers of a subtype are held: their type here, that in which soundfile gives them, and how much wider that is."""

    dtype: str
    given: str
    shift: int


DEPTHS = {
    "PCM_S8": Depth("int8", "int16", 8),
    "PCM_U8": Depth("int8", "int16", 8),
    "PCM_16": Depth("int16", "int16", 0),
    "PCM_24": Depth("int32", "int32", 8),
    "PCM_32": Depth("int32", "int32", 0),
    "FLOAT": Depth("float32", "float32", 0),
    "DOUBLE": Depth("float64", "float64", 0),
}
BITS = {"PCM_S8": 8, "PCM_U8": 8, "PCM_16": 16, "PCM_24": 24, "PCM_32": 32}


@dataclass(frozen=True)
class SoundForm(ItemForm):
    """A file of a sample rate in hertz, a format (WAV, FLAC) and a subtype (PCM_16, FLOAT, ...)."""

    rate: int
    format: str
    subtype: str

    name = "sound"
    endings = (".wav", ".flac")
    library = "soundfile"

    @property
    def suffix(self) -> str:
        return ".flac" if self.format == "FLAC" else ".wav"

    def write(self, file: Path, item: NDArray[Any], spec: DataSpec) -> None:
        soundfile = extras.library("soundfile", "writing sounds")
        depth = DEPTHS[self.subtype]
        if (file.suffix.lower() == ".flac") != (self.format == "FLAC"):
            raise UsageError(f"{file.name}: the data are {self.format}; give a name that ends with {self.suffix}")
        channels = np.asarray(to_model_order(item[None], spec.layout))[0].T
        if channels.dtype.kind in "iu":
            most = 1 << (BITS[self.subtype] - 1)
            channels = np.clip(channels.astype(np.int64), -most, most - 1) << depth.shift
        with file.open("wb") as stream:
            soundfile.write(stream, channels.astype(depth.given), self.rate, format=self.format, subtype=self.subtype)


class SoundFiles(ItemReader):
    """Reads WAV and FLAC files: items (L,) of one channel, (L, C) of several."""

    cropped = True

    def __init__(self) -> None:
        self._library = extras.library("soundfile", "reading WAV and FLAC files")

    def head(self, stream: IO[bytes]) -> Head:
        _must_be_whole(stream)
        try:
            with self._library.SoundFile(stream) as file:
                if file.format not in ("WAV", "WAVEX", "FLAC") or file.subtype not in DEPTHS:
                    raise UsageError(
                        f"it is {file.format} of {file.subtype}; save it as WAV or FLAC of 8 to 32 bits, or FLOAT"
                    )
                if not file.frames:
                    raise UsageError("it holds no sound; take it away")
                if file.frames * file.channels > MOST:
                    raise ValueError(f"it says that it holds {file.frames:,} numbers")
                form = SoundForm(file.samplerate, file.format, file.subtype)
                shape = (file.frames,) if file.channels == 1 else (file.frames, file.channels)
                return Head(shape, np.dtype(DEPTHS[file.subtype].dtype), form)
        except self._library.LibsndfileError as error:
            raise ValueError(str(error).partition(": ")[2] or str(error)) from error

    def read(self, stream: IO[bytes], head: Head, form: ItemForm) -> NDArray[Any]:
        assert isinstance(form, SoundForm)
        depth = DEPTHS[form.subtype]
        try:
            with self._library.SoundFile(stream) as file:
                numbers = file.read(dtype=depth.given)
        except self._library.LibsndfileError as error:
            raise ValueError(str(error).partition(": ")[2] or str(error)) from error
        if numbers.shape != head.shape:
            raise ValueError(f"it holds {len(numbers):,} numbers and says {head.shape[0]:,}")
        return np.asarray((numbers >> depth.shift if depth.shift else numbers).astype(head.dtype))

    def layout(self, shape: tuple[int, ...]) -> str:
        return "NL" if len(shape) == 1 else "NLC"

    def agreed(self, heads: Mapping[str, Head]) -> tuple[ItemForm, np.dtype[Any]]:
        forms = [head.form for head in heads.values()]
        same(heads, "a sample rate of", [getattr(form, "rate", 0) for form in forms], "resample them to one rate")
        channels = [1 if len(head.shape) == 1 else head.shape[1] for head in heads.values()]
        same(heads, "a number of channels of", channels, "mix them to one number of channels")
        same(heads, "the subtype", [getattr(form, "subtype", "") for form in forms], "save them alike")
        first = next(iter(heads.values()))
        return first.form, first.dtype


def _must_be_whole(stream: IO[bytes]) -> None:
    """Raises ValueError for a WAV file that ends before its header says, which libsndfile takes for a shorter one."""
    start = stream.read(12)
    size = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    said = int.from_bytes(start[4:8], "little")
    if start[:4] == b"RIFF" and 0 < said < 0xFFFFFFFF and 8 + said > size + 1:
        raise ValueError(f"it is cut short: {size:,} bytes of {8 + said:,}")
