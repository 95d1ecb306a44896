"""Small runs in memory, with weights that do something: a model of each network, with conditions and without."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from ornstein import networks, path, target
from ornstein.conditions import Condition, Conditions, ImageCondition, Label, LabelSet, Vector
from ornstein.data.spec import DataSpec
from ornstein.degradations import Grey
from ornstein.model import Model
from ornstein.runs import Run

CLASSES = ("a", "b", "c")


def spec(shape: tuple[int, ...], dtype: str = "float32", **more: Any) -> DataSpec:
    """Items of a shape: images in a range, vectors by mean and deviation."""
    kind = "vector" if len(shape) == 1 else "image"
    scale = {"low": -3.0, "high": 3.0, "mean": (0.3, -1.0), "std": (2.0, 0.5)} if len(shape) == 1 else {}
    scale = {"low": 0.0, "high": 255.0 if dtype == "uint8" else 1.0, "mean": (), "std": ()} | scale
    values = {"classes": (), "source": "toy", "count": 8, "content_hash": "0", "data_std": 0.5}
    return DataSpec(kind=kind, shape=shape, dtype=dtype, **{**scale, **values, **more})


def lively(network: nn.Module) -> nn.Module:
    """The network with weights of which none is zero, in evaluation mode."""
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return network.eval().requires_grad_(False)


def run_of(
    network: nn.Module,
    data: DataSpec,
    *parts: Condition,
    folder: Path = Path("toy"),
    on: path.Path | None = None,
    predicts: target.Target | None = None,
) -> Run:
    model = Model(lively(network), on or path.Linear(), predicts or target.Velocity(), data, Conditions(tuple(parts)))
    return Run(folder, model, "0" * 64)


def label() -> Label:
    return Label(CLASSES, (0.2, 0.3, 0.5))


def small(name: str) -> Run:
    """A run by what it is."""
    images, colours = spec((1, 8, 8), classes=CLASSES), spec((3, 8, 8))
    unet = {"width": 16, "multipliers": (1, 2), "blocks": 1, "attention_levels": (1,)}
    dit = {"patch": 2, "width": 32, "depth": 2, "heads": 2}
    made: dict[str, Any] = {
        "unet": lambda: run_of(networks.UNet(1, **unet), spec((1, 8, 8))),
        "unet, class": lambda: run_of(networks.UNet(1, classes=3, **unet), images, label()),
        "unet, odd sides": lambda: run_of(networks.UNet(1, **unet), spec((1, 7, 9))),
        "unet, image": lambda: run_of(networks.UNet(3, image=2, **unet), colours, ImageCondition(Grey(), (3, 8, 8))),
        "unet, bytes": lambda: run_of(networks.UNet(3, **unet), spec((3, 8, 8), "uint8")),
        "unet, aim": lambda: run_of(networks.UNet(1, classes=3, aim=True, **unet), images, label()),
        "dit": lambda: run_of(networks.DiT(3, 8, **dit), colours),
        "dit, class": lambda: run_of(
            networks.DiT(1, 8, classes=3, **dit), images, label(), on=path.Cosine(), predicts=target.V()
        ),
        "dit, variance": lambda: run_of(networks.DiT(1, 8, classes=3, out_channels=2, **dit), images, label()),
        "mlp": lambda: run_of(networks.MLP(2, 32, 2), spec((2,))),
        "mlp, vector": lambda: run_of(
            networks.MLP(2, 32, 2, vector=4), spec((2,)), Vector((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
        ),
        "mlp, labels": lambda: run_of(networks.MLP(2, 32, 2, classes=3), spec((2,)), LabelSet(CLASSES)),
        "mlp, aim": lambda: run_of(networks.MLP(2, 32, 2, aim=True), spec((2,))),
        "mlp, ve": lambda: run_of(networks.MLP(2, 32, 2), spec((2,)), on=path.EDM(), predicts=target.EDM(0.5)),
    }
    run: Run = made[name]()
    return run


ALL = (
    "unet",
    "unet, class",
    "unet, odd sides",
    "unet, image",
    "unet, bytes",
    "unet, aim",
    "dit",
    "dit, class",
    "dit, variance",
    "mlp",
    "mlp, vector",
    "mlp, labels",
    "mlp, aim",
    "mlp, ve",
)
