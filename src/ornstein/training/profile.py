"""Where the time of a training step goes: stages of the loop, parts of the network, kinds of layers."""

import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from ornstein.device import peak, synchronize
from ornstein.networks import SelfAttention
from ornstein.training.batch import Batches, Part
from ornstein.training.loop import train
from ornstein.training.recipe import Steps
from ornstein.training.trainer import Training

WARM = 3  # steps before the clock starts: memory is taken, kernels are chosen
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORMS = (nn.GroupNorm, nn.LayerNorm)


@dataclass(frozen=True)
class StepProfile:
    """Seconds a step. `parts` and `kinds` hold (forward, backward) of the network's children and of its kinds of layers."""

    steps: int
    images: int
    seconds: float
    stages: dict[str, float]
    parts: dict[str, tuple[float, float]]
    kinds: dict[str, tuple[float, float]]
    peak: float
    """Floating-point operations a second of matrix products of the same precision on this machine."""


class Clock:
    """Sums of the seconds between marks; on a GPU each mark waits for the work before it."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.sums = device, defaultdict[Any, float](float)
        self._open: dict[Any, float] = {}

    def now(self) -> float:
        synchronize(self.device)
        return time.perf_counter()

    def start(self, key: Any) -> None:
        self._open[key] = self.now()

    def stop(self, key: Any) -> None:
        if key in self._open:
            self.sums[key] += self.now() - self._open.pop(key)


@dataclass(frozen=True, eq=False)
class TimedBatches(Batches):
    """Batches whose making is timed."""

    clock: Clock = Clock(torch.device("cpu"))

    def parts(self, step: int) -> Iterator[Part]:
        made = super().parts(step)
        while True:
            self.clock.start("data")
            part = next(made, None)
            self.clock.stop("data")
            if part is None:
                return
            yield part


def profile(training: Training, steps: int) -> StepProfile:
    """Train some steps after a few to warm up, and take the time. Nothing is written; the network is trained.

    Times inside the network come from hooks around its modules, which cost a few microseconds each.
    """
    recipe = training.recipe
    with recipe.processor():
        state, learner = training.ready()
        # nothing side by side, so that what each takes shows
        settings = replace(recipe.settings, prefetch=False, split_batch=False)
        recipe, clock = replace(recipe, settings=settings, length=Steps(WARM + steps)), Clock(recipe.device)
        batches = TimedBatches(recipe, clock)
        for module, key in (*_parts(state.network), *_kinds(state.network)):
            _time(module, key, clock)
        _around(learner, "learner", clock)
        learner.register_forward_hook(lambda *_: clock.start("backward"))
        state.optimizer.register_step_pre_hook(lambda *_: clock.stop("backward"))
        state.optimizer.register_step_pre_hook(lambda *_: clock.start("optimiser"))
        state.optimizer.register_step_post_hook(lambda *_: clock.stop("optimiser"))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Full backward hook")  # of first layers, whose inputs need no gradient
            for progress in train(recipe, learner, batches, state):
                if progress.step == WARM:
                    clock.sums.clear()
                    begun = clock.now()
        seconds = (clock.now() - begun) / steps
        dtype = torch.bfloat16 if recipe.bf16 else torch.float32
        return _summary(clock.sums, steps, recipe.batch_size, seconds, peak(recipe.device, dtype))


def _summary(sums: dict[Any, float], steps: int, images: int, seconds: float, peak: float) -> StepProfile:
    parts, kinds = (
        {
            name: (sums[group, name, "forward"] / steps, sums[group, name, "backward"] / steps)
            for name in dict.fromkeys(key[1] for key in sums if isinstance(key, tuple) and key[0] == group)
        }
        for group in ("part", "kind")
    )
    stage = {name: sums[name] / steps for name in ("data", "learner", "backward", "optimiser")}
    network = sum(forward for forward, _ in parts.values())
    stages = {
        "data": stage["data"],
        "network, forward": network,
        "noise, loss": stage["learner"] - network,
        "backward": stage["backward"],
        "optimiser": stage["optimiser"],
    }
    stages["weight averages, rest"] = seconds - sum(stages.values())
    return StepProfile(steps, images, seconds, stages, parts, kinds, peak)


def _parts(network: nn.Module) -> Iterator[tuple[nn.Module, Any]]:
    for name, child in network.named_children():
        for module in child if isinstance(child, nn.ModuleList) else [child]:
            yield module, ("part", name)


def _kinds(network: nn.Module) -> Iterator[tuple[nn.Module, Any]]:
    attentions = [module for module in network.modules() if isinstance(module, SelfAttention)]
    inside = {layer for attention in attentions for layer in attention.modules()}
    for module in network.modules():
        if module in attentions:
            yield module, ("kind", "attention")
        elif module in inside:
            continue
        elif isinstance(module, CONVOLUTIONS):
            yield module, ("kind", "convolutions")
        elif isinstance(module, nn.Linear):
            yield module, ("kind", "linear layers")
        elif isinstance(module, NORMS):
            yield module, ("kind", "norms")


def _time(module: nn.Module, key: tuple[str, str], clock: Clock) -> None:
    _around(module, (*key, "forward"), clock)
    module.register_full_backward_pre_hook(_mark(clock.start, (*key, "backward")))
    module.register_full_backward_hook(_mark(clock.stop, (*key, "backward")))


def _around(module: nn.Module, key: Any, clock: Clock) -> None:
    module.register_forward_pre_hook(_mark(clock.start, key))
    module.register_forward_hook(_mark(clock.stop, key))


def _mark(act: Callable[[Any], None], key: Any) -> Callable[..., None]:
    def hook(*_: Any) -> None:
        act(key)

    return hook
