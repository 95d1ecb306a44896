"""A trained run leaves: as ONNX, torch.export, safetensors or a diffusers pipeline, and samples without this library.

    export.write(run, export.ONNX(), "digits.onnx")       # and digits.json: the solver as numbers (`ornstein.export.loop`)

One small file a format. What a format needs beyond torch is imported when it is used.
"""

from typing import TYPE_CHECKING

from ornstein._lazy import attach

_HOME = {
    "ExportFormat": "format",
    "write": "format",
    "Loop": "loop",
    "ONNX": "onnx",
    "TorchExport": "torch_export",
    "Safetensors": "safetensors",
    "Diffusers": "diffusers",
}

if TYPE_CHECKING:
    from ornstein.export.diffusers import Diffusers
    from ornstein.export.format import ExportFormat, write
    from ornstein.export.loop import Loop
    from ornstein.export.onnx import ONNX
    from ornstein.export.safetensors import Safetensors
    from ornstein.export.torch_export import TorchExport
else:
    __getattr__, __dir__ = attach(__name__, _HOME)

__all__ = ["ONNX", "Diffusers", "ExportFormat", "Loop", "Safetensors", "TorchExport", "write"]
