"""Devices: the one that a user names or the best there is, and what it can do."""

import statistics
import time

import torch
from torch import Tensor

from ornstein.errors import UsageError, brief
from ornstein.processes import ALONE, Processes


def precise(device: torch.device) -> torch.dtype:
    """float64, or float32 on Apple's devices, which have no other."""
    return torch.float32 if device.type == "mps" else torch.float64


def choose_device(name: str | None, processes: Processes = ALONE) -> torch.device:
    """The device of that name, or the best available; of several GPUs each process has its own.

    Raises UsageError for one that is not there, or cannot be had by each process.
    """
    if processes.count > 1:
        return _own_device(name, processes)
    if name is None:
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        torch.empty(1, device=name)
        return torch.device(name)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"device: {brief(name)} is not available here; use cpu, or leave --device out") from error


def _own_device(name: str | None, processes: Processes) -> torch.device:
    """The device of one process among several."""
    kind = name or ("cuda" if torch.cuda.is_available() else "cpu")
    if kind == "cpu":
        return torch.device("cpu")
    if kind != "cuda":
        raise UsageError(
            f"device: {kind!r} is one device for {processes.count} processes; give cuda or cpu, or start one"
        )
    there = torch.cuda.device_count()
    if processes.near > there:
        raise UsageError(
            f"device: {processes.near} processes on a machine with {there} GPUs; start torchrun with "
            f"--nproc-per-node {there or 1}" + ("" if there else ", or give --device cpu")
        )
    torch.cuda.set_device(processes.local)
    return torch.device("cuda", processes.local)


def is_bf16_fast(place: torch.device) -> bool:
    """Whether the device multiplies bfloat16 matrices in hardware."""
    if place.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return place.type == "cpu" and torch.cpu._is_avx512_bf16_supported()


def peak(device: torch.device, dtype: torch.dtype, seconds: float = 0.5) -> float:
    """Floating-point operations a second of square matrix products, the best of several sizes: what a network can hope for."""
    sizes = (2048, 4096, 8192) if device.type == "cuda" else (1024, 1536, 2048)
    return max(_product_speed(device, dtype, size, seconds / 3) for size in sizes)


def _product_speed(device: torch.device, dtype: torch.dtype, size: int, seconds: float) -> float:
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    times: list[float] = []
    _seconds(a, b)
    until = time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < until:
        times.append(_seconds(a, b))
    return 2 * size**3 / statistics.median(times)


def _seconds(a: Tensor, b: Tensor) -> float:
    """Time of one product; on a GPU of ten, so that the wait for the device is a small part."""
    count = 10 if a.device.type == "cuda" else 1
    synchronize(a.device)
    begun = time.perf_counter()
    for _ in range(count):
        a @ b
    synchronize(a.device)
    return (time.perf_counter() - begun) / count


def synchronize(device: torch.device) -> None:
    """Wait for what the device was given to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
