"""What clients upload: items in the run's own units, read by the library's hardened readers and held for a while."""

import math
import secrets
import threading
from collections import OrderedDict
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ornstein.data import decode, pixels
from ornstein.data.column_spec import ColumnSpec
from ornstein.data.spec import DataSpec
from ornstein.errors import OrnsteinError, UsageError, brief

EACH = 40  # of one client
MOST = 160  # of all
LARGEST = 128 << 20  # bytes of all
ITEMS = 4096  # of one upload; of more these, evenly spaced
NUMPY = b"\x93NUMPY"


@dataclass(frozen=True, eq=False)
class Upload:
    """Items of a run, in its own units, (N, *item_shape)."""

    id: str
    client: str
    run: str
    items: NDArray[Any]

    @property
    def own(self) -> NDArray[Any]:
        """The first of them."""
        first: NDArray[Any] = self.items[0]
        return first


class Uploads:
    """The newest of each client."""

    def __init__(self) -> None:
        self._held: OrderedDict[str, Upload] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, client: str, run: str, items: NDArray[Any]) -> Upload:
        """Hold items (N, *item_shape); the client's oldest upload is forgotten where it has many."""
        made = Upload(secrets.token_hex(8), client, run, items)
        with self._lock:
            self._held[made.id] = made
            mine = [upload.id for upload in self._held.values() if upload.client == client]
            for old in [*mine[:-EACH], *list(self._held)[:-MOST]]:
                self._held.pop(old, None)
            while sum(upload.items.nbytes for upload in self._held.values()) > LARGEST and len(self._held) > 1:
                self._held.popitem(last=False)
        return made

    def get(self, client: str, run: str, number: str) -> Upload:
        """What a client uploaded for a run. Raises UsageError."""
        with self._lock:
            made = self._held.get(number)
        if made is None or made.client != client or made.run != run:
            raise UsageError(f"upload: {brief(number)} is not here any more; upload the file again")
        return made


def items(content: bytes, spec: DataSpec) -> NDArray[Any]:
    """Items (N, *item_shape) in the units of `spec`: of a .npy all that are in it, of a run of a table the rows of a .csv, else
    one image. Raises OrnsteinError or UsageError."""
    if content.startswith(NUMPY):
        return _some(spec.adopt(_array(content), "the file").items)
    if isinstance(spec, ColumnSpec):
        return _rows(content, spec)
    if not spec.traits.pixels:
        raise UsageError(f"this run makes {spec.traits.plural}; upload some as a .npy of shape {spec.item_shape}")
    channels = spec.shape[0]
    if channels not in (1, 3, 4):
        raise UsageError(f"the run's images have {channels} channels; upload a .npy of them")
    values = _image(content, spec, channels)
    if spec.mean:
        if values.dtype.name != spec.dtype:
            raise UsageError(
                f"the image holds {values.dtype}, and the run makes {spec.dtype}; upload a .npy in these units"
            )
        own = spec.of_shape(spec.shape)
        return spec.adopt(own.from_model(own.to_model(values[None])), "it").items
    import torch

    # black and white are the ends of the range of the data
    unit = values.astype(np.float64) * (2 / pixels.opaque(values.dtype)) - 1
    x = torch.from_numpy(np.ascontiguousarray(unit.transpose(2, 0, 1)[None], np.float32))
    return spec.from_model(x)


def mask(content: bytes, spec: DataSpec) -> NDArray[np.bool_]:
    """A mask (H, W) of a run of images: true where an image file is white, or a .npy is not 0. Raises OrnsteinError or
    UsageError."""
    if not spec.traits.pixels:
        raise UsageError(f"a mask is for images, and this run makes {spec.traits.plural}")
    if not content.startswith(NUMPY):
        values = _image(content, spec, 1)
        return np.asarray(values[..., 0] > pixels.opaque(values.dtype) / 2)
    marked: NDArray[np.bool_] = _array(content) != 0
    if marked.shape != spec.shape[1:]:
        raise UsageError(f"the mask has shape {marked.shape}, and must have shape {spec.shape[1:]}")
    return marked


def _image(content: bytes, spec: DataSpec, channels: int) -> NDArray[Any]:
    """An image file as (H, W, channels) of the run's size."""
    _, height, width = spec.shape
    try:
        head = decode.header(BytesIO(content))
        return decode.decode(BytesIO(content), decode.Format((height, width), channels, head.dtype, False))
    except decode.Unreadable as error:
        raise OrnsteinError(f"the file cannot be read as an image ({error})") from error


def _rows(content: bytes, spec: ColumnSpec) -> NDArray[Any]:
    """The rows of a text of comma-separated values, whose columns are those of the run."""
    from ornstein import data

    with TemporaryDirectory(prefix="ornstein-studio-") as folder:
        place = Path(folder) / "upload.csv"
        place.write_bytes(content)
        try:
            return _some(data.open(place, like=spec, cache=Path(folder) / "cache").items)
        except OrnsteinError as error:
            raise type(error)(str(error).replace(str(place), "the file")) from error


def _some(rows: NDArray[Any]) -> NDArray[Any]:
    """In memory, and evenly spaced where there are many."""
    if not len(rows):
        raise UsageError("the file holds no items")
    count = min(len(rows), ITEMS)
    return np.array(rows[np.arange(count) * len(rows) // count])


def _array(content: bytes) -> NDArray[Any]:
    """The array of a .npy whose header says no more than there is: nothing is taken for what is not. Raises OrnsteinError."""
    stream = BytesIO(content)
    try:
        version = np.lib.format.read_magic(stream)
        reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = reader(stream)
        if dtype.hasobject or dtype.kind not in "biuf" or len(shape) > 8 or min(shape, default=1) < 0:
            raise ValueError("it holds no numbers")
        if math.prod(shape) * dtype.itemsize != len(content) - stream.tell():
            raise ValueError("its size is not what its header says")
        stream.seek(0)
        array: NDArray[Any] = np.load(stream, allow_pickle=False)
    except Exception as error:  # a header is an expression of Python, and a hostile one can raise nearly anything
        raise OrnsteinError(f"the file is no whole .npy ({' '.join(str(error).split())[:200]})") from error
    return array
