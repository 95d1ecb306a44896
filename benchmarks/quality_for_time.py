"""Quality for time: Fashion-MNIST after ten minutes on two cores, beside diffusers' unconditional training example.

    python -m benchmarks.quality_for_time speed               # images a second of both loops in turn
    python -m benchmarks.quality_for_time ornstein FOLDER     # trains in FOLDER (it goes on where it stopped), draws, compares
    python -m benchmarks.quality_for_time diffusers FOLDER    # the same

The same U-Net of 1.62 M parameters on both sides, no labels. Each trains for the steps that ten minutes hold at the measured
speed, so that other work on the machine does not count. Ours is `ornstein train` at its defaults. Theirs is the example at its
defaults: batches of 16, DDPM's noise prediction, AdamW at 1e-4 with 500 steps of warm-up and a cosine, EMA; drawn from by DDIM in
50 steps. Judged are 500 samples by KID against 2,000 held-out images in features of EfficientNet-Lite0, which are trained
on neither side. Numbers go to results/quality_for_time.json.
"""

import json
import statistics
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

import ornstein
from benchmarks.training import RESULTS, Apart, Diffusers, Ours, Side, by_time, measure, our_small, their_small
from ornstein import cpu, data
from ornstein.metrics import efficientnet, extract, kid, of_data
from ornstein.settings import Settings
from ornstein.training.trainer import FolderTraining

FILE = RESULTS / "quality_for_time.json"
SHAPE, BATCHES = (1, 28, 28), {"ornstein": 32, "diffusers": 16}
SECONDS, COUNT, HELD, ROUNDS = 600, 500, 2000, 5


class Example(Diffusers):
    """diffusers' example on Fashion-MNIST: its batches, and its learning rate over a number of steps."""

    def __init__(self, steps: int) -> None:
        from diffusers.optimization import get_cosine_schedule_with_warmup

        super().__init__(their_small(), by_time, SHAPE, BATCHES["diffusers"])
        self.rate = get_cosine_schedule_with_warmup(self.optimizer, 500, steps)
        self.dataset = data.open("fashion-mnist:train")
        self.draws = np.random.default_rng(0)

    def step(self) -> None:
        self.x = self.dataset.batch(self.draws.integers(len(self.dataset), size=self.batch))[0]
        super().step()
        self.rate.step()

    @torch.inference_mode()
    def sample(self, rows: range, steps: int = 50) -> Tensor:
        """These samples (N, 1, 28, 28) in [−1, 1], drawn by DDIM in hundreds, each from its own seed."""
        from diffusers import DDIMScheduler

        self.network.eval()
        ddim = DDIMScheduler.from_config(self.scheduler.config)
        ddim.set_timesteps(steps)
        found = []
        for first in rows[::100]:
            x = torch.randn(100, *SHAPE, generator=torch.Generator().manual_seed(first))
            for t in ddim.timesteps:
                x = ddim.step(by_time(self.network, x, t), t, x).prev_sample
            found.append(x.clamp(-1, 1))
            print(f"sample {first + 100}", flush=True)
        return torch.cat(found)


def loop(name: str, folder: Path) -> Side:
    return Example(1000) if name == "diffusers" else Ours(our_small(), SHAPE, BATCHES[name], folder, "unet")


def speed() -> dict[str, Any]:
    """Images a second of both loops, and the steps that ten minutes hold."""
    with tempfile.TemporaryDirectory() as folder:
        sides = {name: Apart(loop, name, Path(folder)) for name in BATCHES}
        seconds = measure(sides, ROUNDS)
    took = {name: statistics.median(times) for name, times in seconds.items()}
    return {
        name: {
            "batch": BATCHES[name],
            "images/s": BATCHES[name] / t,
            "steps": int(SECONDS / t),
            "seconds": seconds[name],
        }
        for name, t in took.items()
    }


def train_ours(folder: Path, steps: int) -> NDArray[Any]:
    """Train for these steps in a folder; samples as the run draws them by default."""
    dataset = data.open("fashion-mnist:train")
    dataset = replace(dataset, labels=None, spec=replace(dataset.spec, classes=()))
    run = FolderTraining(Settings(data="fashion-mnist:train", out=str(folder), steps=steps), dataset)
    run.recipe = replace(run.recipe, model=replace(run.model, network=our_small()))
    for event in run:
        report(event.progress.step, steps, event.progress.loss)
    return ornstein.load(folder).sample(COUNT)


def train_theirs(folder: Path, steps: int) -> NDArray[Any]:
    """The example for these steps, and its samples in the data's units."""
    torch.manual_seed(0)
    example, file = Example(steps), folder / "average.safetensors"
    if file.exists():
        example.network.load_state_dict(load_file(file))
    else:
        for step in range(1, steps + 1):
            example.step()
            report(step, steps)
        example.average.copy_to(example.network.parameters())
        folder.mkdir(parents=True, exist_ok=True)
        save_file(example.network.state_dict(), file)
    return example.dataset.spec.from_model(example.sample(range(COUNT)))


def report(step: int, steps: int, *more: float) -> None:
    if step % 100 == 0:
        print(f"step {step} of {steps}", *more, flush=True)


def judge(samples: NDArray[Any]) -> dict[str, Any]:
    """KID against held-out images."""
    cpu.keep_memory()
    held, network = data.open("fashion-mnist:test"), efficientnet()
    real = of_data(network, held, np.arange(HELD))
    return kid(extract(network, samples, held.spec), real).to_json()


def main(what: str, folder: str = "") -> None:
    known: dict[str, Any] = json.loads(FILE.read_text()) if FILE.exists() else {}
    if what == "speed":
        known |= speed()
    else:
        steps = known[what]["steps"]
        samples = {"ornstein": train_ours, "diffusers": train_theirs}[what](Path(folder), steps)
        known[what] |= {"samples": len(samples), "KID": judge(samples)}
    FILE.write_text(json.dumps(known, indent=1))
    print(
        json.dumps(
            {side: {k: v for k, v in found.items() if k != "seconds"} for side, found in known.items()}, indent=1
        )
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
