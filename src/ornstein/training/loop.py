"""The training loop, all of it."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ornstein.data import Dataset, order
from ornstein.errors import OrnsteinError
from ornstein.model import Model
from ornstein.noise import mix
from ornstein.objective import Objective, drop_labels
from ornstein.training import ema, schedule
from ornstein.training.augment import NUMBERS, Augment
from ornstein.training.checkpoint import State
from ornstein.training.settings import Settings

BAD_STEPS = 10  # losses or gradients that are not finite, in a row, before the run stops


@dataclass(frozen=True)
class Progress:
    """One optimiser step: how much of the run is done (0 to 1), the mean loss, the gradient's norm, the rate, the time."""

    step: int
    done: float
    loss: float
    gradient: float
    rate: float
    seconds: float
    images: int
    skipped: int

    @property
    def finite(self) -> bool:
        """Whether the step was taken: one whose loss or gradient is not finite is skipped."""
        return _finite(self.loss) and _finite(self.gradient)


def train(
    settings: Settings, model: Model, objective: Objective, dataset: Dataset, state: State, peak: float
) -> Iterator[Progress]:
    """Train until the steps or minutes of the settings are used up, one `Progress` per step.

    The order of the data, times, noise, dropped labels and flips of step k depend on (seed, k) alone, so a run that is
    stopped and resumed by steps is the unbroken run, bit for bit. A step whose loss or gradient is not finite changes nothing
    and is counted; after ten in a row an OrnsteinError ends the run.
    """
    device = next(state.network.parameters()).device
    predict = model.denoiser(state.network)
    weights, bad, before = list(state.network.parameters()), 0, state.seconds
    averages = [
        (list(average.parameters()), ema.exponent(length))
        for average, length in ((state.average, settings.ema), (state.half, settings.ema / 2))
    ]
    network, started = state.network.train(), time.monotonic()
    draws, augment = torch.Generator(device), Augment(settings.augment) if settings.augment else None
    assert settings.batch_size is not None
    part = settings.batch_size // settings.accumulate
    while (part_done := done(settings, state)) < 1:
        step = state.step
        for group in state.optimizer.param_groups:
            group["lr"] = peak * schedule.rate(part_done, settings.warmup)
        torch.manual_seed(mix(settings.seed, step, 1))  # dropout
        draws.manual_seed(mix(settings.seed, step, 2))
        indices, total = order(settings.seed, step, settings.batch_size, len(dataset)), torch.zeros((), device=device)
        for i in range(settings.accumulate):
            flip = torch.rand(part, generator=draws, device=device).cpu() < 0.5 if settings.flips else None
            x, labels = dataset.batch(indices[i * part : (i + 1) * part], flip)
            x = x.to(device)
            labels = None if labels is None else _labels(labels, model, settings, draws)
            condition: Any = labels
            if augment is not None:
                x, vector = augment(x, torch.rand(part, NUMBERS, generator=draws, device=device))
                condition = (labels, vector)
            draw = objective.draw(x, draws, labels)
            with torch.autocast(device.type, torch.bfloat16, enabled=settings.precision == "bf16"):
                loss = objective.error(predict.given(condition).predict, draw)
            total += loss.detach().mean() / settings.accumulate
            if state.uncertainty is not None:
                loss = state.uncertainty.weigh(loss, predict.inputs(model.path, draw.t)[1])
            (loss.mean() / settings.accumulate).backward()
        norm = torch.nn.utils.clip_grad_norm_(weights, settings.clip, foreach=True)
        loss_value, norm_value = total.item(), norm.item()
        if not (_finite(loss_value) and _finite(norm_value)):
            bad, state.skipped = bad + 1, state.skipped + 1
        else:
            bad = 0
            state.optimizer.step()
            for average, gamma in averages:
                ema.update(average, weights, state.updates + 1, gamma)
        state.optimizer.zero_grad(set_to_none=True)
        state.step, state.images = step + 1, state.images + settings.batch_size
        state.seconds = before + time.monotonic() - started
        yield Progress(
            step=state.step,
            done=min(done(settings, state), 1.0),
            loss=loss_value,
            gradient=norm_value,
            rate=state.optimizer.param_groups[0]["lr"],
            seconds=state.seconds,
            images=state.images,
            skipped=state.skipped,
        )
        if bad == BAD_STEPS:
            raise OrnsteinError(
                f"the loss was not finite in {bad} steps in a row, up to step {state.step}; the last good checkpoint is kept: "
                "try a smaller --learning-rate"
            )
    network.eval()


def done(settings: Settings, state: State) -> float:
    """The part of the run that is done, by its minutes or its steps; 1 or more at the end."""
    if settings.minutes is not None:
        return state.seconds / (60 * settings.minutes)
    assert settings.steps is not None
    return state.step / settings.steps


def _labels(labels: Tensor, model: Model, settings: Settings, draws: torch.Generator) -> Tensor:
    device = draws.device
    return drop_labels(labels.to(device), len(model.spec.classes), settings.label_dropout, draws)


def _finite(value: float) -> bool:
    return value - value == 0
