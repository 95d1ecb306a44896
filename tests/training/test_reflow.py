"""Pairs of noise and sample of a run: made once, learned as pairs, gone on with, and refused where they would be bent."""

from pathlib import Path

import numpy as np
import pytest
import torch

import ornstein
from ornstein import data, solvers
from ornstein.cli import main
from ornstein.coupling import Paired
from ornstein.data import pairs as storing
from ornstein.data.pairs import Pairs
from ornstein.errors import OrnsteinError, UsageError
from ornstein.names import COUPLINGS
from ornstein.noise import PerSampleNoise
from ornstein.runs.pairs import make_pairs
from ornstein.settings import Settings
from ornstein.training.batch import Batches
from ornstein.training.trainer import FolderTraining

POINTS = np.random.default_rng(0).normal(size=(300, 2)).astype(np.float32) * np.float32([1.0, 5.0])
COUNT = 20


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of points with two classes, and its reflow."""
    folder = tmp_path_factory.mktemp("reflow")
    np.savez(folder / "points.npz", x=POINTS, y=np.arange(300) % 2)
    words = ["train", "--data", str(folder / "points.npz"), "--out", str(folder / "base"), "--steps", "8"]
    assert main([*words, "--batch-size", "16", "--device", "cpu", "--preset", "tiny"]) == 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(storing, "NUMBERS", 32)  # parts of 8 pairs
        assert main(reflow(folder, "--steps", "2")) == 0
    return folder


def reflow(folder: Path, *more: str) -> list[str]:
    words = ["reflow", str(folder / "base"), "--out", str(folder / "two"), "--pairs", str(COUNT), "--solver-steps", "4"]
    return [*words, "--batch-size", "8", "--device", "cpu", *more]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storing, "NUMBERS", 32)


def stored(folder: Path) -> Pairs:
    found = data.open(str(folder / "two" / "pairs"))
    assert isinstance(found, Pairs)
    return found


def test_each_sample_is_the_end_of_its_noise(made: Path) -> None:
    found, run = stored(made), ornstein.load(made / "base")
    assert len(found.pairs.parts) == 3
    everything = np.arange(COUNT)
    x, labels = found.batch(everything)
    noise = found.noise(everything)
    assert torch.equal(noise, PerSampleNoise(0)(torch.zeros(COUNT, 2), 1.0, 1.0))
    classes = run.model.labels(0, COUNT, 0)
    assert labels is not None
    assert classes is not None
    assert torch.equal(labels, classes)
    with torch.no_grad():
        ends = ornstein.sample(run.denoiser.given(classes), start=noise, solver=solvers.ABM(), steps=4)
    assert torch.allclose(x, ends, atol=1e-5)
    assert np.allclose(found.items[:], run.sample(COUNT, steps=4), rtol=1e-4, atol=1e-4)  # in the data's own units
    assert np.array_equal(found.items[3], found.items[:][3])
    assert found.items[:].dtype == run.spec.dtype


def test_a_batch_holds_pairs(made: Path) -> None:
    run = ornstein.load(made / "two")
    assert isinstance(run.model.coupling, Paired)
    training = FolderTraining(Settings(**run.settings), stored(made), tell=lambda line: None)
    found = stored(made)
    whole, _ = found.batch(np.arange(COUNT))
    for step in range(3):
        for part in training.batches().parts(step):
            rows = (part.x[:, None] == whole).all(-1).nonzero()[:, 1]
            assert len(rows) == 8
            assert torch.equal(part.noise, found.noise(rows.numpy()))
    assert isinstance(training.batches(), Batches)


def test_it_goes_on_where_it_stopped(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place, content = made / "two" / "pairs", stored(made).spec.content_hash
    first, lost = place / "part-00000.npy", place / "part-00001.npy"
    before = first.stat().st_mtime_ns
    lost.unlink()
    with pytest.raises(UsageError, match="makes what is missing"):
        stored(made)
    assert main(reflow(made, "--steps", "4")) == 0
    assert first.stat().st_mtime_ns == before
    assert stored(made).spec.content_hash == content
    run = ornstein.load(made / "two")
    assert run.metrics()[-1]["step"] == 4
    assert np.isfinite(run.sample(5, label=1, steps=2)).all()
    assert main(reflow(made, "--steps", "4", "--seed", "1")) == 2
    assert "holds other pairs (seed, labels)" in capsys.readouterr().err
    lost.write_bytes(lost.read_bytes()[:100])
    with pytest.raises(OrnsteinError, match=r"part-00001.npy .*"):
        stored(made)
    lost.unlink()
    assert main(reflow(made, "--steps", "4")) == 0


def test_killed_among_its_pairs(made: Path, tmp_path: Path) -> None:
    run, place = ornstein.load(made / "base"), tmp_path / "two" / "pairs"

    def stop(count: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_pairs(run, place, COUNT, steps=4, progress=stop)
    (tmp_path / "base").symlink_to(made / "base")
    assert main(reflow(tmp_path, "--steps", "1")) == 0
    assert stored(tmp_path).spec.content_hash == stored(made).spec.content_hash


def test_a_reflowed_run_is_distilled_on_its_pairs(made: Path, tmp_path: Path) -> None:
    words = ["distil", str(made / "two"), "--data", str(made / "two" / "pairs"), "--out", str(tmp_path / "few")]
    assert main([*words, "--steps", "2", "--device", "cpu"]) == 0
    assert ornstein.load(tmp_path / "few").sample(3, steps=1).shape == (3, 2)


def test_pairs_are_learned_as_pairs_alone(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "pairs" in COUPLINGS
    place = str(made / "two" / "pairs")
    words = ["--steps", "1", "--device", "cpu", "--preset", "tiny", "--out", str(made / "no")]
    for more, says in (
        (["--data", place], "give --coupling pairs with it"),
        (["--data", str(made / "points.npz"), "--coupling", "pairs"], "holds no pairs of noise and sample"),
        (["--data", place, "--coupling", "pairs", "--hold-out", "0.2"], "hold_out: pairs"),
    ):
        assert main(["train", *words, *more]) == 2
        assert says in capsys.readouterr().err
    assert main(["reflow", str(made / "base")]) == 2
    assert "reflow needs --out" in capsys.readouterr().err
    with pytest.raises(UsageError, match="leave limit"):
        data.open(place, limit=3)
