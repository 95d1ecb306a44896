"""Descriptions of a user's own network, optimiser and schedule, by which a resumed run recognises them."""

import re
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ornstein.errors import OrnsteinError, UsageError
from ornstein.training.choosing import Objects

ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
CHANGEABLE = ("optimizer", "schedule")
POINTS = 11  # of the run, at which schedules are compared


def described(objects: Objects, network: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, str]:
    """One text for each object that is not the library's: a class, and a digest or the values of what it is made with."""
    texts = {}
    if objects.network is not None:
        layers = ADDRESS.sub("", repr(network))
        shapes = [(name, tuple(tensor.shape), str(tensor.dtype)) for name, tensor in network.state_dict().items()]
        digest = sha256(f"{layers}{shapes}".encode()).hexdigest()[:16]
        texts["network"] = f"{type(network).__qualname__} with layers {digest}"
    if objects.optimizer is not None:
        groups = [
            ", ".join(f"{key}={_plain(value)}" for key, value in sorted(group.items()) if key not in ("params", "lr"))
            for group in optimizer.param_groups
        ]
        texts["optimizer"] = f"{type(optimizer).__qualname__}({'; '.join(groups)})"
    if objects.schedule is not None:
        values = [float(objects.schedule(i / (POINTS - 1))) for i in range(POINTS)]
        texts["schedule"] = " ".join(f"{value:.6g}" for value in values)
    return texts


def _plain(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        value = value.tolist()
    return ADDRESS.sub("", repr(value))


def must_be_same(folder: Path, known: Mapping[str, Any] | None, mine: Mapping[str, str], change: bool) -> None:
    """Raises UsageError for a network, or without `change` an optimiser or a schedule, that is not the one so far.

    `known` is what the run wrote, None for a run of before such things were written.
    """
    if known is None:
        return
    if not all(isinstance(value, str) for value in known.values()):
        raise OrnsteinError(f"{folder / 'env.json'} does not say what the run was trained with; remove it")
    for key in sorted(known.keys() | mine.keys()):
        theirs, now = known.get(key, "the library's"), mine.get(key, "the library's")
        if theirs == now or (change and key in CHANGEABLE):
            continue
        allowed = ", add change=True to go on with this one" if key in CHANGEABLE else ""
        raise UsageError(
            f"{folder} was trained with another {key} ({theirs}, now {now}): give the same to go on{allowed}, or give another out"
        )
