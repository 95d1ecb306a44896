"""The flags --features and --metrics: what samples are compared in, and a classifier that recognises them."""

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING

from ornstein.cli.printing import say
from ornstein.errors import UsageError
from ornstein.meter import Meter

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray
    from torch import Tensor

    from ornstein.data import Dataset, DataSpec
    from ornstein.metrics import Extractor, Labels, Network
    from ornstein.metrics.classifier import ImageClassifier

FEATURES = ("pixels", "cnn", "efficientnet", "inception:FILE", "PACKAGE.MODULE:NAME")


def chosen(features: str | None, data: "Dataset", classify: bool) -> "tuple[Extractor, ImageClassifier | None]":
    """The extractor that --features names, and a classifier where one is needed and can be had."""
    from ornstein.metrics import Values, cnn, efficientnet, inception
    from ornstein.metrics.classifier import can_learn

    can = data.spec.kind == "image" and can_learn(data)
    name = features or ("cnn" if can else "pixels")
    net = None
    if name == "cnn" or (classify and can):
        with Meter("training the classifier", patience=0.5):
            net = cnn.classifier(data, cnn.STEPS)
    if name == "cnn":
        assert net is not None
        return cnn.cnn(net), net
    if name == "pixels":
        return Values("pixels" if data.spec.kind == "image" else "values"), net
    if data.spec.kind != "image":
        raise UsageError(f"--features {name} is for images; vectors are compared as they are (--features pixels)")
    if name == "efficientnet":
        return efficientnet(), net
    if name.startswith("inception:"):
        made = inception(name.removeprefix("inception:"))
        if made.frechet != "FID":
            say("Note: these are not the published weights, so the Fréchet distance is not called FID.")
        return made, net
    if ":" in name:
        return _imported(name), net
    raise UsageError(f"--features {name!r} is not known; give one of {', '.join(FEATURES)}")


def _imported(name: str) -> "Network":
    """A torch module that Python finds as PACKAGE.MODULE:NAME, or what makes one when called without arguments."""
    from torch import nn

    from ornstein.metrics import Network

    place, _, attribute = name.partition(":")
    sys.path.insert(0, "")  # also the user's own file, beside which the command runs
    try:
        network = getattr(import_module(place), attribute)
        if not isinstance(network, nn.Module):
            network = network()
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise UsageError(
            f"--features {name} cannot be used ({error}); give PACKAGE.MODULE:NAME of a torch module"
        ) from error
    finally:
        sys.path.remove("")
    if not isinstance(network, nn.Module):
        raise UsageError(f"--features {name} is a {type(network).__name__}; give PACKAGE.MODULE:NAME of a torch module")
    return Network(name.replace(":", "."), network.eval().requires_grad_(False))


def recognition(
    net: "ImageClassifier",
    requested: "Tensor",
    blocks: "Sequence[NDArray[Any]]",
    spec: "DataSpec",
    extractor: "Extractor",
    features: "Tensor",
    data: "Dataset",
) -> "Labels":
    """Requested and recognised classes of samples (in blocks of items in the units of the data).

    Its own features of them are at hand where it is the extractor.
    """
    import torch

    from ornstein.metrics import Labels, cnn, extract

    hidden = features if extractor.name == "cnn" else torch.cat([extract(cnn.cnn(net), i, spec) for i in blocks])
    assert data.labels is not None
    known = torch.bincount(torch.from_numpy(data.labels[data.labelled]), minlength=len(data.classes)) > 0
    return Labels(requested, cnn.recognised(net, hidden), cnn.accuracy(net, data), data.classes, known)


def words(names: str | None) -> tuple[str, ...] | None:
    """The names in a flag, separated by commas or spaces."""
    return None if names is None else tuple(names.replace(",", " ").split())
