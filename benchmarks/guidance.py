"""What guidance brings and what it takes: label agreement and diversity of a run's samples against the scale.

    python -m benchmarks.guidance RUN                                 # classifier-free; results/guidance.{json,md,png}
    python -m benchmarks.guidance RUN --scales 1 2 --count 1000
    python -m benchmarks.guidance RUN --method apg --interval 0.2 5   # writes guidance-apg-0.2-5.*

The same starting noises and labels, as many of each class, at every scale. A classifier of the training data (`metrics.cnn`) says
what samples show; diversity is measured in the features of that classifier, three ways, against data held out from the run:

    recall       the part of real images within reach of the samples (Kynkäänniemi et al. 2019)
    coverage     the part of real images with a sample within their reach (Naeem et al. 2020)
    distance     mean distance between two samples of one class, over that of two real images of the class

with 95 % intervals; that of the distance by bootstrap of the samples, the real images held fixed. A row of as many training
images shows what real data score. Besides the plot there is an image: a row of samples for each scale.
"""

import argparse
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import ornstein
from benchmarks.solvers import RESULTS, pyplot, table_lines
from ornstein import data, guidance
from ornstein.data import save_images
from ornstein.metrics import Score, agreement, cnn, density_coverage, extract, precision_recall
from ornstein.metrics.score import proportion

SCALES = (0.0, 1.0, 1.5, 2.0, 3.0, 4.0)
METHODS = {"cfg": guidance.ClassifierFree, "cfg-zero": guidance.CFGZeroStar, "apg": guidance.APG}
COLUMNS = 20  # of the image
REPEATS = 1000  # of the bootstrap


def pairs(distances: Tensor, weights: Tensor) -> Tensor:
    """Mean distance of two different items, each as often as its weight says: (n, n) and (R, n) -> (R,)."""
    w = weights.double()
    return ((w @ distances) * w).sum(1) / (w.sum(1).square() - w.square().sum(1))


def class_distance(features: Tensor, labels: Tensor, real: Tensor, real_labels: Tensor, seed: int = 0) -> Score:
    """The mean over classes of (mean distance of two samples of a class)/(that of two real items of it)."""
    generator, ratios = torch.Generator().manual_seed(seed), []
    for label in labels.unique():
        mine, theirs = features[labels == label].double(), real[real_labels == label].double()
        n = len(mine)
        drawn = torch.randint(n, (REPEATS, n), generator=generator)
        weights = torch.stack([torch.ones(n), *(torch.bincount(rows, minlength=n) for rows in drawn)])
        floor = pairs(torch.cdist(theirs, theirs), torch.ones(1, len(theirs)))
        ratios.append(pairs(torch.cdist(mine, mine), weights) / floor)
    value, *repeats = torch.stack(ratios).mean(0).tolist()
    low, high = np.quantile(repeats, [0.025, 0.975])
    return Score("distance", value, float(low), float(high))


class Judge:
    """A classifier of the training data, and the held-out data in its features."""

    def __init__(self, run: ornstein.runs.Run) -> None:
        source = run.spec.source.split(":")[0]
        self.real, self.held = data.open(f"{source}:train"), data.open(f"{source}:test")
        self.net = cnn.classifier(self.real)
        x, self.labels = self._some(self.held, 1000, 0)
        self.features = self._features(x)
        self.accuracy = proportion("accuracy", cnn.recognised(self.net, self.features) == self.labels)

    def scores(self, items: np.ndarray, labels: Tensor) -> dict[str, dict[str, Any]]:
        """Of samples (or real items) in the data's own units."""
        f = self._features(items)
        found, _ = agreement(labels, cnn.recognised(self.net, f), self.real.classes)
        recall, coverage = precision_recall(f, self.features)[1], density_coverage(f, self.features)[1]
        distance = class_distance(f, labels, self.features, self.labels)
        return {score.name: score.to_json() for score in (found, recall, coverage, distance)}

    def training(self, count: int) -> dict[str, dict[str, Any]]:
        """As many training images as there are samples."""
        return self.scores(*self._some(self.real, count, 1))

    def _features(self, items: np.ndarray) -> Tensor:
        return extract(cnn.cnn(self.net), items, self.real.spec)

    @staticmethod
    def _some(dataset: data.Dataset, count: int, seed: int) -> tuple[np.ndarray, Tensor]:
        rows = np.sort(np.random.default_rng(seed).permutation(len(dataset))[:count])
        assert dataset.labels is not None
        return np.asarray(dataset.items[rows]), torch.from_numpy(np.asarray(dataset.labels)[rows]).long()


