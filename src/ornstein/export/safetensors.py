"""safetensors: the weights under the network's own names, and in the file's metadata what gives them a meaning.

`config` is the JSON of a run's model/config.json (network and its arguments, path, target, conditions, data), `loop` that of
`ornstein.export.loop`. The layout of the tensors is that of the PyTorch modules in `ornstein.networks`: linear layers (out, in),
convolutions (out, in, *kernel).
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from safetensors.torch import save_file

from ornstein.export.format import metadata, must_be_built_in
from ornstein.export.loop import Loop
from ornstein.files.output import Output


@dataclass(frozen=True)
class Safetensors:
    """One file with weights and configuration."""

    ending: ClassVar[str] = ".safetensors"

    def write(self, loop: Loop, out: Path, recipe: str, force: bool) -> list[Path]:
        must_be_built_in(loop.run, "file of its weights alone")
        place = Output(out, recipe, force)
        place.check()
        model = loop.run.model
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.network.state_dict().items()}
        about = {
            **metadata(loop, place.stamp),
            "format": "pt",
            "config": json.dumps(model.config()),
            "loop": json.dumps(loop.to_dict()),
        }
        with place.write() as file:
            save_file(tensors, file, metadata=about)
        return [out]
