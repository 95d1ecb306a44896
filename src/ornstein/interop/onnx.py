"""A network in an ONNX file behind any convention, run by onnxruntime (the extra `onnx`).

    convention = interop.edm.convention()                    # how the network is called, and what it predicts
    model = interop.onnx.denoiser("terrain.onnx", convention)
    model.given({"difficulty": torch.full((4,), 0.5)})       # inputs of the graph besides x and the time, by their names

The first two inputs of the graph are x and the time, the first output is the prediction. A file is a graph of operators:
nothing in it is run but by onnxruntime, and no library of operators is loaded for it.
"""

import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ornstein.denoiser import NetworkDenoiser
from ornstein.errors import OrnsteinError, UsageError
from ornstein.extras import library
from ornstein.files.reading import must_be_regular
from ornstein.interop.convention import Convention, wrap

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

    Numbers go in the types of the graph, and come back in the type of x and on its device. Raises UsageError for a graph of fewer
    than two inputs, or of types that no tensor here has.
    """

    def __init__(self, session: Any) -> None:
        self._session = session
        self.inputs = {entry.name: TYPES.get(entry.type) for entry in session.get_inputs()}
        strange = [entry.type for entry in session.get_inputs() if entry.type not in TYPES]
        if len(self.inputs) < 2 or strange:
            has = f"an input of type {strange[0]}" if strange else f"the inputs {', '.join(self.inputs) or 'none'}"
            raise UsageError(f"this ONNX graph is no network of x and a time: it has {has}")

    def __call__(self, x: Tensor, time: Tensor, *third: Tensor, **others: Tensor) -> Tensor:
        names = list(self.inputs)
        values = {**dict(zip(names, (x, time, *third), strict=False)), **others}
        if missing := [name for name in names if name not in values]:
            raise ValueError(f"this ONNX graph also takes {', '.join(missing)}: bind them by .given({{name: rows}})")
        if unknown := [name for name in others if name not in self.inputs]:
            raise ValueError(f"this ONNX graph takes {', '.join(names)}, and not {unknown[0]}")
        feed = {
            name: torch.as_tensor(value).detach().to("cpu", self.inputs[name]).contiguous().numpy()
            for name, value in values.items()
        }
        answer = self._session.run(None, feed)[0]
        return torch.from_numpy(answer).to(x.device, x.dtype)


def network(source: Any) -> ONNXNetwork:
    """The network in an .onnx file, on the CPU; or of an `onnxruntime.InferenceSession` that the caller made.

    Raises UsageError for another kind of file, OrnsteinError for one that cannot be read.
    """
    if not isinstance(source, (str, os.PathLike)):
        return ONNXNetwork(source)
    file = Path(source)
    if file.suffix.lower() != ".onnx":
        code = " may hold code, which is never run from a file: load it in your own process and wrap the object"
        kind = (
            code if file.suffix.lower() in (".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".bin") else " is no .onnx file"
        )
        raise UsageError(f"{file}{kind}")
    runtime = library("onnxruntime", "a network in an ONNX file")
    try:
        must_be_regular(file)
        session = runtime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    except Exception as error:  # of onnxruntime's own kinds, which have no class in common
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:200]
        raise OrnsteinError(f"{file} cannot be read as ONNX ({reason}); export it anew") from error
    return ONNXNetwork(session)


def denoiser(source: Any, convention: Convention, condition: Any = None) -> NetworkDenoiser:
    """The denoiser of an ONNX network under a convention; `condition` is bound as by `.given`.

    Raises what `network` and `wrap` raise.
    """
    return wrap(network(source), convention, condition)