def measure(
    run: ornstein.runs.Run, guides: list[guidance.GuidanceConfig], count: int, steps: int
) -> tuple[dict, np.ndarray]:
    """All numbers, and a row of samples for each guide."""
    judge, labels = Judge(run), torch.arange(count) % len(run.spec.classes)
    rows, shown = {}, []
    for guide in guides:
        samples = run.sample(count, label_index=labels.tolist(), guide=guide, steps=steps)
        rows[f"{guide.scale:g}"] = judge.scores(samples, labels)
        shown.append(samples[:COLUMNS])
        print(guide, {name: round(score["value"], 4) for name, score in rows[f"{guide.scale:g}"].items()}, flush=True)
    about = {
        "run": run.folder.name,
        "data": run.spec.source,
        "samples": count,
        "steps": steps,
        "guidance": [str(guide) for guide in guides],
        "accuracy of the classifier on held-out data": judge.accuracy.to_json(),
        "held-out images": len(judge.labels),
    }
    return {**about, "scales": rows, "training images": judge.training(count)}, np.concatenate(shown)


def report(measured: dict) -> str:
    """The table, in Markdown."""
    named = [*measured["scales"].items(), ("training images", measured["training images"])]
    header = ["scale", *next(iter(measured["scales"].values()))]
    cells = [
        [name, *(f"{s['value']:.3f} ({s['low']:.3f} to {s['high']:.3f})" for s in row.values())] for name, row in named
    ]
    judge = measured["accuracy of the classifier on held-out data"]
    return "\n".join(
        [
            *table_lines(header, cells),
            f"{measured['samples']} samples of {measured['steps']} steps at each scale; the classifier is right on "
            f"{judge['value']:.3f} of {measured['held-out images']} held-out images.",
            "",
        ]
    )


def plot(measured: dict, file: Path) -> None:
    """Agreement and diversity against the scale, with intervals and what training images score."""
    plt = pyplot()
    if plt is None:
        return
    scales = [float(scale) for scale in measured["scales"]]
    names = list(measured["training images"])
    figure, axes = plt.subplots(1, len(names), figsize=(3.4 * len(names), 3), sharex=True)
    for axis, name in zip(axes, names, strict=True):
        scores = [row[name] for row in measured["scales"].values()]
        values = np.array([score["value"] for score in scores])
        ends = np.array([[score["low"], score["high"]] for score in scores]).T
        axis.errorbar(scales, values, np.abs(ends - values), fmt="o-", capsize=3)
        axis.axhline(measured["training images"][name]["value"], ls="--", color="grey", lw=1)
        axis.set(title=name, xlabel="guidance scale")
        axis.grid(alpha=0.3)
    figure.suptitle(f"{measured['samples']} samples of {measured['run']}; dashed: as many training images", fontsize=9)
    figure.tight_layout()
    figure.savefig(file, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--scales", type=float, nargs="+", default=SCALES)
    parser.add_argument("--method", choices=METHODS, default="cfg")
    parser.add_argument("--interval", type=float, nargs=2, default=(0.0, math.inf), metavar=("LOW", "HIGH"))
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--steps", type=int, default=20)
    args = parser.parse_args()
    torch.set_num_threads(1)
    run, levels = ornstein.load(args.run), tuple(args.interval)
    guides = [guidance.GuidanceConfig(scale, METHODS[args.method], levels) for scale in args.scales]
    measured, shown = measure(run, guides, args.count, args.steps)
    kind = "" if args.method == "cfg" else f"-{args.method}"
    within = "" if levels == (0.0, math.inf) else f"-{levels[0]:g}-{levels[1]:g}"
    place = RESULTS / f"guidance{kind}{within}"
    RESULTS.mkdir(exist_ok=True)
    place.with_name(f"{place.name}.json").write_text(json.dumps(measured, indent=1))
    place.with_name(f"{place.name}.md").write_text(report(measured))
    plot(measured, place.with_name(f"{place.name}.png"))
    save_images(shown, place.with_name(f"{place.name}-samples.png"), spec=run.spec, columns=COLUMNS)
    print(report(measured))


if __name__ == "__main__":
    main()
