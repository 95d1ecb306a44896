"""NIfTI files as volumes, through nibabel: their axes as they are, scaled by scl_slope and scl_inter, with header and affine.

An item (X, Y, Z) has the layout NDHW, one (X, Y, Z, T) of several volumes the layout NDHWC.
"""

from __future__ import annotations

import gzip
import math
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ornstein import extras
from ornstein.data.item_files import Head, ItemReader, same
from ornstein.data.origins import ItemForm
from ornstein.data.variables import Packing
from ornstein.errors import OrnsteinError, UsageError

if TYPE_CHECKING:
    from ornstein.data.spec import DataSpec

HEADER = 352  # bytes before the data at least: the NIfTI-1.1 header of 348, and four that say whether more follow
PURPOSE = "NIfTI files"


@dataclass(frozen=True)
class NiftiForm(ItemForm):
    """A file with the header of the data's, base64, of which `slope` and `inter` scale what is stored as `dtype`."""

    header: str
    dtype: str
    slope: float
    inter: float

    name = "nifti"
    endings = (".nii.gz", ".nii")
    library = "nibabel"

    @property
    def packing(self) -> Packing:
        """How numbers are stored."""
        dtype = np.dtype(self.dtype)
        if self.slope == 1 and self.inter == 0:
            return Packing(dtype)
        return Packing(dtype, self.slope, self.inter, wide=dtype.itemsize > 2)

    def write(self, file: Path, item: NDArray[Any], spec: DataSpec) -> None:
        nibabel = extras.library("nibabel", f"writing {PURPOSE}")
        try:
            header = nibabel.Nifti1Header(b64decode(self.header), check=False)
        except Exception as error:
            raise OrnsteinError(
                f"the run's description of its NIfTI files is damaged ({error}); give --out FILE.npz"
            ) from error
        stored = self.packing.pack(item)
        header.set_data_dtype(stored.dtype)
        image = nibabel.Nifti1Image(stored, None, header)
        image.header.set_slope_inter(self.slope, self.inter)
        image.to_filename(str(file))


class NiftiFiles(ItemReader):
    """Reads .nii and .nii.gz files."""

    def __init__(self) -> None:
        self._library = extras.library("nibabel", f"reading {PURPOSE}")

    def head(self, stream: IO[bytes]) -> Head:
        start = _plain(stream).read(HEADER)
        if len(start) < 348:
            raise ValueError("it is cut short, or no NIfTI file")
        if int.from_bytes(start[:4], "little") == 540 or int.from_bytes(start[:4], "big") == 540:
            raise UsageError("it is of NIfTI-2; save it as NIfTI-1")
        if start[344:348] != b"n+1\0":
            raise UsageError("it is no NIfTI-1 file with its data in it; save it as .nii or .nii.gz")
        header = self._header(start[:348])
        shape, dtype = tuple(int(n) for n in header.get_data_shape()), header.get_data_dtype()
        if dtype.kind not in "iuf" or dtype.itemsize > 8:
            raise UsageError(f"it holds numbers of type {dtype}; save it with whole or floating ones")
        while len(shape) > 3 and shape[-1] == 1:
            shape = shape[:-1]
        if not 3 <= len(shape) <= 4 or min(shape) < 1:
            raise UsageError(f"its shape is {shape}; give volumes (X, Y, Z) or (X, Y, Z, T)")
        said = header["scl_slope"].item(), header["scl_inter"].item()
        slope, inter = said if math.isfinite(said[0]) and said[0] != 0 else (1.0, 0.0)
        inter = inter if math.isfinite(inter) else 0.0
        block = b64encode(header.binaryblock).decode()
        form = NiftiForm(block, dtype.str, slope, inter)
        return Head(shape, form.packing.dtype(False), form)

    def _header(self, block: bytes) -> Any:
        try:
            return self._library.Nifti1Header(block)
        except Exception as error:  # nibabel's own
            raise ValueError(str(error) or type(error).__name__) from error

    def read(self, stream: IO[bytes], head: Head, form: ItemForm) -> NDArray[Any]:
        assert isinstance(head.form, NiftiForm)
        assert isinstance(form, NiftiForm)
        header, stored = self._header(b64decode(head.form.header)), np.dtype(head.form.dtype)
        plain, size = _plain(stream), math.prod(head.shape) * stored.itemsize
        offset = max(HEADER, int(header["vox_offset"].item()))
        content = plain.read(offset + size)
        if len(content) < offset + size:
            raise ValueError(f"it is cut short: {len(content):,} bytes of {offset + size:,}")
        numbers = np.frombuffer(content, stored, math.prod(head.shape), offset).reshape(head.shape, order="F")
        return np.ascontiguousarray(head.form.packing.unpack(numbers, False)).astype(
            form.packing.dtype(False), copy=False
        )

    def layout(self, shape: tuple[int, ...]) -> str:
        return "NDHW" if len(shape) == 3 else "NDHWC"

    def agreed(self, heads: Mapping[str, Head]) -> tuple[ItemForm, np.dtype[Any]]:
        forms = [head.form for head in heads.values() if isinstance(head.form, NiftiForm)]
        same(heads, "the shape", [head.shape for head in heads.values()], "bring them to one grid")
        headers = [self._header(b64decode(form.header)) for form in forms]
        affines = [header.get_best_affine() for header in headers]
        for name, affine in zip(heads, affines, strict=True):
            if not np.allclose(affine, affines[0], rtol=1e-5, atol=1e-4):
                raise UsageError(
                    f"{name} has another affine than {next(iter(heads))} (its first row is {affine[0].round(4).tolist()}, there "
                    f"{affines[0][0].round(4).tolist()}); bring all files to one grid"
                )
        same(heads, "units", [header.get_xyzt_units() for header in headers], "save them in the same units")
        form = forms[0]
        if len({(f.dtype, f.slope, f.inter) for f in forms}) > 1:  # what no one scale holds
            wide = any(f.packing.dtype(False) != np.float32 and np.dtype(f.dtype).itemsize > 2 for f in forms)
            form = replace(form, dtype=np.dtype(np.float64 if wide else np.float32).str, slope=1.0, inter=0.0)
        return form, form.packing.dtype(False)


def _plain(stream: IO[bytes]) -> IO[bytes]:
    """What a file holds, unpacked as it is read."""
    start = stream.read(2)
    stream.seek(0)
    return gzip.GzipFile(fileobj=stream) if start == b"\x1f\x8b" else stream  # type: ignore[return-value]
