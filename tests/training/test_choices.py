"""Learned weights, couplings and augmentation in a run: what they leave in the model, and what they must not."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

import ornstein
from ornstein import data, solvers
from ornstein.coupling import Independent, OptimalTransport
from ornstein.errors import UsageError
from ornstein.folder import checkpoints
from ornstein.settings import Settings
from ornstein.training import augment
from ornstein.training.trainer import FolderTraining

SETTINGS = Settings(
    data="digits", steps=3, batch_size=8, samples=0, preset="tiny", uncertainty=True, coupling="ot", augment=0.5
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("choices") / "run"
    for _ in FolderTraining(dataclasses.replace(SETTINGS, out=str(folder)), data.open("digits")):
        pass
    return folder


def test_learned_weights_are_saved_and_not_exported(trained: Path) -> None:
    place = next(checkpoints.checkpoints(trained / "checkpoints"))
    learned = {name for name in load_file(place / "weights.safetensors") if name.startswith("uncertainty.")}
    assert "uncertainty.head.weight" in learned
    assert load_file(place / "weights.safetensors")["uncertainty.head.weight"].any()
    model = load_file(trained / "model" / "model.safetensors")
    assert model.keys() == load_file(place / "weights.safetensors").keys() - learned


def test_the_loss_told_is_the_one_of_the_network(trained: Path) -> None:
    """Not e^{-u}·loss + u, so that runs can be compared."""
    lines = ornstein.load(trained).metrics()
    assert all(0.1 < line["loss"] < 5 for line in lines)


def test_samples_are_of_pictures_as_they_are(trained: Path) -> None:
    run = ornstein.load(trained)
    assert run.model.network.config["vector"] == augment.WIDTH
    assert run.sample(2, steps=2, label=3).shape == (2, 8, 8, 1)


def test_a_model_knows_its_coupling_and_warns_where_scores_are_used(trained: Path, tmp_path: Path) -> None:
    run = ornstein.load(trained)
    assert run.model.coupling == OptimalTransport()
    run.sample(1, steps=2)  # an ODE: no warning
    for solver in (solvers.Ancestral(), solvers.PredictorCorrector()):
        with pytest.warns(UserWarning, match="coupling"):
            run.sample(1, steps=2, solver=solver)
    before = trained / "model" / "config.json"
    old = {key: value for key, value in json.loads(before.read_text()).items() if key != "coupling"}
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text(json.dumps(old))
    (tmp_path / "model" / "model.safetensors").write_bytes((trained / "model" / "model.safetensors").read_bytes())
    assert ornstein.load(tmp_path).model.coupling == Independent()


def test_vectors_are_coupled_and_not_turned(tmp_path: Path) -> None:
    np.save(tmp_path / "points.npy", np.random.default_rng(0).normal(size=(50, 2)))
    points = data.open(str(tmp_path / "points.npy"))
    some = dataclasses.replace(SETTINGS, data="points.npy", out=str(tmp_path / "run"), batch_size=16)
    with pytest.raises(UsageError, match="augment: vectors"):
        FolderTraining(some, points)
    for event in FolderTraining(dataclasses.replace(some, augment=0.0), points):
        assert np.isfinite(event.progress.loss)
