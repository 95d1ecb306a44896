"""The classifier of a dataset, trained once and cached with the decoded data."""

from pathlib import Path

import numpy as np
import torch

from ornstein.data import Dataset
from ornstein.data.arrays import Arrays
from ornstein.data.cache import Items, cached, default_folder
from ornstein.errors import UsageError
from ornstein.metrics.classifier import ImageClassifier, can_learn, held_out, train
from ornstein.metrics.features import Network

STEPS = 500
RECIPE = 3  # a change of `train` makes cached ones unknown


def classifier(dataset: Dataset, steps: int = STEPS, cache: Path | None = None) -> ImageClassifier:
    """A classifier trained on nine tenths of the data, or the cached one.

    Raises UsageError for data that are no images with at least two classes, OrnsteinError when the disk refuses.
    """
    if not can_learn(dataset):
        raise UsageError(
            f"{dataset.spec.source}: a classifier needs images of two classes or more; give --features pixels"
        )
    net = ImageClassifier(dataset.spec.shape, len(dataset.classes))

    def build(entry: Items) -> Arrays:
        entry.append(np.concatenate([value.numpy().ravel() for value in train(dataset, steps).parameters()]))
        return Arrays(np.zeros(0), None, ())

    about = ("classifier", RECIPE, steps, dataset.spec.content_hash, dataset.spec.shape, dataset.classes)
    saved = cached(default_folder() if cache is None else cache, about, build)
    net.eval().requires_grad_(False)
    values = torch.from_numpy(np.array(saved.items[0])).split([value.numel() for value in net.parameters()])
    for own, value in zip(net.parameters(), values, strict=True):
        own.copy_(value.view(own.shape))
    return net


def cnn(net: ImageClassifier) -> Network:
    """The extractor "cnn": the hidden layer of a classifier."""
    return Network("cnn", net, net.features)


@torch.inference_mode()
def recognised(net: ImageClassifier, features: torch.Tensor) -> torch.Tensor:
    """Class numbers (N,) from features (N, 128)."""
    return net.head(features.to(net.head.weight.device)).argmax(1).cpu()


def accuracy(net: ImageClassifier, dataset: Dataset) -> torch.Tensor:
    """Whether each item that was not learned from is recognised: boolean (N,)."""
    assert dataset.labels is not None
    rows = held_out(len(dataset))
    rows = rows[dataset.labelled[rows]]
    correct = [
        net(dataset.batch(part)[0]).argmax(1) == torch.from_numpy(dataset.labels[part])
        for part in np.array_split(rows, max(1, len(rows) // 500))
    ]
    return torch.cat(correct)
