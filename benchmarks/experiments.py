"""Small controlled comparisons of training choices: each changes one setting of a run on digits or Fashion-MNIST.

    python -m benchmarks.experiments                      # all on digits, one after the other
    python -m benchmarks.experiments --seeds 0 1 -- ot    # one of them, on two seeds
    python -m benchmarks.experiments --data plane ot      # points in the plane, judged by their sliced Wasserstein distance
    python -m benchmarks.experiments --minutes 1 rate-3e-3    # runs of so many CPU minutes of one thread in place of steps

Every run of a seed sees the same data in the same order, from the same initial weights where the network is the same. Judged are
600 samples in equal parts of each class, from the same noise, at few and at more network calls: the part whose label a
classifier trained on the real data recognises, the sliced Wasserstein distance to held-out data over that of the training
data, and the Fréchet and the kernel distance (KID) in the classifier's features. `ema` trains nothing new: it averages the plain
runs over other lengths afterwards. Prints one line per run, writes them to benchmarks/results/experiments-DATA.json, beside the
runs that are there, and prints means and spreads over seeds.
"""

import argparse
import json
import tempfile
import time
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path

import numpy as np
import torch

import ornstein
from benchmarks.lengths import ThreadMinutes
from benchmarks.magnitude import MagnitudeUNet
from benchmarks.muon import MuonAndAdamW
from benchmarks.quality import outputs, sliced_wasserstein, train_classifier
from benchmarks.solvers import RESULTS, table_lines
from ornstein import data, metrics
from ornstein.networks import UNet
from ornstein.settings import Settings
from ornstein.training.trainer import FolderTraining

CHANGES: dict[str, dict] = {
    "plain": {},
    "independent-times": {"times": "uniform"},
    "ot": {"coupling": "ot"},
    "uncertainty": {"uncertainty": True},
    "augment": {"augment": 0.12},
    "rate-5e-4": {"learning_rate": 5e-4},
    "rate-2e-3": {"learning_rate": 2e-3},
    "rate-3e-3": {"learning_rate": 3e-3},
    "rate-5e-3": {"learning_rate": 5e-3},
    "rate-1e-2": {"learning_rate": 1e-2},
    "warm": {"warmup": 0.2},
    "warm-3e-3": {"learning_rate": 3e-3, "warmup": 0.2},
    "groups-of-4": {},
    "muon": {},
    "muon-3e-3": {"learning_rate": 3e-3},
    "dropout-3e-3": {"learning_rate": 3e-3},
    "batch-half-3e-3": {"learning_rate": 3e-3},
    "batch-double-3e-3": {"learning_rate": 3e-3},
    "magnitude-3e-3": {"learning_rate": 3e-3},
    "magnitude-1e-2": {"learning_rate": 1e-2},
    "magnitude-3e-2": {"learning_rate": 3e-2},
}
MAGNITUDE = dict.fromkeys(("magnitude-3e-3", "magnitude-1e-2", "magnitude-3e-2"), MagnitudeUNet)
NETWORKS = {  # in place of the U-Net
    **MAGNITUDE,
    "groups-of-4": lambda config: UNet(**{**config, "group_width": 4}),
    "dropout-3e-3": lambda config: UNet(**{**config, "dropout": 0.1}),
}
BATCHES = {"batch-half-3e-3": 0.5, "batch-double-3e-3": 2}  # over the default
IMAGES = {"augment", *(name for name in CHANGES if "-3e-" in name or name.startswith("rate")), "muon", *NETWORKS}
LENGTHS = (0.03, 0.05, 0.2)
CALLS, COUNT, PLANE_CALLS = (5, 20), 600, (1, 2, 4, 20)
METRICS = ("label agreement", "sliced Wasserstein ratio", "KID x1000", "Fréchet")


class Judge:
    """Real data and a classifier trained on them, against which samples are measured."""

    def __init__(self, name: str, calls: tuple[int, ...], steps: int = 800) -> None:
        self.calls = calls
        real, held = data.open(f"{name}:train"), data.open(f"{name}:test")
        self.net = train_classifier(real, steps, shift=1 if name == "digits" else 0, clock=count().__next__)
        size = min(1000, len(held))
        self.held = held.batch(np.random.default_rng(0).permutation(len(held))[:size])[0]
        train, known = real.batch(np.random.default_rng(1).permutation(len(real))[:size])
        self.features, self.floor = outputs(self.net, self.held)[0], sliced_wasserstein(train, self.held)
        self.labels = torch.arange(COUNT) % len(held.classes)
        print("real images:", *self._values(train[:COUNT], torch.as_tensor(known)[:COUNT]), flush=True)

    def measure(self, run: ornstein.runs.Run) -> dict[str, float]:
        """Each metric at each number of calls."""
        found = {}
        for calls in self.calls:
            x = run.spec.to_model(run.sample(COUNT, label_index=self.labels.tolist(), steps=calls, batch_size=100))
            values = self._values(x, self.labels)
            found |= {f"{metric}, {calls} calls": value for metric, value in zip(METRICS, values, strict=True)}
        return found

    def _values(self, x: torch.Tensor, labels: torch.Tensor) -> tuple[float, ...]:
        features, predicted = outputs(self.net, x)
        return (
            float((predicted == labels).double().mean()),
            sliced_wasserstein(x, self.held) / self.floor,
            1000 * metrics.kid(features, self.features).value,
            metrics.frechet(features, self.features).value,
        )


