"""Features of time for the three networks: which keep the loss, and let solvers and likelihoods use fewer calls.

    python -m benchmarks.time_features --sets digits-unet moons-mlp --features ddpm slow-16 --seeds 0 1 2
    python -m benchmarks.time_features --summary

A result is one run: a set (data and network), features, a seed and a number of steps. Each is appended to
benchmarks/results/time_features.jsonl when it is there, and is not made again, so the command can be stopped and goes on where it
was. All runs of a seed see the same data in the same order and the same noise; judged are the averaged weights.

- loss: on held-out data, at fixed times and noise.
- distance: sliced Wasserstein distance of samples in 10 calls to held-out data, over that of the training data; agreement: the
  part of the samples whose label a classifier recognises (images).
- RMSE to 150 calls of the default solver from the same starts: the default, and DPM-Solver++(2M) on the best of three grids.
- jitter: how far the clean estimate at a fixed x moves for a step of .001 in the clock, over a tenth of that for .01 (1: smooth).
- likelihood: mean |error| in nats a dimension with 16 and 48 steps against 144, with one probe.
"""

import argparse
import json
import math
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import ornstein
from benchmarks.experiments import moons
from benchmarks.quality import outputs, sliced_wasserstein, train_classifier
from benchmarks.solvers import RESULTS, table_lines
from ornstein import data, grid, likelihood, networks, solvers
from ornstein.model import Model
from ornstein.networks import FourierFeatures
from ornstein.noise import PerSampleNoise
from ornstein.sampling import begin
from ornstein.settings import Settings
from ornstein.training.trainer import FolderTraining

FILE = RESULTS / "time_features.jsonl"
CALLS = (5, 10, 20, 50)
SETS: dict[str, dict] = {
    "digits-unet": {"data": "digits", "network": "unet", "preset": "tiny", "steps": 500},
    "digits-dit": {"data": "digits", "network": "dit", "preset": "tiny", "steps": 500},
    "moons-mlp": {"data": "moons", "network": "mlp", "preset": "tiny", "steps": 1000},
    "mixture-mlp": {"data": "mixture", "network": "mlp", "preset": "tiny", "steps": 1000},
    "fashion-unet": {"data": "fashion-mnist", "network": "unet", "preset": "small", "steps": 200},
    "emoji-unet": {"data": "emoji", "network": "unet", "preset": "small", "size": 32, "steps": 300},
}


