"""The network together with its loss, as one module: what torch's DDP and FSDP2 wrap, so that they see all that is learned."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ornstein.denoiser import Denoiser
from ornstein.distillation import FlowMapObjective
from ornstein.flowmap import NetworkFlowMap
from ornstein.model import Model
from ornstein.objective import Draw, Objective
from ornstein.training.batch import Part
from ornstein.training.uncertainty import Uncertainty
from ornstein.variance import VarianceDenoiser, hybrid_term

BOUND = 1e-3  # the weight of the bound's term in a hybrid loss (Nichol and Dhariwal 2021, equation 16)


class LossModule(nn.Module):
    """learner(part) -> what is to be minimised, and the mean weighted error of the part of a batch. Float32 scalars.

    They differ where the weights of the noise levels are learned (`uncertainty`). Whatever is learned is a part of this module.
    """

    def __init__(
        self,
        objective: Objective,
        network: nn.Module,
        model: Model,
        bf16: bool,
        uncertainty: Uncertainty | None = None,
    ) -> None:
        super().__init__()
        self.network, self.uncertainty = network, uncertainty
        self._denoiser, self._objective, self._bf16 = model.learner(network), objective, bf16

    def forward(self, part: Part) -> tuple[Tensor, Tensor]:
        draw = self._objective.at(part.x, part.u, part.noise, part.labels)
        if part.known is not None:
            draw = draw.where(part.known)
        with torch.autocast(part.x.device.type, torch.bfloat16, enabled=self._bf16):
            errors = draw.error(self._denoiser.given(part.condition).predict(draw.x_t, draw.t))
        return self._weighed(errors, draw), errors.mean().detach()

    def _weighed(self, errors: Tensor, draw: Draw) -> Tensor:
        if self.uncertainty is None:
            return errors.mean()
        clock = self._denoiser.preconditioning(self._denoiser.path, draw.t)[1]
        return self.uncertainty.weigh(errors, clock).mean()


class HybridLossModule(LossModule):
    """The error, and a thousandth of the bound's term, from which the variances are learned (see `ornstein.variance`)."""

    def forward(self, part: Part) -> tuple[Tensor, Tensor]:
        draw = self._objective.at(part.x, part.u, part.noise, part.labels)
        denoiser = self._denoiser.given(part.condition)
        assert isinstance(denoiser, VarianceDenoiser)
        with torch.autocast(part.x.device.type, torch.bfloat16, enabled=self._bf16):
            prediction, v = denoiser.outputs(draw.x_t, draw.t)
        errors = draw.error(prediction)
        bound = BOUND * hybrid_term(denoiser, part.x, draw.x_t, draw.t, prediction, v).mean()
        return self._weighed(errors, draw) + bound, errors.mean().detach()


class OwnLossModule(LossModule):
    """The loss module of an objective of one's own, by its loss(predict, x, generator) -> (B,) or a mean.

    The generator is seeded anew for each part of each step, so that a run which was resumed draws what it would have drawn.
    """

    _objective: Any

    def forward(self, part: Part) -> tuple[Tensor, Tensor]:
        generator = torch.Generator(part.x.device).manual_seed(part.seed)
        with torch.autocast(part.x.device.type, torch.bfloat16, enabled=self._bf16):
            errors: Tensor = self._objective.loss(self._denoiser.given(part.condition).predict, part.x, generator)
        error = errors.mean()
        return error, error.detach()


class FlowMapLossModule(LossModule):
    """The loss module of a flow map. With a teacher, `teach(condition)` is the denoiser whose flow is learned."""

    def __init__(
        self,
        objective: FlowMapObjective,
        teach: Callable[[Any], Denoiser] | None,
        network: nn.Module,
        model: Model,
        bf16: bool,
        uncertainty: Uncertainty | None = None,
    ) -> None:
        super().__init__(objective.base, network, model, bf16, uncertainty)
        self._flow_map, self._teach = objective, teach

    def forward(self, part: Part) -> tuple[Tensor, Tensor]:
        assert part.jumps is not None
        draw = self._objective.at(part.x, part.u, part.noise, part.labels)
        student = self._denoiser.given(part.condition)
        assert isinstance(student, NetworkFlowMap)
        teacher = None if self._teach is None else self._teach(part.condition)
        with torch.autocast(part.x.device.type, torch.bfloat16, enabled=self._bf16):
            error = self._flow_map.error(student, draw, part.jumping, part.jumps, teacher).mean()
        return error, error.detach()
