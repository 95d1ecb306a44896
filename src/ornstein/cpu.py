"""Settings of this process that make a CPU faster without less accurate results."""

import ctypes
import math
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TypeVar

import torch

P = TypeVar("P")
T = TypeVar("T")

TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD = -1, -2, -3  # glibc's names for mallopt, without their M_


@contextmanager
def configured(count: int, keep: bool, fast: bool) -> Iterator[None]:
    """Within, `count` threads; with `keep` freed memory stays the process's own, with `fast` see `fast_products`."""
    if keep:
        keep_memory()
    with threads(count), fast_products() if fast else nullcontext():
        yield


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Within, torch's operations on the CPU take so many threads in this thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def in_order(work: Callable[[P], T], pieces: Iterable[P], workers: int) -> Iterator[T]:
    """work(piece) for each piece, in their order; `workers` of them at once, each with its part of this thread's threads.

    Pieces that do not wait for each other keep all cores at work where other programs take some of them away: the threads of one
    operation would wait for the slowest of them each time. For the same reason a worker that is done goes on with a later piece
    while an earlier one is under way: up to twice as many pieces as workers are begun and not yet taken.
    """
    if workers == 1:
        yield from map(work, pieces)
        return
    share, running = max(1, torch.get_num_threads() // workers), deque[Future[T]]()
    with ThreadPoolExecutor(workers, "pieces", lambda: torch.set_num_threads(share)) as pool:
        try:
            for piece in pieces:
                running.append(pool.submit(work, piece))
                if len(running) == 2 * workers:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
        finally:
            for left in running:
                left.cancel()


def usable_threads() -> int:
    """As many threads as torch takes (OMP_NUM_THREADS, or the cores that this process may use), up to the CPUs of its quota.

    A container's quota is time, not cores: threads beyond it make each parallel operation wait for those that are held up.
    """
    limit = quota()
    return max(1, torch.get_num_threads() if limit is None else min(torch.get_num_threads(), math.floor(limit + 0.5)))


def taken_by_others(files: Path = Path("/"), seconds: float = 0.1) -> float | None:
    """CPUs that other programs use, over some `seconds` in which this one waits; None where there is no /proc/stat of Linux."""
    before = _jiffies(files)
    time.sleep(seconds)
    after = _jiffies(files)
    if before is None or after is None or after[1] <= before[1]:
        return None
    return (after[0] - before[0]) / (after[1] - before[1]) * (os.cpu_count() or 1)


def _jiffies(files: Path) -> tuple[int, int] | None:
    """Ticks of all CPUs at work, and all of their ticks, since the machine was started (the first eight fields of proc(5))."""
    try:
        fields = [int(field) for field in (files / "proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    except (OSError, ValueError):
        return None
    if len(fields) < 8:
        return None
    return sum(fields) - fields[3] - fields[4], sum(fields)  # without idle and iowait


def busy_line(count: int, files: Path = Path("/")) -> str | None:
    """A line where other programs take some of the CPUs that `count` threads would have; None where they do not."""
    others, cores = taken_by_others(files), os.cpu_count() or 1
    if others is None or others < max(0.5, cores - count + 0.5):
        return None
    return f"Other programs take {others:.1f} of the {cores} CPUs here: this shares them, and takes longer."


def quota(files: Path = Path("/")) -> float | None:
    """CPUs that control groups of Linux allow this process, the least of its group and those above; None without a limit.

    Sources: the kernel's documentation of control groups, version 2 (`cpu.max`) and version 1 (`cpu.cfs_quota_us`).
    """
    limits = []
    try:
        lines = (files / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        _, controllers, place = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        root = files / "sys/fs/cgroup" / ("cpu" if controllers else "")
        group = root / place.lstrip("/")
        for folder in (group, *group.parents):
            limits += _limit(folder)
            if folder == root:
                break
    return min(limits, default=None)


def _limit(folder: Path) -> list[float]:
    for names in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
        try:
            most, period = " ".join((folder / name).read_text() for name in names).split()
            return [float(most) / float(period)] if most not in ("max", "-1") else []
        except (OSError, ValueError):
            continue
    return []


def keep_memory() -> bool:
    """Ask the C library to keep large freed blocks for the next step or batch; whether it does.

    By default glibc gives blocks of 32 MiB and more, and the end of its heap, back to the system as soon as they are free, and
    every step takes them again page by page. What the process keeps is what its largest step needed. It is a setting of the
    process that stays; other C libraries have no such setting, and nothing changes.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    limits = {MMAP_THRESHOLD: 1 << 30, TRIM_THRESHOLD: -1, TOP_PAD: 64 << 20}  # -1: never
    return all(mallopt(name, value) == 1 for name, value in limits.items())


@contextmanager
def fast_products() -> Iterator[bool]:
    """Within, float32 matrix products on the CPU go through oneDNN where that keeps float32's accuracy; whether they do.

    The setting allows oneDNN bfloat16 products inside, which processors with matrix units for them then use: such a processor is
    recognised by the error of one product, and left as it was.
    """
    try:
        matmul = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
        before = matmul.fp32_precision
    except AttributeError:  # a torch without the setting
        yield False
        return
    matmul.fp32_precision = "bf16"
    accurate = rounding() < 1e-5
    if not accurate:
        matmul.fp32_precision = before
    try:
        yield accurate
    finally:
        matmul.fp32_precision = before


def rounding() -> float:
    """The relative error of a float32 product of 256×1024 by 1024×256 on the CPU: 4e-7 in float32, 2e-3 in bfloat16."""
    draws = torch.Generator().manual_seed(0)
    a, b = (torch.randn(shape, generator=draws) for shape in ((256, 1024), (1024, 256)))
    exact = a.double() @ b.double()
    return float(((a @ b) - exact).norm() / exact.norm())
