"""The parts of an exported pipeline: `import ornstein.export.pipeline` before `DiffusionPipeline.from_pretrained(FOLDER)`.

diffusers asks for that import, since it takes classes of libraries that it does not know only where the caller has loaded them.
"""

from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from diffusers.models.unets.unet_2d import UNet2DOutput
from torch import Tensor

from ornstein.flowmap import FlowPoint, time_of
from ornstein.guidance import ClassifierFree
from ornstein.interop.diffusers import Scheduler
from ornstein.model import described

__all__ = ["FlowNetwork", "Scheduler"]


class FlowNetwork(ModelMixin, ConfigMixin):
    """A run's network as the flow that every path is in the chart σ/(α + σ): x = (1 − σ)·data + σ·noise, answers noise − data.

    `model` is the content of a run's model/config.json. Called as diffusers' `UNet2DModel`, with timestep 1000 σ.
    """

    @register_to_config
    def __init__(self, model: dict[str, Any], sample_size: list[int] | int, in_channels: int) -> None:
        super().__init__()
        built = described(model)
        self.network = built.network
        self._model = built
        self._bound: tuple[Any, float] = (None, 1.0)

    def condition(self, labels: Any = None, guidance_scale: float = 1.0) -> "FlowNetwork":
        """Binds classes by their places, one for all or one for each sample, and how strongly samples follow them."""
        self._bound = (None if labels is None else torch.as_tensor(labels)), guidance_scale
        return self

    def forward(
        self, sample: Tensor, timestep: Any, class_labels: Tensor | None = None, return_dict: bool = True
    ) -> UNet2DOutput | tuple[Tensor]:
        """x (B, C, H, W) at 1000 σ -> noise − data; `class_labels` (B,) come before those that are bound."""
        labels, scale = (class_labels, 1.0) if class_labels is not None else self._bound
        denoiser: Any = self._model.denoiser(self.network)
        path = denoiser.path
        clock = torch.as_tensor(timestep, device=sample.device).to(torch.float64).reshape(-1) / 1000
        t = time_of(path, clock).to(sample.device)
        if labels is not None:
            rows = labels.to(sample.device).reshape(-1).expand(len(sample))
            parts = self._model.conditions
            bound = tuple(
                rows if part is parts.label else null.to(sample.device)
                for part, null in zip(parts.parts, parts.null(len(sample)), strict=True)
            )
            conditional = denoiser.given(parts.network_input(bound))
            denoiser = conditional if scale == 1 else ClassifierFree(conditional, denoiser, scale)
        t = t[0] if len(t) == 1 else t
        size = FlowPoint(path, t, sample).scale
        clean, noise = denoiser((sample * size).to(sample.dtype), t)
        flow = (noise - clean).to(sample.dtype)
        return UNet2DOutput(sample=flow) if return_dict else (flow,)
