"""A small classifier of the real images: its features judge the samples, its answers tell what they show."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ornstein.data import Dataset

WIDTH = 128  # features
HELD = 10  # one item of so many is not learned from


class ImageClassifier(nn.Module):
    """Two convolutions and a hidden layer on images (B, C, H, W); `features` are the activations of that layer (B, 128)."""

    def __init__(self, shape: tuple[int, ...], classes: int) -> None:
        super().__init__()
        channels, height, width = shape
        first = 2 if min(height, width) > 16 else 1
        # a fixed number of cells, whatever the size of the images: 7 x 7 of 28 x 28, 4 x 4 of 8 x 8
        cells = (min(7, max(1, height // (2 * first))), min(7, max(1, width // (2 * first))))
        self.body = nn.Sequential(
            *(nn.Conv2d(channels, 32, 3, padding=1), nn.MaxPool2d(first), nn.ReLU()),
            *(nn.Conv2d(32, 64, 3, padding=1), nn.AdaptiveMaxPool2d(cells), nn.ReLU(), nn.Flatten()),
            *(nn.Linear(64 * cells[0] * cells[1], WIDTH), nn.ReLU()),
        )
        self.drop, self.head = nn.Dropout(0.3), nn.Linear(WIDTH, classes)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # four times as fast on CPUs

    def features(self, x: Tensor) -> Tensor:
        """The hidden layer's activations (B, 128)."""
        return self.body(x)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, classes)."""
        return self.head(self.drop(self.body(x)))


def held_out(count: int) -> np.ndarray:
    """The places of the items that `train` does not learn from: a fixed tenth."""
    return np.sort(np.random.default_rng(0).permutation(count)[: count // HELD])


def learned_from(dataset: Dataset) -> np.ndarray:
    """The places of the items that `train` learns from: the others that have a label."""
    return np.setdiff1d(np.flatnonzero(dataset.labelled), held_out(len(dataset)))


def can_learn(dataset: Dataset) -> bool:
    """Whether they are images of two classes or more."""
    if not dataset.spec.traits.pixels or dataset.labels is None:
        return False
    return len(np.unique(dataset.labels[learned_from(dataset)])) > 1


def train(dataset: Dataset, steps: int = 500, batch_size: int = 128, seed: int = 0) -> ImageClassifier:
    """AdamW with a rising and falling rate on nine tenths of a labelled dataset; images up to 16 pixels move by one pixel.

    The same result for the same data and seed on one machine.
    """
    spec = dataset.spec
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        net = ImageClassifier(spec.shape, len(dataset.classes))
        optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=1e-2)
        rng, shift = np.random.default_rng(seed), max(spec.shape[1:]) <= 16
        known = learned_from(dataset)
        for step in range(steps):
            for group in optimizer.param_groups:
                group["lr"] = 2e-3 * min((step + 1) / (0.1 * steps), 1 - step / steps)
            x, labels = dataset.batch(known[rng.integers(len(known), size=batch_size)])
            if shift:
                moved = torch.roll(F.pad(x, [1] * 4, value=-1.0), tuple(rng.integers(-1, 2, 2)), (2, 3))
                x = moved[..., 1:-1, 1:-1]
            assert labels is not None
            F.cross_entropy(net(x), labels).backward()
            optimizer.step()
            optimizer.zero_grad()
        net.eval().requires_grad_(False)
        _normalise(net, dataset.batch(known[:: max(1, len(known) // 1000)])[0])
    return net


def _normalise(net: ImageClassifier, x: Tensor) -> None:
    """Gives the features a mean square of 1, a scale that the kernel of KID is made for, and leaves the answers as they are."""
    rms = net.features(x).square().mean().sqrt()
    last = net.body[-2]
    assert isinstance(last, nn.Linear)
    last.weight.div_(rms)  # a rectifier is homogeneous
    last.bias.div_(rms)
    net.head.weight.mul_(rms)
