"""Typical uses of the library as a user with mypy writes them: types are checked by `test_typed_usage.py`, nothing is run."""

from collections.abc import Mapping, Sequence
from typing import Any, assert_type

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import ornstein
from ornstein import (
    Denoiser,
    Estimate,
    NetworkDenoiser,
    Table,
    conditions,
    coupling,
    data,
    editing,
    exact,
    grid,
    guidance,
    likelihood,
    metrics,
    networks,
    objective,
    path,
    solvers,
    target,
    tuning,
)
from ornstein.runs import Run


class MyNet(nn.Module):
    """A network of one's own."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(3, 2)

    def forward(self, x: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
        y: Tensor = self.body(torch.cat([x, t[:, None]], 1))
        return y


def sampling() -> None:
    """Denoisers, solvers, grids."""
    denoiser: Denoiser = exact.GaussianMixture([0.5, 0.5], [[-1.0, 0.0], [1.0, 0.0]], 0.1, path.Linear())
    x = ornstein.sample(denoiser, (64, 2), seed=1, solver="heun", steps=10)
    assert_type(x, Tensor)
    assert_type(ornstein.sample(denoiser, start=x, grid=grid.uniform(path.Linear(), 8)), Tensor)
    assert_type(ornstein.encode(denoiser, x, solver=solvers.Heun(), dtype=torch.float64), Tensor)
    for step in ornstein.trajectory(denoiser, shape=(4, 2), device="cpu"):
        assert_type(step.x, Tensor)
        assert_type(step.estimate, Estimate)
    mine = NetworkDenoiser(MyNet(), path.Cosine(), target.V())
    assert_type(mine(x, torch.tensor(0.5)), Estimate)
    assert_type(solvers.DPMSolverPP().table(path.Cosine(), grid.uniform(path.Cosine(), 8)), Table)
    assert_type(likelihood.log_prob(denoiser, x), Tensor)
    assert_type(editing.sdedit(denoiser, x, strength=0.5, progress=lambda done, total: None), Tensor)
    tuned = tuning.fit(denoiser, (2,), steps=4, seconds=1.0)
    ornstein.sample(denoiser, (4, 2), solver=tuned)


def training() -> None:
    """From arrays, tensors, data sets and loaders, with names and with objects."""
    points: NDArray[np.float64] = np.zeros((100, 2))
    run = ornstein.train(points, path=path.Linear(), target=target.Velocity(), steps=200, seed=1)
    assert_type(run, Run)
    ornstein.train("digits", out="runs/digits", path="cosine", target="v", minutes=1.0, progress=True)
    labelled = TensorDataset(torch.zeros(10, 2), torch.zeros(10))
    ornstein.train(labelled, network=MyNet(), coupling=coupling.OptimalTransport(), freeze="body.*", start=run)
    ornstein.train(
        DataLoader(labelled, batch_size=5), network="mlp", conditions=[], solver=solvers.Heun(), log=Prints()
    )
    held: data.Dataset = data.dataset_of(points)
    trainer = ornstein.Trainer(
        MyNet(),
        objective.Objective(path.Linear(), target.Velocity()),
        held,
        None,
        optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.1),
        schedule=lambda done: 1 - done,
        change=True,
    )
    for event in trainer:
        assert_type(event.progress.loss, float)
        if event.progress.step == 5:
            trainer.stop()
    assert_type(trainer.run(), Run)
    assert_type(trainer.denoiser, NetworkDenoiser)


class Prints:
    """A logger of one's own."""

    def start(self, settings: Mapping[str, Any]) -> None:
        print(settings)

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        print(step, numbers)

    def finish(self) -> None:
        print("done")


LOGGER: ornstein.Logger = Prints()


def using_a_run() -> None:
    """A loaded run."""
    run = ornstein.load("runs/digits", "cpu", network=MyNet())
    images = run.sample(64, label=3, guide=guidance.GuidanceConfig(2.0), solver="dpmpp", steps=20, seed=1)
    assert_type(images, NDArray[Any])
    names: Sequence[str] = run.spec.classes
    vector: conditions.Condition
    for vector in run.model.conditions.parts:
        print(vector.description, names, metrics.__name__)
    nets: list[nn.Module] = [networks.UNet.preset("tiny", channels=1), networks.MLP.preset("small", dim=2)]
    print(nets)
