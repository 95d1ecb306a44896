"""A training with every choice made: what `Settings` name or leave open, as objects."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import nn

from ornstein import cpu
from ornstein.data import Dataset
from ornstein.model import Model
from ornstein.objective import Objective
from ornstein.processes import ALONE, Processes
from ornstein.settings import Settings
from ornstein.solvers import Solver
from ornstein.training.loggers import Logger


class Length(Protocol):
    """How long a training is."""

    def done(self, step: int, seconds: float) -> float:
        """The part that is done after so many steps and seconds; 1 or more at the end."""

    def whole(self, step: int, seconds: float, pace: float) -> float:
        """Seconds of the whole training, of which so many steps took so many seconds and each further one takes `pace`."""


@dataclass(frozen=True)
class Steps:
    """So many optimiser steps."""

    count: int

    def done(self, step: int, seconds: float) -> float:
        return step / self.count

    def whole(self, step: int, seconds: float, pace: float) -> float:
        return seconds + pace * (self.count - step)


@dataclass(frozen=True)
class Minutes:
    """So much time of training, saving and sampling left out."""

    count: float

    def done(self, step: int, seconds: float) -> float:
        return seconds / (60 * self.count)

    def whole(self, step: int, seconds: float, pace: float) -> float:
        return 60 * self.count


@dataclass(frozen=True, eq=False)
class Recipe:
    """Everything chosen for a training: what is learned from what, and how. `choosing.choose` makes it from `Settings`."""

    settings: Settings
    """The record of all choices, for config.yaml."""
    dataset: Dataset
    model: Model
    """The untrained network with its path, target, conditions and coupling."""
    objective: Objective
    """How times and noise of a batch are drawn."""
    loss_module: Callable[..., nn.Module]
    """loss_module(network, model, bf16, uncertainty): the network with its loss."""
    optimizer: Callable[[Sequence[nn.Parameter]], torch.optim.Optimizer]
    """Its learning rates are the peaks."""
    schedule: Callable[[float], float]
    """The part of the peak rate at a part of the run, from 0 to 1."""
    length: Length
    batch_size: int
    """Examples per optimiser step, of all processes together."""
    peak: float
    """Learning rate of the library's optimiser."""
    bf16: bool
    threads: int
    """On a CPU."""
    device: torch.device
    processes: Processes = ALONE
    solver: Solver | None = None
    """Solver of the sample sheets; None: the default of the model."""
    loggers: tuple[Logger, ...] = ()
    teacher: str = ""
    """The hash of the weights of the run that a flow map learns from."""
    held_out: Dataset | None = None
    """Items that are not learned from, for the validation loss."""

    def processor(self) -> AbstractContextManager[None]:
        """Within, what the settings allow on a CPU; elsewhere nothing changes."""
        if self.device.type != "cpu":
            return nullcontext()
        return cpu.configured(self.threads, self.settings.keep_memory, self.settings.onednn and not self.bf16)
