"""Work dealt out to the processes that torchrun starts: each takes a block of the samples, and all get all the results."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class Shards:
    """This process's number among how many."""

    rank: int = 0
    world: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that speaks and writes."""
        return self.rank == 0

    def block(self, count: int) -> range:
        """The samples of this process: blocks differ by one at most, and follow each other."""
        return range(self.rank * count // self.world, (self.rank + 1) * count // self.world)

    def gather(self, block: Tensor) -> Tensor:
        """All blocks one after the other, for every process; they may differ in length, but in no other size."""
        if self.world == 1:
            return block
        counts = [torch.zeros(1, dtype=torch.int64) for _ in range(self.world)]
        dist.all_gather(counts, torch.tensor([len(block)]))
        longest = int(max(counts))
        padded = torch.zeros(longest, *block.shape[1:], dtype=block.dtype)
        padded[: len(block)] = block
        found = [torch.empty_like(padded) for _ in range(self.world)]
        dist.all_gather(found, padded)
        return torch.cat([part[: int(count)] for part, count in zip(found, counts, strict=True)])

    def wait(self) -> None:
        """Until every process is here."""
        if self.world > 1:
            dist.barrier()


@contextmanager
def shards() -> Iterator[Shards]:
    """The processes of torchrun, joined by gloo; a single one without it. A group that exists already is used and kept."""
    if dist.is_initialized():
        yield Shards(dist.get_rank(), dist.get_world_size())
        return
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Shards()
        return
    dist.init_process_group("gloo")
    try:
        yield Shards(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()
