"""The batch of a step with all its random numbers, cut into what each process learns from at once.

Every row's image, time, noise, condition (whether it is dropped, and holes) and flip are functions of (seed, step, row): the
batch is the same in one part or in many, in one process or in several, and in a run that was resumed.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ornstein.conditions import Label, to
from ornstein.noise import mix
from ornstein.training.augment import NUMBERS, Augment
from ornstein.training.recipe import Recipe

BLOCK = 1 << 16  # normals that are drawn from one seed


class Part(NamedTuple):
    """Part of the batch of a step that one process learns from at once, on its device."""

    x: Tensor
    labels: Tensor | None
    """The classes, for a coupling."""
    u: Tensor
    """Quantiles of the times, (B,) in (0, 1]."""
    noise: Tensor
    condition: Any
    """Condition argument of the network."""
    seed: int
    """Seed of all other randomness, such as dropout."""
    jumps: Tensor | None = None
    """For flow maps, (B, 2): uniform numbers on [0, 1)."""
    jumping: slice = slice(1, None, 2)
    """For flow maps: the rows that are aimed off the diagonal, the odd ones of the batch."""
    known: Tensor | None = None
    """1 where a number of x is to be estimated, else 0: where data lack it (x is 0 there), or where a condition gives it. None:
    everywhere."""


@dataclass(frozen=True, eq=False)
class Batches:
    """The batches of a run, for one of its processes."""

    recipe: Recipe

    @property
    def device(self) -> torch.device:
        """Where the batches are."""
        return self.recipe.device

    def parts(self, step: int) -> Iterator[Part]:
        """This process's share of the batch of a step, in `settings.accumulate` parts. A pure function of the step."""
        s, device = self.recipe.settings, self.recipe.device
        conditions, dtype = self.recipe.model.conditions, self.recipe.model.dtype
        seed, total = mix(s.seed, step), self.recipe.batch_size
        draws = torch.Generator().manual_seed(mix(seed, 1))
        data, indices = self.recipe.dataset.drawn(s.seed, step, total)
        u = self.recipe.objective.levels(torch.rand(total, generator=draws))
        flip = torch.rand(total, generator=draws) < 0.5 if s.flips else None
        dropped = (
            torch.rand(total, generator=draws) < s.label_dropout if conditions else torch.zeros(total, dtype=torch.bool)
        )
        augment = Augment(s.augment) if s.augment else None
        changes = torch.rand(total, NUMBERS, generator=draws) if augment is not None else None
        dropped = dropped.expand(len(conditions.parts), -1)
        if len(conditions.parts) > 1:  # all of them in one part of the examples, and each alone in others
            dropped = dropped | (torch.rand(dropped.shape, generator=draws) < s.label_dropout)
        numbers = torch.rand(total, conditions.numbers, generator=draws)
        jumps = None
        if s.few_steps is not None:
            jumps = torch.rand(total, 2, generator=draws)
        share = self.recipe.processes.share(total)
        size = len(share) // s.accumulate
        for first in range(share.start, share.stop, size):
            rows = slice(first, first + size)
            x, _ = data.batch(indices[rows], None if flip is None else flip[rows], dtype == torch.float64)
            x, vector, known = _sent(x, device), None, None
            if augment is not None and changes is not None:
                x, vector = augment(x, _sent(changes[rows], device))
            inputs = conditions.dropped(conditions.of(data, indices[rows], x, numbers[rows]), dropped[:, rows])
            scored = conditions.scored(inputs)
            if scored is not None:
                known = _sent(scored, device).to(dtype)
            elif data.spec.missing:
                known = (~x.isnan()).to(dtype)
            if data.spec.missing:
                x = x.nan_to_num(0.0)
            labels = next(
                (row for part, row in zip(conditions.parts, inputs, strict=True) if isinstance(part, Label)), None
            )
            if data.is_paired:
                noise = _sent(data.noise(indices[rows]), device)
            else:
                noise = normals(x.shape[1:], range(first, first + size), total, mix(seed, 2), device)
            yield Part(
                x.to(dtype),
                None if labels is None else _sent(labels, device),
                _sent(u[rows], device).to(dtype),
                noise.to(dtype),
                to(conditions.network_input(tuple(_sent(row, device) for row in inputs), vector), device, dtype),
                mix(seed, 3, first),
                None if jumps is None else _sent(jumps[rows], device),
                odd_rows(first),
                known,
            )


def odd_rows(first: int) -> slice:
    """Every second row, so that both halves of the batch see all times: those with an odd number, where the first row has this
    one."""
    return slice(1 - first % 2, None, 2)


def _sent(x: Tensor, device: torch.device) -> Tensor:
    """On the device. To a GPU from pinned memory: the copy then waits for nothing, and nothing for it."""
    if device.type == "cuda" and x.device.type == "cpu":
        return x.pin_memory().to(device, non_blocking=True)
    return x.to(device)


def normals(shape: Sequence[int], rows: range, total: int, seed: int, device: torch.device) -> Tensor:
    """Standard normals for `rows` of a batch of `total`, float32 (len(rows), *shape): a function of (seed, row, total).

    They are drawn in blocks of rows, each from a seed of its own, so that a process draws little more than its share.
    """
    block = max(1, BLOCK // math.prod(shape))
    blocks = range(rows.start // block, (rows.stop - 1) // block + 1)
    generator = torch.Generator(device)
    drawn = [
        torch.randn(min(block, total - i * block), *shape, generator=generator.manual_seed(mix(seed, i)), device=device)
        for i in blocks
    ]
    first = blocks.start * block
    return torch.cat(drawn)[rows.start - first : rows.stop - first]
