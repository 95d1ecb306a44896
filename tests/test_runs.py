"""A run loaded in two lines: samples in the data's own units, seeds per sample, and files that are checked."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import ornstein
from ornstein import data, solvers
from ornstein.errors import OrnsteinError, UsageError
from ornstein.training.run import Run
from ornstein.training.settings import Settings


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "digits"
    for _ in Run(Settings(data="digits", out=str(folder), steps=30, batch_size=32, samples=0), data.open("digits")):
        pass
    return folder


def test_samples_have_the_datas_type_and_range(trained: Path) -> None:
    run = ornstein.load(trained)
    samples = run.sample(5, label=3)
    assert samples.shape == (5, 8, 8, 1)
    assert samples.dtype == np.dtype(run.spec.dtype)
    assert samples.min() >= run.spec.low
    assert samples.max() <= run.spec.high
    assert samples.std() > 0


def test_a_sample_does_not_depend_on_its_batch(trained: Path) -> None:
    run = ornstein.load(trained)
    together = run.sample(6, seed=4).astype(int)
    apart = np.concatenate([run.sample(1, seed=4, first=i) for i in range(6)]).astype(int)
    assert np.abs(together - apart).max() <= 1  # a network agrees to rounding
    assert np.abs(together - run.sample(6, seed=4, batch_size=4).astype(int)).max() <= 1
    assert np.abs(together - run.sample(6, seed=5).astype(int)).max() > 2


def test_labels_by_number_name_and_list(trained: Path) -> None:
    run = ornstein.load(trained)
    three = run.sample(2, label=3)
    np.testing.assert_array_equal(three, run.sample(2, label=run.spec.classes[3]))
    np.testing.assert_array_equal(three, run.sample(2, label=[3, 3]))
    assert (three != run.sample(2, label=4)).any()


def test_without_a_label_classes_come_as_often_as_in_the_data(trained: Path) -> None:
    model = ornstein.load(trained).model
    drawn = model.labels(0, 4000, seed=0)
    assert drawn is not None
    counts = np.bincount(drawn.numpy(), minlength=10) / 4000
    assert np.abs(counts - np.array(model.frequencies)).max() < 0.02
    np.testing.assert_array_equal(drawn[17:30], model.labels(17, 30, seed=0))


@pytest.mark.parametrize(
    ("label", "says"),
    [(12, "12 is not one of the 10 classes"), ("12", "12 is not one"), ("threee", "no class"), ([1, 2], "2,.* for 3")],
)
def test_a_label_that_does_not_exist(trained: Path, label: int, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        ornstein.load(trained).sample(3, label=label)


@pytest.mark.parametrize("solver", solvers.ALL, ids=repr)
def test_every_solver_samples_a_trained_network(trained: Path, solver: solvers.Solver) -> None:
    samples = ornstein.load(trained).sample(2, solver=solver, steps=5)
    assert samples.shape == (2, 8, 8, 1)


def test_missing_and_damaged_files_are_named(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no folder"):
        ornstein.load(tmp_path / "none")
    with pytest.raises(OrnsteinError, match=r"config\.json is missing"):
        ornstein.load(tmp_path)
    copy = tmp_path / "copy"
    shutil.copytree(trained, copy)
    weights = copy / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(OrnsteinError, match=r"model\.safetensors cannot be read"):
        ornstein.load(copy)
    config = json.loads((copy / "model" / "config.json").read_text())
    for broken in (
        {**config, "format": 99},
        {**config, "path": {"type": "os"}},
        {**config, "network": {"type": "Evil"}},
    ):
        (copy / "model" / "config.json").write_text(json.dumps(broken))
        with pytest.raises(OrnsteinError, match=r"config\.json"):
            ornstein.load(copy)
    (copy / "model" / "config.json").write_text("{")
    with pytest.raises(OrnsteinError, match="cannot be read"):
        ornstein.load(copy)
