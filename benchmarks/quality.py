"""How good the samples of a run are, judged by a small classifier trained on the real data.

    python -m benchmarks.quality RUN                      # digits or fashion-mnist, by what the run was trained on
    python -m benchmarks.quality RUN --count 1000 --steps 20

Prints the classifier's accuracy on held-out data, the part of samples asked for by label that it recognises, the sliced
Wasserstein distance of the samples to held-out data over that of the training data, and the kernel distance (KID, Binkowski
et al. 2018) with the classifier's own features. Writes the numbers beside the run as quality.json.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

import ornstein
from ornstein import data, metrics
from ornstein.metrics.classifier import ImageClassifier


def train_classifier(
    dataset: data.Dataset, seconds: float, shift: int, seed: int = 0, clock: Callable[[], float] = time.monotonic
) -> ImageClassifier:
    """AdamW with a one-cycle rate for a number of seconds (or other ticks of a clock), images shifted by up to `shift` pixels."""
    torch.manual_seed(seed)
    net = ImageClassifier(dataset.spec.shape, len(dataset.classes))
    optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=1e-2)
    rng, start = np.random.default_rng(seed), clock()
    while (done := (clock() - start) / seconds) < 1:
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * min(done / 0.1, 1 - done)
        x, labels = dataset.batch(rng.integers(len(dataset), size=128))
        if shift:
            x = torch.roll(F.pad(x, [shift] * 4, value=-1.0), tuple(rng.integers(-shift, shift + 1, 2)), (2, 3))
            x = x[..., shift:-shift, shift:-shift]
        F.cross_entropy(net(x), labels).backward()
        optimizer.step()
        optimizer.zero_grad()
    return net.eval()


@torch.inference_mode()
def outputs(net: ImageClassifier, x: Tensor) -> tuple[Tensor, Tensor]:
    """Features and predicted labels, in batches."""
    features = torch.cat([net.features(part) for part in x.split(512)])
    return features, net.head(features).argmax(1)


def sliced_wasserstein(x: Tensor, y: Tensor, slices: int = 1024) -> float:
    """Of the numbers themselves."""
    return metrics.sliced_wasserstein(x.flatten(1).double(), y.flatten(1).double(), slices).value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=None, help="training time of the classifier")
    args = parser.parse_args()
    run = ornstein.load(args.run)
    name = run.spec.source.split(":")[0]
    real, held = data.open(f"{name}:train"), data.open(f"{name}:test")
    net = train_classifier(real, args.seconds or (15 if name == "digits" else 90), shift=1 if name == "digits" else 0)
    labels = torch.arange(args.count) % len(held.classes)
    start = time.monotonic()
    samples = run.spec.to_model(run.sample(args.count, label_index=labels.tolist(), steps=args.steps))
    seconds = time.monotonic() - start
    some = np.random.default_rng(0).permutation(len(held))[: max(args.count, 1000)]
    other = np.random.default_rng(1).permutation(len(real))[: max(args.count, 1000)]
    (x_held, y_held), (x_real, _) = held.batch(some), real.batch(other)
    (f_held, p_held), (f_real, _), (f_samples, p_samples) = (outputs(net, x) for x in (x_held, x_real, samples))
    floor = sliced_wasserstein(x_real, x_held)
    result = {
        "run": run.folder.name,
        "samples": args.count,
        "steps": args.steps,
        "classifier accuracy on held-out data": float((p_held == y_held).double().mean()),
        "label agreement": float((p_samples == labels).double().mean()),
        "sliced Wasserstein ratio": sliced_wasserstein(samples, x_held) / floor,
        "KID": metrics.kid(f_samples, f_held).value,
        "KID of the training data": metrics.kid(f_real, f_held).value,
        "seconds to sample": round(seconds, 1),
    }
    (Path(args.run) / "quality.json").write_text(json.dumps(result, indent=1))
    for key, value in result.items():
        print(f"{key:40s} {value:.4g}" if isinstance(value, float) else f"{key:40s} {value}")


if __name__ == "__main__":
    main()
