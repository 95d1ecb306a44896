"""One process, or several that were started together (torchrun): which one this is, and what they agree on.

No other module knows how processes communicate. Torch is imported when they begin to.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from itertools import count
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import ref

from ornstein.errors import OrnsteinError, Reported, UsageError

if TYPE_CHECKING:
    from torch import Tensor
    from torch.distributed import Store

T = TypeVar("T")

NEEDED = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
MINUTES = 30.0  # that a process waits for the others before it gives up
JOINING = 5.0  # minutes in which all must have come: of one that died before, nobody can tell that it is not only slow
PAUSE = 0.2  # seconds in which gloo's threads let go of what they failed to send: taking the group down meanwhile locks both up
LAUNCH = "torchrun --nproc-per-node N -m ornstein"


@dataclass(frozen=True)
class Processes:
    """The processes of a run, seen from this one: `rank` of `count`, number `local` of `near` on its machine."""

    rank: int = 0
    count: int = 1
    local: int = 0
    near: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that writes and prints."""
        return self.rank == 0

    def command(self, name: str) -> str:
        """How a command of the library is started as this one was."""
        if self.count == 1:
            return f"ornstein {name}"
        return f"torchrun --nproc-per-node {self.near} -m ornstein {name}"

    def share(self, total: int) -> range:
        """The rows of `total` that are this process's: blocks follow each other and differ by one at most."""
        return range(self.rank * total // self.count, (self.rank + 1) * total // self.count)

    def table(self, *values: float) -> Tensor:
        """The numbers of every process, float64 (count, len(values)), the same everywhere."""
        import torch

        mine = torch.tensor(values, dtype=torch.float64)
        if self.count == 1:
            return mine[None]
        from torch import distributed

        rows = [torch.empty_like(mine) for _ in range(self.count)]
        distributed.all_gather(rows, mine)
        return torch.stack(rows)

    def gather(self, value: T) -> list[T]:
        """The values of all processes, on the first one; an empty list on the others."""
        if self.count == 1:
            return [value]
        from torch import distributed

        values: list[Any] | None = [None] * self.count if self.is_first else None
        distributed.gather_object(value, values)
        return values or []

    def on_first(self, work: Callable[[], T]) -> T:
        """The result of `work()` on the first process, in every process. If it fails, it fails everywhere: see `on_all`."""
        value = self.on_all(work if self.is_first else lambda: None)
        if self.count == 1:
            return value  # type: ignore[return-value]
        from torch import distributed

        shared = [value]
        distributed.broadcast_object_list(shared)
        return shared[0]  # type: ignore[return-value]

    def in_turn(self, work: Callable[[], T]) -> T:
        """The result of `work()`, called in the first process, then in the others, which find what the first one made.

        Raises as `on_all`.
        """
        if self.count == 1:
            return work()
        first = self.on_all(work if self.is_first else lambda: None)
        return self.on_all(lambda: first if self.is_first else work())  # type: ignore[return-value]

    def on_all(self, work: Callable[[], T]) -> T:
        """The result of `work()` in each process; where one fails with an OrnsteinError, all do, so that none waits for it.

        The first process raises the error, whichever process it came from; the others raise `Reported`.
        """
        if self.count == 1:
            return work()
        from torch import distributed

        error, value = None, None
        try:
            value = work()
        except OrnsteinError as failed:
            error = failed
        errors: list[OrnsteinError | None] = [None] * self.count
        distributed.all_gather_object(errors, error)
        failure = next(((rank, e) for rank, e in enumerate(errors) if e is not None), None)
        if failure is None:
            return value  # type: ignore[return-value]
        rank, first = failure
        if not self.is_first:
            raise Reported(str(first)) from error
        raise first if rank == 0 else type(first)(f"process {rank}: {first}")


ALONE = Processes()


def environment() -> Processes:
    """The processes as the launcher's environment describes them, without communication.

    Raises UsageError when it said only a part of what is needed, or what makes no sense.
    """
    present = [name for name in NEEDED if os.environ.get(name)]
    if not {"RANK", "WORLD_SIZE"} & set(present):
        return ALONE
    if len(present) < len(NEEDED):
        missing = ", ".join(name for name in NEEDED if name not in present)
        raise UsageError(
            f"{present[0]} is set in the environment, but not {missing}: start several processes with `{LAUNCH} …`, or unset it"
        )
    values = {}
    for name, default in (("RANK", 0), ("WORLD_SIZE", 1), ("LOCAL_RANK", 0), ("LOCAL_WORLD_SIZE", 1)):
        word = os.environ.get(name, str(default))
        if not word.isdigit():
            raise UsageError(f"{name} = {word!r} in the environment is no number: start with `{LAUNCH} …`, or unset it")
        values[name] = int(word)
    rank, count = values["RANK"], values["WORLD_SIZE"]
    if rank >= count:
        raise UsageError(f"RANK = {rank} in the environment is not below WORLD_SIZE = {count}: start with `{LAUNCH} …`")
    return Processes(rank, count, values["LOCAL_RANK"], values["LOCAL_WORLD_SIZE"])


def silent() -> bool:
    """Whether another process prints for this one."""
    try:
        return not environment().is_first
    except UsageError:
        return False


def current() -> Processes:
    """The processes that this one has joined; alone where there are none.

    Raises UsageError in a process that was started with others and has not joined them.
    """
    import torch.distributed as distributed

    said = environment()
    if said.count > 1 and not (distributed.is_available() and distributed.is_initialized()):
        raise UsageError(f"this is one of {said.count} processes: work within `with ornstein.processes.joined():`")
    return said


_JOINS = count()  # how often this process has joined the others, which is as often as they have


@cache
def _store(rank: int, processes: int, minutes: float) -> Store:
    """Where processes leave each other word, for as long as this process lives: the first one serves it, or the launcher."""
    from torch.distributed.rendezvous import rendezvous

    return next(rendezvous("env://", rank, processes, timeout=timedelta(minutes=minutes)))[0]


@contextmanager
def joined(minutes: float = MINUTES) -> Iterator[Processes]:
    """A context in which the processes that torchrun started communicate; a process started alone needs none.

    CPUs communicate through gloo, GPUs through NCCL. A process that waits longer than `minutes` for another fails, and
    so does one whose others have not joined it after `JOINING` minutes.
    Raises UsageError for an incomplete environment, OrnsteinError where the others cannot be reached, or no longer.
    """
    said = environment()
    if said.count == 1:
        yield said
        return
    import torch
    from torch import distributed

    if not distributed.is_available():
        raise UsageError("this build of torch has no torch.distributed: start one process, without torchrun")
    early = min(minutes, JOINING)
    both = torch.cuda.is_available() and distributed.is_nccl_available()
    try:
        # keys of its own: a process that joins again must not meet what the others have not yet taken down
        store = distributed.PrefixStore(f"ornstein-{next(_JOINS)}", _store(said.rank, said.count, early))
        distributed.init_process_group(
            "cpu:gloo,cuda:nccl" if both else "gloo",
            store=store,
            timeout=timedelta(minutes=early),
            rank=said.rank,
            world_size=said.count,
        )
        distributed.distributed_c10d._set_pg_timeout(timedelta(minutes=minutes))
    except (RuntimeError, ValueError) as error:
        place = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        reason = str(error).splitlines()[0]
        raise OrnsteinError(
            f"process {said.rank} of {said.count} could not join the others at {place} ({reason})"
        ) from error
    try:
        yield said
    except BaseException as error:
        if not both:  # NCCL would wait for the others; it ends with this process
            sleep(PAUSE)
            distributed.destroy_process_group()
        if _is_lost(error):
            reason = re.sub(r"\[\S*\](:\d+)?\s*", "", str(error).splitlines()[0]).split(". ")[0].strip()
            raise OrnsteinError(
                f"another process has ended, or cannot be reached ({reason}): start all of them again; "
                "a training goes on from its last checkpoint"
            ) from error
        raise
    try:
        _part()
    except RuntimeError as error:
        if not _is_lost(error):  # one that has left already has done all of its work, too
            raise
        sleep(PAUSE)
    distributed.destroy_process_group()


def _part() -> None:
    """Wait until all are here, and until gloo's threads hold nothing of Python's.

    None takes its connections down while another still speaks. The threads let go of what was sent only after the
    call has returned, outlive the group where DDP was used, and end the process (SIGABRT) if they let go while the
    interpreter shuts down.
    """
    import torch
    from torch import distributed

    word = torch.zeros(1)
    distributed.all_reduce(word)
    held = ref(word)
    del word
    end = monotonic() + 5
    while held() is not None and monotonic() < end:
        sleep(0.001)


def _is_lost(error: BaseException) -> bool:
    """Whether the error is that of a connection to another process; gloo raises plain RuntimeErrors that begin with its place."""
    from torch import distributed

    return isinstance(error, distributed.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error))
