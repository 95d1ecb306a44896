"""Resident memory while training from one file of 0.2, 2 and 20 GB.

    python -m benchmarks.memory               # results/memory.json and memory.md

Each size is a process of its own that trains the tiny U-Net on 32×32 colour images with batches of 32. The files have holes, so
they cost no disk and their reads no waiting: what is measured is memory and work, not the disk. `resident` is VmRSS, which counts
pages of mapped files; `peak` is VmHWM. Processor time per step is of the whole process, reading included.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from time import process_time

import numpy as np

SIZES = 0.2, 2.0, 20.0  # GB
STEPS, SETTLED = 120, 20
RESULTS = Path(__file__).parent / "results"


def make(file: Path, size: float) -> None:
    """A file of that size: holes, and noise where the library looks to measure the data."""
    count = int(size * 1e9) // (32 * 32 * 3)
    items = np.lib.format.open_memmap(file, "w+", np.uint8, (count, 32, 32, 3))
    looked_at = min(count, 4096)
    noise = np.random.default_rng(0).integers(0, 256, (looked_at, 32, 32, 3), dtype=np.uint8)
    items[np.arange(looked_at) * count // looked_at] = noise
    items.flush()


def train(file: str) -> dict[str, float]:
    """One training; megabytes after the first steps and at the end, and milliseconds a step."""
    import torch

    from ornstein import data
    from ornstein.settings import Settings
    from ornstein.training.trainer import FolderTraining

    torch.set_num_threads(1)
    dataset = data.open(file)
    settings = Settings(data=file, out=f"{file}.run", steps=STEPS, preset="tiny", batch_size=32, samples=0, snapshots=0)
    settled = began = 0.0
    for event in FolderTraining(settings, dataset, tell=print):
        if event.progress.step == SETTLED:
            settled, began = status("VmRSS"), process_time()
        if event.progress.step == STEPS - 1:
            milliseconds = (process_time() - began) / (STEPS - 1 - SETTLED) * 1e3
            ended = status("VmRSS")
    return {
        "gigabytes": Path(file).stat().st_size / 1e9,
        "images": len(dataset),
        "resident_after_20_steps": settled,
        "resident_at_end": ended,
        "peak": status("VmHWM"),
        "milliseconds": milliseconds,
    }


def status(key: str) -> float:
    """Megabytes of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1e3 for line in lines if line.startswith(key))


def run() -> str:
    """Measures all sizes and writes the results; the table."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for size in SIZES:
            file = Path(folder) / f"{size:g}.npy"
            make(file, size)
            words = [sys.executable, "-m", "benchmarks.memory", str(file)]
            out = subprocess.run(words, capture_output=True, text=True, check=True).stdout
            rows.append(json.loads(out.splitlines()[-1]))
            file.unlink()
    head = "| file, GB | images | resident after 20 steps, MB | at the end, MB | peak, MB | processor time a step, ms |"
    table = "\n".join(
        [
            head,
            "|---|---|---|---|---|---|",
            *(
                f"| {r['gigabytes']:.1f} | {r['images']:,} | {r['resident_after_20_steps']:.0f} | {r['resident_at_end']:.0f} | "
                f"{r['peak']:.0f} | {r['milliseconds']:.1f} |"
                for r in rows
            ),
        ]
    )
    (RESULTS / "memory.json").write_text(json.dumps(rows, indent=1) + "\n")
    (RESULTS / "memory.md").write_text(table + "\n")
    return table


if __name__ == "__main__":
    print(json.dumps(train(sys.argv[1])) if len(sys.argv) > 1 else run())
