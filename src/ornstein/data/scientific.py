"""Which reader opens a scientific file, and how a variable of it is named: FILE.h5?variable, DIR.zarr?group/variable."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from ornstein.data.arrays import DAMAGE
from ornstein.data.variables import Reader, VariableFile
from ornstein.errors import OrnsteinError, UsageError

HDF5 = (".h5", ".hdf5", ".hdf", ".he5")
NETCDF = (".nc", ".nc4", ".cdf", ".netcdf")
ZARR = (".zarr",)
ENDINGS = (*HDF5, *NETCDF, *ZARR)
CLASSIC = (b"CDF\x01", b"CDF\x02")
"""How files of NetCDF before its fourth version begin."""


def variable_of(source: str | Path) -> VariableFile | None:
    """The variable that a source names; None where it is no scientific file by its name."""
    for text, variable in ((str(source), ""), split_name(str(source))):
        path = Path(text).expanduser()
        is_zarr = path.is_dir() and any((path / name).is_file() for name in ("zarr.json", ".zgroup", ".zarray"))
        if (path.suffix.lower() in ENDINGS and path.is_file()) or is_zarr:
            return VariableFile(path=path, variable=variable or None)
    return None


def split_name(text: str) -> tuple[str, str]:
    """A name before and after its first question mark that follows a known ending."""
    for ending in ENDINGS:
        place = text.lower().find(f"{ending}?")
        if place >= 0:
            return text[: place + len(ending)], text[place + len(ending) + 1 :]
    path, _, variable = text.partition("?")
    return path, variable


@contextmanager
def opened(path: Path) -> Iterator[Reader]:
    """A scientific file, opened. Raises MissingExtra without its library, UsageError or OrnsteinError for what is none."""
    try:
        with _reader(path) as reader:
            yield reader
    except (*DAMAGE, OrnsteinError, MemoryError):
        raise
    except Exception as error:  # of damaged files the libraries raise whatever comes of them
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise OrnsteinError(f"{path} could not be read ({type(error).__name__}: {reason}); make it anew.") from error


def _reader(path: Path) -> AbstractContextManager[Reader]:
    if path.is_dir():
        from ornstein.data.zarr_folder import ZarrReader

        return nullcontext(ZarrReader(path))
    with path.open("rb") as file:
        start = file.read(8)
    if start[:4] in CLASSIC:
        from ornstein.data.netcdf3 import opened_classic

        return opened_classic(path)
    if start[:4] == b"CDF\x05":
        raise UsageError(f"{path} is NetCDF of 64-bit data, which no reader here knows; save it as NetCDF-4")
    from ornstein.data.hdf5 import opened_hdf5

    return opened_hdf5(path, path.suffix.lower() in NETCDF)
