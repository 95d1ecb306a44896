"""A network in an ONNX file behind any convention, run by onnxruntime (the extra `onnx`).

    convention = interop.edm.convention()                    # how the network is called, and what it predicts
    model = interop.onnx.denoiser("terrain.onnx", convention)
    model.given({"difficulty": torch.full((4,), 0.5)})       # inputs of the graph besides x and the time, by their names

The first two inputs of the graph are x and the time, the first output is the prediction. A file is a graph of operators:
nothing in it is run but by onnxruntime, and no library of operators is loaded for it. A graph has no derivatives: what needs
those of a network (exact likelihoods, tuning, some posterior samplers) refuses it in a sentence.
"""

import os
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path as File
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ornstein.denoiser import NetworkDenoiser
from ornstein.errors import OrnsteinError, UsageError
from ornstein.extras import library
from ornstein.files.reading import read_bytes
from ornstein.interop.convention import Convention, wrap
from ornstein.interop.imported import Opened

LARGEST = 2 << 30  # bytes, of what ONNX holds in one file
ELSEWHERE = "session.model_external_initializers_file_folder_path"
CODE = " may hold code, which is never run from a file: load it in your own process and wrap the object"
TYPES = {
    "tensor(float)": torch.float32,
    "tensor(double)": torch.float64,
    "tensor(float16)": torch.float16,
    "tensor(int64)": torch.int64,
    "tensor(int32)": torch.int32,
    "tensor(bool)": torch.bool,
}


class ONNXNetwork:
    """network(x, time, third input or inputs by name) -> prediction, by an `onnxruntime.InferenceSession`.

    Numbers go in the types of the graph, and come back in the type of x and on its device. Graphs of a fixed batch are called
    with as many rows, again and again. Raises UsageError for a graph of fewer than two inputs, or of types that no tensor has;
    when called, ValueError for inputs that are missing or unknown.
    """

    def __init__(self, session: Any) -> None:
        self._session = session
        self.inputs = {entry.name: TYPES.get(entry.type) for entry in session.get_inputs()}
        self.shapes = {entry.name: tuple(getattr(entry, "shape", None) or ()) for entry in session.get_inputs()}
        strange = [entry.type for entry in session.get_inputs() if entry.type not in TYPES]
        if len(self.inputs) < 2 or strange:
            has = f"an input of type {strange[0]}" if strange else f"the inputs {', '.join(self.inputs) or 'none'}"
            raise UsageError(f"this ONNX graph is no network of x and a time: it has {has}")
        firsts = {shape[0] for shape in self.shapes.values() if shape and type(shape[0]) is int and shape[0] > 0}
        self.rows = firsts.pop() if len(firsts) == 1 else None

    def __deepcopy__(self, memo: Any) -> "ONNXNetwork":
        return self  # a session has no state, and no copy

    def __call__(self, x: Tensor, time: Tensor, *third: Tensor, **others: Tensor) -> Tensor:
        names = list(self.inputs)
        values = {**dict(zip(names, (x, time, *third), strict=False)), **others}
        if missing := [name for name in names if name not in values]:
            raise ValueError(f"this ONNX graph also takes {', '.join(missing)}: bind them by .given({{name: rows}})")
        if unknown := [name for name in others if name not in self.inputs]:
            raise ValueError(f"this ONNX graph takes {', '.join(names)}, and not {unknown[0]}")
        state = x if x.ndim > 1 else time  # of networks that take the time first
        if torch.is_grad_enabled() and any(torch.as_tensor(value).requires_grad for value in values.values()):
            return _WithoutDerivatives.apply(self, state, names, *(torch.as_tensor(values[name]) for name in names))
        return self.run(state, values)

    def run(self, like: Tensor, values: Mapping[str, Tensor]) -> Tensor:
        """The first output, in the type and on the device of `like` (B, ...), for inputs by their names."""
        feed = {
            name: torch.as_tensor(value).detach().to("cpu", self.inputs[name]).contiguous().numpy()
            for name, value in values.items()
        }
        count = len(like)
        if self.rows is None or count == self.rows:
            answer = self._session.run(None, feed)[0]
        else:
            parts = [
                self._session.run(None, {name: _rows(value, first, self.rows, count) for name, value in feed.items()})[
                    0
                ]
                for first in range(0, count, self.rows)
            ]
            answer = np.concatenate(parts)[:count]
        return torch.from_numpy(answer).to(like.device, like.dtype)


def _rows(value: NDArray[Any], first: int, rows: int, count: int) -> NDArray[Any]:
    """So many rows of a batch from one on; beyond the last, that again. What has no row for each stays."""
    if value.ndim == 0 or len(value) != count:
        return value
    return value[np.minimum(np.arange(first, first + rows), count - 1)]


class _WithoutDerivatives(torch.autograd.Function):
    """A call of a graph within a computation that would be differentiated: the sentence comes where it is."""

    @staticmethod
    def forward(ctx: Any, network: ONNXNetwork, like: Tensor, names: list[str], *values: Tensor) -> Tensor:
        return network.run(like, dict(zip(names, values, strict=True)))

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        raise UsageError(
            "an ONNX graph has no derivatives, which this needs: use a method without them (likelihood --method elbo, restore "
            "--method diffpir, a solver that is not tuned), or the network itself"
        )


def network(source: Any) -> ONNXNetwork:
    """The network in an .onnx file, on the CPU; or of an `onnxruntime.InferenceSession` that the caller made.

    Raises UsageError for another kind of file, OrnsteinError for one that cannot be read.
    """
    if not isinstance(source, (str, os.PathLike)):
        return ONNXNetwork(source)
    return read(File(source))[0]


def read(file: File) -> tuple[ONNXNetwork, str]:
    """The network in an .onnx file, and the sha256 of its bytes: raises what `network` raises."""
    ending = file.suffix.lower()
    if ending != ".onnx":
        kind = CODE if ending in (".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".bin") else " is no .onnx file"
        raise UsageError(f"{file}{kind}")
    runtime = library("onnxruntime", "a network in an ONNX file")
    try:
        content = read_bytes(file, LARGEST)
        options = runtime.SessionOptions()
        options.log_severity_level = 4  # what is wrong is in the error
        options.intra_op_num_threads = torch.get_num_threads()
        options.add_session_config_entry(ELSEWHERE, os.devnull)  # weights in other files would be none of this hash
        session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # of onnxruntime's own kinds, which have no class in common
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:200]
        raise OrnsteinError(f"{file} cannot be read as ONNX ({reason}); export it anew") from error
    return ONNXNetwork(session), sha256(content).hexdigest()


def denoiser(source: Any, convention: Convention, condition: Any = None) -> NetworkDenoiser:
    """The denoiser of an ONNX network under a convention; `condition` is bound as by `.given`.

    Raises what `network` and `wrap` raise.
    """
    return wrap(network(source), convention, condition)


def opened(file: File) -> Opened:
    """The model in a file for `ornstein import`. Of more integer inputs than one, none is taken for the class."""
    graph, digest = read(file)
    names = list(graph.inputs)
    state = max(names[:2], key=lambda name: len(graph.shapes[name]))  # some take the time first
    whole = [name for name in names[2:] if graph.inputs[name] in (torch.int64, torch.int32)]
    label = whole[0] if len(whole) == 1 else None
    return Opened(
        "ONNX",
        graph,
        {file: digest},
        tuple(side if type(side) is int and side > 0 else None for side in graph.shapes[state][1:]),
        label=label,
        inputs=tuple(name for name in names[2:] if name != label),
    )
