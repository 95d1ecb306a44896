"""Training and sampling on a CPU that has other work: images a second as the library chooses, and with set numbers of threads.

    python -m benchmarks.contention [train] [sample] [evaluate]     # results/contention.json and contention.md; root for all rows

The small U-Net on 28×28, batch 64. Each side is a process of its own, started beside the neighbour: as it comes; with
OMP_NUM_THREADS=1; with OMP_NUM_THREADS of all cores and each batch at once. They are timed in turn (A B C A B C ...), medians.
Neighbours: none; a loop in Python; matrix products of torch in one thread and in two; a quota of one CPU (a control group); one
core taken outright (a real-time process). Rows that this machine or this user cannot have are left out by name.
"""

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import repeat
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
SECONDS, ROUNDS = 2.0, 2
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
SIDES = {
    "as it comes": ({}, []),
    "1 thread": ({"OMP_NUM_THREADS": "1"}, []),
    f"{CORES} threads at once": ({"OMP_NUM_THREADS": str(CORES)}, ["at-once"]),
}
LOOP = [sys.executable, "-c", "while True: pass"]
PRODUCTS = "import torch; torch.set_num_threads({n}); a = torch.randn(512, 512)\nwhile True: a @ a"


def features(count: int) -> Iterator[object]:
    """Features of so many images of 28×28 by a classifier, again and again."""
    import numpy as np

    from ornstein import data
    from ornstein.metrics import cnn, extract
    from ornstein.metrics.classifier import ImageClassifier

    images = data.dataset_of(np.random.default_rng(0).integers(0, 256, (count, 28, 28, 1), np.uint8))
    extractor = cnn.cnn(ImageClassifier(images.spec.shape, 10).eval())
    while True:
        yield extract(extractor, images.items, images.spec)


def serve(kind: str, options: list[str]) -> None:
    """Answers each line on standard input with images a second over `SECONDS`."""
    import numpy as np
    import torch

    from ornstein import cpu, data
    from ornstein.settings import Settings
    from ornstein.training.loop import train
    from ornstein.training.trainer import FolderTraining

    if "at-once" in options:  # all threads on one batch after the other
        cpu.in_order = lambda work, pieces, workers: map(work, pieces)
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder, batch, count = Path(name), 64, 64
        np.save(folder / "x.npy", np.random.default_rng(0).integers(0, 256, (256, 28, 28, 1), np.uint8))
        settings = Settings(
            data=str(folder / "x.npy"), out=str(folder / "run"), batch_size=batch, steps=10**6, network="unet", preset="small",
            split_batch="at-once" not in options,
        )  # fmt: skip
        run = FolderTraining(settings, data.open(settings.data), tell=lambda text: None)
        stack.enter_context(run.recipe.processor())
        state, learner = run.ready()
        if kind == "train":
            steps: Iterator[object] = train(run.recipe, learner, run.batches(), state)
        elif kind == "evaluate":
            count = 1024
            steps = features(count)
        else:
            count = 256  # whole calls, since batches are begun before they are asked for
            steps = ([*run.model.sample(count, steps=4, batch_size=batch, network=state.average)] for _ in repeat(None))
        next(steps)
        print(f"ready {torch.get_num_threads()}", flush=True)
        for _ in sys.stdin:
            begun, made = time.perf_counter(), 0
            while time.perf_counter() - begun < SECONDS:
                next(steps)
                made += count
            print(made / (time.perf_counter() - begun), flush=True)


@contextlib.contextmanager
def annotations(*commands: list[str]) -> Iterator[Callable[[], None] | None]:
    """Neighbours at work; no control group to join."""
    processes = [subprocess.Popen(command) for command in commands]
    try:
        time.sleep(2 if commands else 0)
        yield None
    finally:
        for process in processes:
            process.kill()
            process.wait()


@contextlib.contextmanager
def quota(cpus: int) -> Iterator[Callable[[], None] | None]:
    """A control group of so many CPUs. Raises OSError where none can be made."""
    first = Path("/sys/fs/cgroup/cpu")
    one, root = (True, first) if first.is_dir() else (False, Path("/sys/fs/cgroup"))
    group = root / f"contention-{os.getpid()}"
    group.mkdir()
    try:
        if one:
            (group / "cpu.cfs_period_us").write_text("100000")
            (group / "cpu.cfs_quota_us").write_text(str(100_000 * cpus))
        else:
            (group / "cpu.max").write_text(f"{100_000 * cpus} 100000")
        yield lambda: (group / "cgroup.procs").write_text(str(os.getpid())) and None
    finally:
        time.sleep(0.5)
        group.rmdir()


SCENES: dict[str, Callable[[], contextlib.AbstractContextManager[Callable[[], None] | None]]] = {
    "no other work": annotations,
    "a loop in Python": lambda: annotations(LOOP),
    "torch, one thread": lambda: annotations([sys.executable, "-c", PRODUCTS.format(n=1)]),
    "torch, two threads": lambda: annotations([sys.executable, "-c", PRODUCTS.format(n=2)]),
    "a quota of one CPU": lambda: quota(1),
    "one core taken": lambda: annotations(["chrt", "-f", "10", "taskset", "-c", str(CORES - 1), *LOOP]),
}


class Side:
    def __init__(self, kind: str, env: dict[str, str], options: list[str], join: Callable[[], None] | None) -> None:
        words = [sys.executable, "-m", "benchmarks.contention", "serve", kind, *options]
        clean = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen(words, env={**clean, **env}, preexec_fn=join, **pipes)  # type: ignore[call-overload]
        if not self.process.stdout.readline().startswith("ready"):
            raise RuntimeError("a side did not start")

    def speed(self) -> float:
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


def measure(kind: str, scene: str) -> dict[str, float]:
    """Images a second of each side, one side's process alive at a time within a scene's turn."""
    found: dict[str, list[float]] = {name: [] for name in SIDES}
    with SCENES[scene]() as join:
        sides = {name: Side(kind, env, options, join) for name, (env, options) in SIDES.items()}
        try:
            for _ in range(ROUNDS):
                for name, side in sides.items():
                    found[name].append(side.speed())
        finally:
            for side in sides.values():
                side.close()
    return {name: statistics.median(values) for name, values in found.items()}


def main(kinds: list[str]) -> str:
    file = RESULTS / "contention.json"
    known = json.loads(file.read_text()) if file.exists() else {}
    for kind in kinds:
        for scene in SCENES:
            try:
                known.setdefault(kind, {})[scene] = measure(kind, scene)
            except (OSError, RuntimeError) as error:
                print(f"left out: {scene} ({error})", file=sys.stderr)
                continue
            print(kind, scene, known[kind][scene], flush=True)
            file.write_text(json.dumps(known, indent=1) + "\n")
    text = tables(known)
    (RESULTS / "contention.md").write_text(text)
    return text


def tables(known: dict[str, dict[str, dict[str, float]]]) -> str:
    lines = []
    for kind, scenes in known.items():
        names = list(next(iter(scenes.values())))
        lines += [
            f"| {kind}: images/s beside | {' | '.join(names)} | as it comes over the best |",
            "|---" * (len(names) + 2) + "|",
        ]
        for scene, speeds in scenes.items():
            best = max(speeds.values())
            cells = [f"{speeds[name]:.0f}" for name in names]
            lines.append(f"| {scene} | {' | '.join(cells)} | {speeds['as it comes'] / best:.2f} |")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve(sys.argv[2], sys.argv[3:])
    else:
        print(main(sys.argv[1:] or ["train", "sample", "evaluate"]))
