"""What a processor does faster when asked: settings of this process that leave its results as good as they were."""

import ctypes
import math
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch
from torch import Tensor

from ornstein.training.settings import Settings

TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD = -1, -2, -3  # glibc's names for mallopt, without their M_


@contextmanager
def tuned(settings: Settings, device: torch.device) -> Iterator[None]:
    """Within, what the settings allow of those below, where the device is a CPU."""
    if device.type != "cpu":
        yield
        return
    if settings.keep_memory:
        keep_memory()
    fast = fast_products() if settings.onednn and settings.precision == "float32" else nullcontext()
    with threads(settings.threads or usable_threads()), fast:
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


def usable_threads() -> int:
    """As many threads as torch takes (OMP_NUM_THREADS, or the cores that this process may use), up to the CPUs of its quota.

    A container's quota is time, not cores: threads beyond it make each parallel operation wait for those that are held up.
    """
    limit = quota()
    return max(1, torch.get_num_threads() if limit is None else min(torch.get_num_threads(), math.floor(limit + 0.5)))


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
    found by the error of one product, and left as it was.
    """
    try:
        matmul = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
        before = matmul.fp32_precision
    except AttributeError:  # a torch that cannot be asked
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


def peak(device: torch.device, dtype: torch.dtype, seconds: float = 0.5) -> float:
    """Floating-point operations a second of square matrix products, the best of several sizes: what a network can hope for."""
    return max(
        _product_speed(device, dtype, size, seconds / 3) for size in (1024, 2048, 4096 if _large(device) else 1536)
    )


def _large(device: torch.device) -> bool:
    return device.type == "cuda"


def _product_speed(device: torch.device, dtype: torch.dtype, size: int, seconds: float) -> float:
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    times: list[float] = []
    _seconds(a, b)
    until = time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < until:
        times.append(_seconds(a, b))
    return 2 * size**3 / statistics.median(times)


def _seconds(a: Tensor, b: Tensor) -> float:
    synchronize(a.device)
    begun = time.perf_counter()
    a @ b
    synchronize(a.device)
    return time.perf_counter() - begun


def synchronize(device: torch.device) -> None:
    """Wait for what the device was given to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
