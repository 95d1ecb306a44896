"""The teacher of a flow map: a run that is read once, guided at a scale, and held fixed."""

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ornstein.denoiser import Denoiser
from ornstein.errors import UsageError
from ornstein.guidance.config import GuidanceConfig
from ornstein.model import Model, read
from ornstein.settings import Settings


def teacher_of(
    settings: Settings, student: Model, device: torch.device, known: tuple[Model, str] | None = None
) -> tuple[Callable[[Any], Denoiser], str]:
    """teach(condition) -> the denoiser to learn from, and the hash of its weights.

    `known` is the model, which is copied, and its hash; by default they are read from the teacher's folder.
    Raises UsageError where the teacher's path, items or conditions are not the student's, OrnsteinError for a damaged one.
    """
    folder = Path(settings.teacher or "")
    if known is None:
        model, digest = read(folder / "model")
    else:
        model, digest = known
        model = replace(model, network=copy.deepcopy(model.network).requires_grad_(False).eval())
    model.to(device)
    for what, theirs, mine in (
        ("path", model.path, student.path),
        ("items of shape", model.spec.shape, student.spec.shape),
        ("units", _units(model), _units(student)),
        ("conditions", model.conditions, student.conditions),
        ("coupling", model.coupling, student.coupling),
    ):
        if theirs != mine:
            raise UsageError(f"teacher: {folder} has {what} {theirs}, and this training {mine}; let them be the same")
    scale = settings.teacher_guidance
    if not math.isfinite(scale):
        raise UsageError(f"teacher_guidance = {scale} must be a finite number")
    if scale != 1 and model.conditions.label is None:
        raise UsageError(f"teacher_guidance = {scale:g}: {folder} has no classes to guide to; leave it out")
    return partial(GuidanceConfig(scale), model.denoiser()), digest


def _units(model: Model) -> tuple[Any, ...]:
    spec = model.spec
    return spec.low, spec.high, spec.mean, spec.std
