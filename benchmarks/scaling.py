"""What a training step costs, by width of the network, batch, and number of processes.

    python -m benchmarks.scaling               # results/scaling.json and scaling.md

U-Nets on 28×28 grey images through the library's own training, one thread a process, gloo. Processor time of one process a step,
median over steps: it does not count waiting, neither for other processes nor for other work on the machine.
"""

import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np

RESULTS = Path(__file__).parent / "results"
STEPS, SETTLED = 14, 4
CASES: tuple[tuple[str, int, dict[str, Any]], ...] = (
    *(
        (f"{preset}, batch {batch}", 1, {"preset": preset, "batch_size": batch})
        for preset in ("tiny", "small")
        for batch in (8, 16, 32)
    ),
    ("small, batch 16 in 2 parts", 1, {"preset": "small", "batch_size": 16, "accumulate": 2}),
    ("small, batch 16, 2 processes (DDP)", 2, {"preset": "small", "batch_size": 16}),
    ("small, batch 16, 2 processes (FSDP2)", 2, {"preset": "small", "batch_size": 16, "shard": True}),
)


def child(data_file: str, cases: str) -> None:
    """Trains each case in this process, one of those in its environment; a line of JSON for each."""
    import torch

    from ornstein import data
    from ornstein.processes import joined
    from ornstein.settings import Settings
    from ornstein.training.trainer import FolderTraining

    torch.set_num_threads(1)
    dataset = data.open(data_file)
    with joined() as processes:
        for name, count, changes in json.loads(cases):
            with tempfile.TemporaryDirectory() as out:
                out = str(processes.on_first(lambda folder=out: folder))  # the first one's folder is everyone's
                settings = Settings(data=data_file, out=f"{out}/run", steps=STEPS, samples=0, snapshots=0, **changes)
                training, times, began = FolderTraining(settings, dataset, tell=print), list[float](), process_time()
                for _ in training:
                    times.append((process_time() - began) * 1e3)
                    began = process_time()
                parameters = sum(p.numel() for p in training.model.network.parameters())
                processes.table()  # all are done with the folder
            told = {"case": name, "processes": count, "parameters": parameters, "batch": changes["batch_size"]}
            print(json.dumps({**told, "milliseconds": statistics.median(times[SETTLED:-1])}), flush=True)


def launch(count: int, file: Path) -> list[dict[str, Any]]:
    """The rows of all cases for so many processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    cases = json.dumps([case for case in CASES if case[1] == count])
    words = [sys.executable, "-m", "benchmarks.scaling", str(file), cases]
    workers = []
    for rank in map(str, range(count)):
        told = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count)}
        told |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
        workers.append(subprocess.Popen(words, env={**os.environ, **told}, stdout=subprocess.PIPE, text=True))
    outputs = [worker.communicate()[0] for worker in workers]
    return [json.loads(line) for line in outputs[0].splitlines() if line.startswith("{")]


def run() -> str:
    """Measures all cases and writes the results; the table."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "noise.npy"
        np.save(file, np.random.default_rng(0).integers(0, 256, (512, 28, 28), dtype=np.uint8))
        rows = [row for count in (1, 2) for row in launch(count, file)]
    lines = [
        "| network, batch | parameters | processor time of a process a step, ms | per image, ms |",
        "|---|---|---|---|",
    ]
    for row in rows:
        each = row["milliseconds"] * row["processes"] / row["batch"]
        lines.append(f"| {row['case']} | {row['parameters']:,} | {row['milliseconds']:.0f} | {each:.2f} |")
    (RESULTS / "scaling.json").write_text(json.dumps(rows, indent=1) + "\n")
    (RESULTS / "scaling.md").write_text("\n".join(lines) + "\n")
    return "\n".join(lines)


if __name__ == "__main__":
    child(*sys.argv[1:]) if len(sys.argv) > 1 else print(run())