class PlaneJudge:
    """Two half moons in the plane, from which as many fresh points as are wanted can be drawn."""

    def __init__(self) -> None:
        (self.fresh, other), self.count = (torch.from_numpy(moons(seed, 10_000)) for seed in (1, 2)), 10_000
        self.floor = sliced_wasserstein(other, self.fresh, slices=128)

    def measure(self, run: ornstein.runs.Run) -> dict[str, float]:
        """The distance at each number of calls, over that of two sets of real points."""
        made = {calls: torch.from_numpy(run.sample(self.count, steps=calls)) for calls in PLANE_CALLS}
        return {
            f"sliced Wasserstein ratio, {calls} calls": sliced_wasserstein(x, self.fresh, slices=128) / self.floor
            for calls, x in made.items()
        }


def moons(seed: int, count: int) -> np.ndarray:
    """Two half circles, each within the other's reach, with noise of standard deviation 0.1: (count, 2) float32."""
    rng = np.random.default_rng(seed)
    angle, side = np.pi * rng.random(count), rng.integers(2, size=count)
    x = np.stack([np.cos(angle) + side - 0.5, np.sin(angle) * (1 - 2 * side) + side / 2 - 0.25], 1)
    return (x + 0.1 * rng.normal(size=x.shape)).astype(np.float32)


def train(
    folder: Path, name: str, steps: int, seed: int, change: str, minutes: float | None = None
) -> tuple[ornstein.runs.Run, dict[str, float]]:
    """Train a run for so many steps, or CPU minutes; the run with its averaged weights, and what it cost."""
    source = f"{name}:train"
    if name == "plane":
        source = str(folder.parent / "plane.npy")
        np.save(source, moons(0, 10_000))
    settings = Settings(data=source, out=str(folder), steps=steps, seed=seed, samples=0, save_minutes=60)
    settings = replace(settings, preset="tiny" if name == "plane" else None, **CHANGES[change])
    run = FolderTraining(settings, data.open(settings.data))
    if change in BATCHES:
        size = int(BATCHES[change] * run.recipe.batch_size)
        run = FolderTraining(replace(settings, batch_size=size), data.open(settings.data))
    if change in NETWORKS:
        torch.manual_seed(seed)
        network = NETWORKS[change](run.model.network.config)
        run.recipe = replace(run.recipe, model=replace(run.model, network=network))
    if change.startswith("muon"):
        run.recipe = replace(run.recipe, optimizer=partial(MuonAndAdamW, rate=run.recipe.peak))
    began = time.process_time()
    if minutes is not None:
        run.recipe = replace(run.recipe, length=ThreadMinutes(minutes, began))
    for event in run:
        loss, made = event.progress.loss, event.progress.step
    cost = {"CPU seconds": round(time.process_time() - began, 1), "made": made, "last loss": loss}
    return ornstein.runs.Run(folder, replace(run.model, network=run.state.average), "not stored"), cost


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=f"of {', '.join((*CHANGES, 'ema'))}")
    parser.add_argument("--alone", action="store_true", help="without the plain runs, which are known already")
    parser.add_argument("--data", default="digits")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--minutes", type=float, help="of CPU time of one thread, in place of steps")
    parser.add_argument("--calls", type=int, nargs="+", default=CALLS, help="of the samples that are judged")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    args = parser.parse_args()
    torch.set_num_threads(1)
    judge = PlaneJudge() if args.data == "plane" else Judge(args.data, tuple(args.calls))
    file = RESULTS / f"experiments-{args.data}.json"
    every = [name for name in (*CHANGES, "ema") if args.data != "plane" or name not in IMAGES]
    names = dict.fromkeys([*([] if args.alone else ["plain"]), *(args.names or every)])
    length = {"steps": args.steps} if args.minutes is None else {"minutes": args.minutes}
    steps = args.steps if args.minutes is None else 10**6
    rows = []
    for seed in args.seeds:
        with tempfile.TemporaryDirectory() as scratch:
            for name in names:
                if name == "ema":
                    plain = ornstein.load(Path(scratch) / "plain")
                    made = [(f"ema {x:g}", plain.ema(x, Path(scratch) / f"ema-{x:g}"), {}) for x in LENGTHS]
                else:
                    made = [(name, *train(Path(scratch) / name, args.data, steps, seed, name, args.minutes))]
                for label, run, cost in made:
                    rows.append({"name": label, "seed": seed, **length, **cost, **judge.measure(run)})
                    print(json.dumps(rows[-1]), flush=True)
                    _write(file, rows[-1])
    print("\n".join(summary(rows)))


def _write(file: Path, row: dict) -> None:
    """The row in place of an earlier one of the same run."""
    before = json.loads(file.read_text()) if file.exists() else []
    file.write_text(json.dumps([*(other for other in before if _key(other) != _key(row)), row], indent=1))


def _key(row: dict) -> tuple:
    return row["name"], row["seed"], row.get("steps"), row.get("minutes")


def summary(rows: list[dict]) -> list[str]:
    """A table: the mean over seeds, and the standard deviation between them."""
    keys = [key for key in rows[0] if key.endswith("calls")]
    lines = []
    for name in dict.fromkeys(row["name"] for row in rows):
        of = [row for row in rows if row["name"] == name]
        values = [np.array([row[key] for row in of]) for key in keys]
        lines.append([name, *(f"{v.mean():.3g} ± {v.std(ddof=min(1, len(v) - 1)):.1g}" for v in values)])
    return table_lines(["", *keys], lines)


if __name__ == "__main__":
    main()
