"""The batch of a step with all its random numbers, cut into what each process learns from at once.

Every row's picture, time, noise, dropped label and flip are functions of (seed, step, row): the batch is the same in one part
or in many, in one process or in several, and in a run that was resumed.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ornstein.data import Dataset, order
from ornstein.noise import mix
from ornstein.objective import Objective, drop_labels
from ornstein.processes import ALONE, Processes
from ornstein.training.augment import NUMBERS, Augment
from ornstein.training.settings import Settings

BLOCK = 1 << 16  # normals that are drawn from one seed


class Part(NamedTuple):
    """What one process learns from at once: rows of the step's batch, on its device."""

    x: Tensor
    labels: Tensor | None
    u: Tensor
    """Quantiles of the times, (B,) in (0, 1]."""
    noise: Tensor
    vector: Tensor | None
    """What was done to each picture by augmentation, a condition."""
    seed: int
    """Of anything else that is random, such as dropout."""


@dataclass(frozen=True, eq=False)
class Batches:
    """The batches of a run, for one of its processes."""

    settings: Settings
    dataset: Dataset
    objective: Objective
    device: torch.device
    processes: Processes = ALONE

    def parts(self, step: int) -> Iterator[Part]:
        """This process's share of the batch of a step, in `settings.accumulate` parts. A pure function of the step."""
        s, data = self.settings, self.dataset
        assert s.batch_size is not None
        seed, total = mix(s.seed, step), s.batch_size
        draws = torch.Generator().manual_seed(mix(seed, 1))
        indices = order(s.seed, step, total, len(data))
        u = self.objective.levels(torch.rand(total, generator=draws))
        flip = torch.rand(total, generator=draws) < 0.5 if s.flips else None
        labels = None
        if data.labels is not None:
            found = torch.from_numpy(data.labels[indices])
            labels = drop_labels(found, len(data.classes), s.label_dropout, draws)
        augment = Augment(s.augment) if s.augment else None
        changes = torch.rand(total, NUMBERS, generator=draws) if augment is not None else None
        share = self.processes.share(total)
        size = len(share) // s.accumulate
        for first in range(share.start, share.stop, size):
            rows = slice(first, first + size)
            x, _ = data.batch(indices[rows], None if flip is None else flip[rows])
            x, vector = x.to(self.device), None
            if augment is not None and changes is not None:
                x, vector = augment(x, changes[rows].to(self.device))
            yield Part(
                x,
                None if labels is None else labels[rows].to(self.device),
                u[rows].to(self.device),
                normals(x.shape[1:], range(first, first + size), total, mix(seed, 2), self.device),
                vector,
                mix(seed, 3, first),
            )


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
