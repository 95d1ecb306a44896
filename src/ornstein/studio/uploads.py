"""What clients upload: one item in the run's own units, read by the library's hardened readers and held for a while."""

import math
import secrets
import threading
from collections import OrderedDict
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ornstein.data import decode, pixels
from ornstein.data.spec import DataSpec
from ornstein.errors import OrnsteinError, UsageError, brief

EACH = 40  # of one client
MOST = 160  # of all
LARGEST = 128 << 20  # bytes of all
NUMPY = b"\x93NUMPY"


@dataclass(frozen=True, eq=False)
class Upload:
    """An item of a run, in its own units, (*item_shape)."""

    id: str
    client: str
    run: str
    own: NDArray[Any]


class Uploads:
    """The newest of each client."""

    def __init__(self) -> None:
        self._held: OrderedDict[str, Upload] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, client: str, run: str, own: NDArray[Any]) -> Upload:
        """Hold an item; the client's oldest is forgotten where it has many."""
        made = Upload(secrets.token_hex(8), client, run, own)
        with self._lock:
            self._held[made.id] = made
            mine = [upload.id for upload in self._held.values() if upload.client == client]
            for old in [*mine[:-EACH], *list(self._held)[:-MOST]]:
                self._held.pop(old, None)
            while sum(upload.own.nbytes for upload in self._held.values()) > LARGEST and len(self._held) > 1:
                self._held.popitem(last=False)
        return made

    def get(self, client: str, run: str, number: str) -> Upload:
        """An item of a client for a run. Raises UsageError."""
        with self._lock:
            made = self._held.get(number)
        if made is None or made.client != client or made.run != run:
            raise UsageError(f"upload: {brief(number)} is not here any more; upload the file again")
        return made


def item(content: bytes, spec: DataSpec) -> NDArray[Any]:
    """One item in the units of `spec`, from the content of a .npy or an image file. Raises OrnsteinError or UsageError."""
    if content.startswith(NUMPY):
        return spec.adopt(_array(content), "the file")[0][0]
    if not spec.traits.pixels:
        raise UsageError(f"this run makes {spec.traits.plural}; upload one as a .npy of shape {spec.item_shape}")
    channels, height, width = spec.shape
    if channels not in (1, 3, 4):
        raise UsageError(f"the run's images have {channels} channels; upload a .npy of them")
    try:
        head = decode.header(BytesIO(content))
        form = decode.Format((height, width), channels, head.dtype, False)
        values = decode.decode(BytesIO(content), form)
    except decode.Unreadable as error:
        raise OrnsteinError(f"the file cannot be read as an image ({error})") from error
    if spec.mean:
        if values.dtype.name != spec.dtype:
            raise UsageError(
                f"the image holds {values.dtype}, and the run makes {spec.dtype}; upload a .npy in these units"
            )
        return spec.adopt(spec.of_shape(spec.shape).from_model(spec.of_shape(spec.shape).to_model(values[None])), "it")[
            0
        ][0]
    import torch

    # black and white are the ends of the range of the data
    unit = values.astype(np.float64) * (2 / pixels.opaque(values.dtype)) - 1
    x = torch.from_numpy(np.ascontiguousarray(unit.transpose(2, 0, 1)[None], np.float32))
    made: NDArray[Any] = spec.from_model(x)[0]
    return made


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
