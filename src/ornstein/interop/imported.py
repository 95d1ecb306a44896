"""A foreign model as a network with all that it is called with: its label, its other inputs, guidance away from some of them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path as File
from typing import Any

import torch
from torch import Tensor, nn

from ornstein.errors import UsageError
from ornstein.interop.convention import Call, Convention, Foreign

Bound = Mapping[str, Tensor]
"""Inputs of one row, which is that of every sample. Names with dots are entries of nested dicts."""


@dataclass(frozen=True, eq=False)
class Opened:
    """A foreign model as it was read, before anybody said what its data are."""

    name: str
    network: Callable[..., Any]
    digests: Mapping[File, str]
    """The sha256 of each file that it was read from."""
    shape: tuple[int | None, ...]
    """Of one item, channels first; None where the files leave an axis open."""
    call: Call | None = None
    """How it is called; None: as the convention says."""
    scheduler: Mapping[str, Any] | None = None
    """A configuration of diffusers that says the convention; None: the user does."""
    variance: bool = False
    label: str | None = None
    """The input that is a class."""
    embedded: int = 0
    """Rows of the network's table of classes; 0 where nobody knows."""
    inputs: tuple[str, ...] = ()
    """What it takes besides x, the time and the label."""
    classes: int = 0
    """Classes that it has by its configuration."""
    latent: bool = False


@dataclass(frozen=True, eq=False)
class Inputs:
    """What a network takes besides x_t and t.

    `label` is the name of the input that is a class, of `classes`; `null`: whether the place behind them says no class. `bound`
    are the other inputs, and `away` those of them that the prediction is guided away from at `scale`.
    """

    label: str | None = None
    classes: int = 0
    null: bool = False
    bound: Bound = field(default_factory=dict)
    away: Bound = field(default_factory=dict)
    scale: float = 1.0


class ImportedNetwork(Foreign):
    """(x, t, classes or None) -> prediction. With `away`, that is u + scale·(c − u), both in one call."""

    imported = True

    def __init__(self, network: Callable[..., Any], convention: Convention, inputs: Inputs) -> None:
        super().__init__(network, convention)
        if next(self.parameters(), None) is None:  # a session has none, and a run asks where its network is
            self.place = nn.Parameter(torch.zeros(()), requires_grad=False)
        self.inputs, self.has_null = inputs, inputs.label is None or inputs.null
        if inputs.label is not None:
            self.classes = inputs.classes

    def forward(self, x: Tensor, t: Tensor, condition: Any = None) -> Tensor:
        labels = self._labels(condition, len(x))
        if not self.inputs.away:
            return super().forward(x, t, _keywords(self.inputs.bound, labels, x))
        twice = torch.cat([x, x])
        rows = {
            name: torch.cat([_row(part, x), _row(self.inputs.bound[name], x)])
            for name, part in self.inputs.away.items()
        }
        both = {name: torch.cat([part, part]) for name, part in labels.items()}
        u, c = super().forward(twice, torch.cat([t, t]), _keywords({**self.inputs.bound, **rows}, both, twice)).chunk(2)
        return u + self.inputs.scale * (c - u)

    def _labels(self, condition: Any, count: int) -> dict[str, Tensor]:
        if self.inputs.label is None:
            return {}
        if condition is None:
            condition = torch.full((count,), self.inputs.classes, device=next(self.parameters()).device)
        if not self.inputs.null and bool((condition >= self.inputs.classes).any()):
            raise UsageError(
                f"label: this imported model has {self.inputs.classes} classes and no place for none of them; give a label"
            )
        return {self.inputs.label: condition}


def _row(part: Tensor, like: Tensor) -> Tensor:
    """One row for each of a batch, in its type where it is floating."""
    moved = part.to(like.device, like.dtype if part.is_floating_point() else None)
    return moved.expand(len(like), *moved.shape[1:])


def _keywords(bound: Bound, labels: Mapping[str, Tensor], like: Tensor) -> dict[str, Any] | None:
    """Keywords of a call, nested by the dots of their names."""
    made: dict[str, Any] = dict(labels)
    for name, part in bound.items():
        *outer, last = name.split(".")
        place = made
        for key in outer:
            place = place.setdefault(key, {})
        place[last] = _row(part, like)
    return made or None