def two_scale(count: int) -> FourierFeatures:
    """Half of the features below 8 rad, half from 8 to 128 with amplitudes that keep each derivative at that of 8."""
    frequencies = torch.cat(
        [torch.logspace(0, 3, count - count // 2, base=2), torch.logspace(3, 7, count // 2, base=2)]
    )
    return FourierFeatures(frequencies[:, None] / (2 * math.pi), (8 / frequencies).clamp(max=1.0))


FEATURES: dict[str, dict] = {  # arguments of the networks
    "ddpm": {"frequencies": networks.DDPM},
    "gauss-0.5": {"fourier": 0.5},
    "gauss-1": {"fourier": 1.0},
    "gauss-2": {"fourier": 2.0},
    "slow-8": {"frequencies": (1.0, 8.0)},
    "slow-16": {"frequencies": (1.0, 16.0)},
    "slow-32": {"frequencies": (1.0, 32.0)},
    "two-scale": {},
}


def mixture(seed: int, count: int) -> np.ndarray:
    """Twelve normals of standard deviation .2 around points of N(0, I) in 8 dimensions: (count, 8) float32."""
    means = np.random.default_rng(123).normal(size=(12, 8))
    rng = np.random.default_rng(seed)
    return (means[rng.integers(12, size=count)] + 0.2 * rng.normal(size=(count, 8))).astype(np.float32)


POINTS = {"moons": moons, "mixture": mixture}


class Judge:
    """Held-out data of a set, and for images a classifier trained on the real ones."""

    def __init__(self, name: str, size: int | None = None) -> None:
        self.name, self.classifier, self.labels = name, None, None
        if name in POINTS:
            self.source = str(Path(tempfile.mkdtemp()) / f"{name}.npy")
            np.save(self.source, POINTS[name](0, 10_000))
            self.train = data.open(self.source)
            held, real = POINTS[name](1, 2_000), POINTS[name](2, 2_000)
            self.held, self.real = (self.train.spec.to_model(x) for x in (held, real))
            return
        self.source = name if name == "emoji" else f"{name}:train"
        self.train = data.open(self.source, **({} if size is None else {"size": size}))
        rng = np.random.default_rng(0)
        if name == "emoji":  # no held-out part: a tenth is judged by, and seen in training by all alike
            rows = rng.permutation(len(self.train))
            self.held, self.real = self.train.batch(rows[:360])[0], self.train.batch(rows[360:720])[0]
            return
        held_out = data.open(f"{name}:test")
        self.held, labels = held_out.batch(rng.permutation(len(held_out))[:500])
        self.real = self.train.batch(rng.permutation(len(self.train))[:500])[0]
        self.labels = labels
        if name != "digits":
            return
        self.classifier = train_classifier(
            self.train, 600, 1 if name == "digits" else 0, clock=iter(range(10**9)).__next__
        )


def train(name: str, features: str, seed: int, steps: int, judge: Judge) -> tuple[Model, float]:
    """The run with its averaged weights, and its CPU seconds."""
    with tempfile.TemporaryDirectory() as folder:
        choice = {key: value for key, value in SETS[name].items() if key not in ("data", "steps")}
        settings = Settings(
            data=judge.source,
            out=f"{folder}/run",
            steps=steps,
            seed=seed,
            samples=0,
            save_minutes=600,
            threads=1,
            **choice,
        )
        run = FolderTraining(settings, judge.train, tell=lambda _: None)
        torch.manual_seed(seed)
        network = type(run.model.network)(**run.model.network.config | FEATURES[features])
        if features == "two-scale":
            network.conditioning.fourier = two_scale(network.conditioning.features // 2)
        run.recipe = replace(run.recipe, model=replace(run.model, network=network))
        began = time.process_time()
        for _ in run:
            pass
        seconds = time.process_time() - began
        return replace(run.model, network=run.state.average.float().eval()), seconds


@torch.inference_mode()
def measure(model: ornstein.model.Model, judge: Judge) -> dict[str, float]:
    denoiser, result = model.denoiser(), {}
    result["loss"] = held_out_loss(model, judge)
    result |= errors(model, judge)
    if judge.name in (*POINTS, "digits"):
        result |= distribution(model, judge)
    x, labels = judge.held[:32], None if judge.labels is None else judge.labels[:32]
    bound = denoiser.given(labels)
    noise = PerSampleNoise(5)(x, 0.5, 0.5)
    moved = {0.001: 0.0, 0.01: 0.0}
    for t in (0.1, 0.3, 0.5, 0.7):
        alpha, sigma = model.path.levels(t, x)
        x_t = alpha * x + sigma * noise
        base = bound(x_t, t).clean
        for step in moved:
            moved[step] += float((bound(x_t, t + step).clean - base).square().mean().sqrt())
    result["jitter"] = 10 * moved[0.001] / moved[0.01]
    result |= likelihoods(model, judge)
    return result


def held_out_loss(model: ornstein.model.Model, judge: Judge, repeats: int = 2) -> float:
    objective = ornstein.objective.Objective(model.path, model.target)
    total, x = 0.0, judge.held
    for i in range(repeats):
        draw = objective.draw(x, torch.Generator().manual_seed(1000 + i))
        parts = zip(draw.x_t.split(128), draw.t.split(128), draw.q.split(128), strict=True)
        for j, (x_t, t, q) in enumerate(parts):
            labels = None if judge.labels is None else judge.labels[128 * j :][:128]
            total += float((model.denoiser().given(labels).predict(x_t, t) - q).square().flatten(1).mean(1).sum())
    return total / len(x) / repeats


def errors(model: ornstein.model.Model, judge: Judge, rows: int = 16) -> dict[str, float]:
    """RMSE at each number of calls."""
    path, shape = model.path, model.spec.shape
    rows = 256 if judge.name in POINTS else rows if judge.name == "digits" else rows // 2
    start = begin(path, torch.zeros(rows, *shape), 1.0, PerSampleNoise(77))
    labels = None if judge.labels is None else torch.arange(rows) % 10
    bound = model.denoiser().given(labels)

    def solve(solver: solvers.Solver, times: Tensor) -> Tensor:
        return ornstein.sample(bound, start=start, solver=solver, grid=times)

    default, dpm = ornstein.sampling.DEFAULT, solvers.DPMSolverPP()
    fine = solve(default, default.grid(path, 150))
    result = {}
    for calls in CALLS if judge.name in (*POINTS, "digits") else (10, 20):
        error = float((solve(default, default.grid(path, calls)) - fine).square().mean().sqrt())
        grids = (dpm.grid(path, calls), grid.log_snr(path, calls, -7.0, 7.0), grid.uniform(path, calls))
        best = min(float((solve(dpm, times) - fine).square().mean().sqrt()) for times in grids)
        result |= {f"default, {calls}": error, f"2M, {calls}": best}
    return result


def distribution(model: ornstein.model.Model, judge: Judge, count: int = 200) -> dict[str, float]:
    count = 2000 if judge.name in POINTS else count
    labels = None if judge.labels is None else torch.arange(count) % 10
    condition = None if labels is None else lambda first, last: labels[first:last]
    x = torch.cat(
        [model.spec.to_model(part) for part in model.sample(count, condition=condition, steps=10, batch_size=100)]
    )
    result = {"distance": sliced_wasserstein(x, judge.held, 256) / sliced_wasserstein(judge.real, judge.held, 256)}
    if judge.classifier is not None:
        result["agreement"] = float((outputs(judge.classifier, x)[1] == labels).double().mean())
    return result


def likelihoods(model: ornstein.model.Model, judge: Judge) -> dict[str, float]:
    rows = 64 if judge.name in POINTS else 2 if judge.name == "digits" else 0
    if not rows:
        return {}
    x, labels = judge.held[:rows], None if judge.labels is None else judge.labels[:rows]
    flow = likelihood.flow.ProbabilityFlow(model.denoiser().given(labels), 0.0)

    def by(steps: int) -> Tensor:
        with torch.inference_mode(False):
            y, divergence = likelihood.FixedSteps(steps).run(
                flow, flow.start(x.clone()), likelihood.Hutchinson(1), PerSampleNoise(3), same=True
            )
            return flow.log_prob(likelihood.prior.default(flow.denoiser), y, divergence).mean(0)

    fine, size = by(144), x[0].numel()
    return {f"likelihood, {steps}": float((by(steps) - fine).abs().mean()) / size for steps in (16, 48)}


def summary(rows: list[dict]) -> str:
    lines = []
    for name in dict.fromkeys(row["set"] for row in rows):
        of_set = [row for row in rows if row["set"] == name]
        keys = [key for key in of_set[0] if key not in ("set", "features", "seed", "steps", "seconds")]
        table = []
        for features in dict.fromkeys(row["features"] for row in of_set):
            some = [row for row in of_set if row["features"] == features]
            means = (np.array([row.get(key, math.nan) for row in some]) for key in keys)
            table.append([f"{features} ({len(some)})", *(f"{v.mean():.3g}" for v in means)])
        lines += [*table_lines([f"{name} (seeds)", *keys], table), ""]
    return "\n".join(lines)


def results() -> list[dict]:
    """All that were measured."""
    return [json.loads(line) for line in FILE.read_text().splitlines()] if FILE.exists() else []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--features", nargs="+", choices=FEATURES, default=list(FEATURES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--summary", action="store_true", help="print what is there")
    parser.add_argument("--keep", type=Path, help="a folder for the averaged weights")
    args = parser.parse_args()
    if args.summary:
        print(summary(results()))
        return
    torch.set_num_threads(1)
    judges: dict[str, Judge] = {}
    for seed in args.seeds:
        for name in args.sets:
            for features in args.features:
                steps = SETS[name]["steps"]
                key = {"set": name, "features": features, "seed": seed, "steps": steps}
                if any(all(row[k] == v for k, v in key.items()) for row in results()):
                    continue
                judge = judges.setdefault(name, Judge(SETS[name]["data"], SETS[name].get("size")))
                model, seconds = train(name, features, seed, steps, judge)
                if args.keep:
                    torch.save(model.network, args.keep / f"{name}-{features}-{seed}.pt")
                row = {**key, "seconds": round(seconds, 1), **measure(model, judge)}
                with FILE.open("a") as lines:  # of several processes, perhaps
                    lines.write(json.dumps(row) + "\n")
                print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
