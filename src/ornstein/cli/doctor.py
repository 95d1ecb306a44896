"""`ornstein doctor`: versions, device, extras, two speeds, and what would make this installation faster or more complete."""

import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ornstein import extras
from ornstein._version import __version__
from ornstein.cli.options import Doctor
from ornstein.cli.parse import parse
from ornstein.cli.printing import say, table

if TYPE_CHECKING:
    import torch

STEPS = 8  # of training that are timed, after three that are not
BATCH = 64


def run(words: Sequence[str]) -> int:
    """Print one screen, or JSON."""
    options = parse(Doctor, "doctor", words)
    from ornstein.device import choose_device

    facts = examined(choose_device(options.device))
    if options.json:
        say(json.dumps(facts, indent=2).splitlines())
        return 0
    say(
        [*table(_rows(facts)), "", "Extras:", *table(_extras(facts)), "", *(facts["advice"] or ["Nothing to improve."])]
    )
    return 0


def examined(device: "torch.device") -> dict[str, Any]:
    """All that is found out, as JSON values; speeds in floating-point operations and images a second."""
    import torch

    from ornstein import cpu
    from ornstein.device import is_bf16_fast, peak

    others = cpu.taken_by_others()
    usable = cpu.usable_threads()
    bf16 = is_bf16_fast(device)
    speeds = {"float32": peak(device, torch.float32)}
    if bf16:
        speeds["bfloat16"] = peak(device, torch.bfloat16)
    facts: dict[str, Any] = {
        "ornstein": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "platform": platform.platform(),
        "device": str(device),
        "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or "CPU",
        "cores": os.cpu_count(),
        "threads": usable,
        "taken_by_others": others,
        "products": speeds,
        "images_per_second": _training(device, usable),
        "extras": dict(extras.installed()),
    }
    return {**facts, "advice": _advice(facts, device)}


def _training(device: "torch.device", threads: int) -> float:
    """Images a second of the small U-Net on the bundled digits, a training step as `ornstein train` makes it."""
    from ornstein.device import synchronize
    from ornstein.learn import Trainer

    chosen: dict[str, Any] = {"steps": STEPS + 3, "batch_size": BATCH, "device": str(device), "threads": threads}
    times: list[float] = []
    for _ in Trainer(None, None, "digits", tell=lambda line: None, **chosen):
        synchronize(device)
        times.append(time.perf_counter())
    return BATCH * (len(times) - 3) / (times[-1] - times[2])


def _rows(facts: dict[str, Any]) -> list[tuple[str, str]]:
    products = ", ".join(f"{speed / 1e9:,.0f} Gflop/s in {kind}" for kind, speed in facts["products"].items())
    bf16 = ", bf16" if "bfloat16" in facts["products"] else ""
    busy = facts["taken_by_others"]
    return [
        ("ornstein", f"{facts['ornstein']}, Python {facts['python']}, torch {facts['torch']}"),
        ("system", facts["platform"]),
        ("device", f"{facts['device']} ({facts['device_name']})"),
        (
            "CPUs",
            f"{facts['threads']} threads of {facts['cores']} CPUs"
            + ("" if busy is None else f", {busy:.1f} taken by others"),
        ),
        ("matrix products", products),
        (
            "training",
            f"{facts['images_per_second']:,.0f} images a second (U-Net small, 8x8 digits, {BATCH} a step{bf16})",
        ),
    ]


def _extras(facts: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        (extra, f"{_state(extra, versions)}  ({extras.USES[extra]})") for extra, versions in facts["extras"].items()
    ]


def _state(extra: str, versions: dict[str, str | None]) -> str:
    if None in versions.values():
        return f"missing: {extras.pip_line(extra)}"
    return ", ".join(f"{module} {version}" for module, version in versions.items())


def _advice(facts: dict[str, Any], device: "torch.device") -> list[str]:
    """Sentences on what would make it faster, or more complete."""
    import torch

    said: list[str] = []
    others, cores, threads = facts["taken_by_others"], facts["cores"] or 1, facts["threads"]
    if device.type == "cpu" and others is not None and others > cores / 4:
        said.append(
            f"Other programs take {others:.1f} of {cores} CPUs: the speeds above are lower than those of a quiet machine."
        )
    if device.type == "cpu" and threads < cores and "OMP_NUM_THREADS" in os.environ:
        said.append(
            f"OMP_NUM_THREADS={os.environ['OMP_NUM_THREADS']} uses {threads} of {cores} CPUs: unset it, or give --threads."
        )
    elif device.type == "cpu" and threads < cores:
        said.append(
            f"This process may use {threads} of {cores} CPUs (its quota, or its affinity); more would make it faster."
        )
    if "bfloat16" not in facts["products"]:
        said.append(f"{device} has no fast bfloat16, so trainings are float32; one that has it is about twice as fast.")
    if device.type == "cpu" and torch.version.cuda is None and sys.platform == "linux":
        said.append("This torch is built for CPUs alone: where there is a GPU, install torch's build for it.")
    lacking = [extra for extra, versions in facts["extras"].items() if None in versions.values()]
    if lacking:
        said.append(f"Missing extras, all at once: pip install 'ornstein[{','.join(lacking)}]'.")
    return said
