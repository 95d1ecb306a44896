"""A pipeline folder of diffusers: `DiffusionPipeline.from_pretrained` loads it where `ornstein.export.pipeline` was imported.

The network is `FlowNetwork` of that module, the scheduler ours with the solver of the loop. Files are JSON and safetensors.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from safetensors.torch import save_file

from ornstein.data.scaling import Range
from ornstein.errors import UsageError
from ornstein.export.format import metadata, must_be_built_in
from ornstein.export.loop import Loop
from ornstein.files.output import Output
from ornstein.guidance.config import GuidanceConfig
from ornstein.names import SOLVERS
from ornstein.solvers import AIMED

NETWORK, SCHEDULER = (
    "ornstein.export.pipeline",
    "ornstein.interop.diffusers.scheduler",
)  # modules that diffusers looks classes up in


@dataclass(frozen=True)
class Diffusers:
    """A `DDPMPipeline` of the network and the scheduler, for images with a declared range."""

    ending: ClassVar[str] = ""

    def write(self, loop: Loop, out: Path, recipe: str, force: bool) -> list[Path]:
        """model_index.json, unet/ and scheduler/ in the folder. Raises UsageError for what a pipeline has no place for."""
        run, spec = loop.run, loop.run.spec
        must_be_built_in(run, "pipeline")
        if len(spec.shape) != 3 or not isinstance(spec.scaling, Range):
            raise UsageError(
                f"{run.folder} makes {spec.traits.plural} of shape {spec.shape} without a declared range, and pipelines of "
                "diffusers make images; export it as onnx"
            )
        if not (isinstance(loop.guide, GuidanceConfig) and loop.guide.plain):
            raise UsageError(
                "guidance: a pipeline is guided where it is used, by pipe.unet.condition(labels, 2.0); export without it"
            )
        contents: dict[str, dict[str, Any]] = {
            "model_index.json": {
                "_class_name": "DDPMPipeline",
                "_diffusers_version": "0.30.0",
                "scheduler": [SCHEDULER, "Scheduler"],
                "unet": [NETWORK, "FlowNetwork"],
            },
            "unet/config.json": {
                "_class_name": "FlowNetwork",
                "model": run.model.config(),
                "sample_size": list(spec.shape[1:]),
                "in_channels": spec.shape[0],
            },
            "scheduler/scheduler_config.json": {
                "_class_name": "Scheduler",
                "num_train_timesteps": 1000,
                "prediction_type": "flow_prediction",
                "use_flow_sigmas": True,
                "shift": 1.0,
                "solver": _name(loop),
            },
        }
        places = {
            name: Output(out / name, recipe, force) for name in (*contents, "unet/diffusion_pytorch_model.safetensors")
        }
        for place in places.values():
            place.check()
        *_, weights = places.values()
        tensors = {f"network.{k}": v.detach().cpu().contiguous() for k, v in run.model.network.state_dict().items()}
        with weights.write() as file:
            save_file(tensors, file, metadata={**metadata(loop, weights.stamp), "format": "pt"})
        for name, content in reversed(contents.items()):
            with places[name].write() as file:
                file.write_text(
                    json.dumps({"_stamp": places[name].stamp, **content}, indent=1) + "\n", encoding="utf-8"
                )
        return [out, *(place.path for place in places.values())]


def _name(loop: Loop) -> str:
    """The name of the loop's solver in a scheduler's configuration."""
    if loop.solver is None:
        return "abm"
    for name in SOLVERS:
        if (name == loop.solver or SOLVERS[name] == loop.solver) and SOLVERS[name] not in AIMED:
            return name
    raise UsageError(
        "solver: a pipeline keeps a solver by its name, and takes others where it is used: pipe.scheduler = "
        'Scheduler.from_config(pipe.scheduler.config, solver="tuned:FILE"); export with --solver abm'
    )
