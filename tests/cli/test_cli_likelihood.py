"""`ornstein likelihood`: a table, a file beside the run, and sentences for what cannot be done."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from ornstein.cli import likelihood as command
from ornstein.cli import main


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "digits"
    words = ["--data", "digits", "--out", str(out), "--steps", "2", "--samples", "0", "--preset", "tiny"]
    assert main(["train", *words, "--batch-size", "4", "--device", "cpu"]) == 0
    return out


@pytest.fixture(scope="module")
def points(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("points")
    np.save(folder / "points.npy", np.random.default_rng(0).normal(3, [2.0, 0.1], (200, 2)))
    words = ["--data", str(folder / "points.npy"), "--out", str(folder / "run"), "--steps", "3", "--samples", "0"]
    assert main(["train", *words, "--device", "cpu"]) == 0
    return folder / "run"


def test_images_by_bounds(digits: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["likelihood", str(digits), "--data", "digits:test", "-n", "6", "--device", "cpu"]
    assert main([*words, "--method", "elbo", "--steps", "4"]) == 0
    out = capsys.readouterr().out
    assert "6 of 898 items of digits:test, given its label, probability of its whole numbers" in out
    assert "bits/dim   ± total      data     probe    solver" in out
    assert "reconstruction" in out
    file = digits / "evaluation" / "likelihood-elbo-digits-test.json"
    assert f"all of it in {file}" in out
    record = json.loads(file.read_text())
    assert record["unit"] == "bits/dim"
    row = record["rows"]["bound on −log p"]
    assert row["mean"] == pytest.approx(record["nats"]["mean"] / (64 * np.log(2)))
    parts = [record["rows"][name]["mean"] for name in ("prior", "diffusion", "reconstruction")]
    assert sum(parts) == pytest.approx(row["mean"], rel=1e-5)
    assert main([*words, "--method", "bound", "--steps", "4", "--unconditional"]) == 0
    assert "unconditional" in capsys.readouterr().out
    assert [f.name for f in sorted(file.parent.iterdir())] == [
        "likelihood-bound-unconditional-digits-test.json",
        file.name,
    ]


def test_noise_within_bins_is_chosen_on_training_data(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "COARSE", 12)
    for name, seed in (("train", 0), ("held", 1)):
        np.save(tmp_path / f"{name}.npy", np.random.default_rng(seed).poisson(20.0, (100, 3)))
    run, train = str(tmp_path / "run"), str(tmp_path / "train.npy")
    small = ["--steps", "2", "--samples", "0", "--device", "cpu", "--preset", "tiny"]
    assert main(["train", "--data", train, "--out", run, *small]) == 0
    words = ["likelihood", run, "--data", str(tmp_path / "held.npy"), "-n", "4", "--steps", "12", "--device", "cpu"]
    assert main([*words, "--out", str(tmp_path / "x.json")]) == 0
    assert "Note: --dequantise path, since" in capsys.readouterr().out
    means = {}
    for name in ("auto", "path", "uniform"):
        out = tmp_path / f"{name}.json"
        assert main([*words, "--train-data", train, "--dequantise", name, "--out", str(out)]) == 0
        record = json.loads(out.read_text())
        means[name] = record["rows"]["−log p"]["mean"]
        if name == "auto":
            costs = record["dequantisation"]["chosen_on_training_items"]
            best = min(costs, key=costs.get)
            assert f"Noise within bins: {best}, the tighter bound on 8 training items" in capsys.readouterr().out
    assert means["auto"] == means[best]
    assert means["path"] != means["uniform"]
    flags = [
        "--train-data",
        train,
        "--method",
        "elbo",
        "--dequantisation",
        "auto",
        "--out",
        str(tmp_path / "elbo.json"),
    ]
    assert main([*words, *flags]) == 0
    assert "the tighter bound on 8 training items" in capsys.readouterr().out


def test_the_prior_of_a_bound(digits: Path, tmp_path: Path) -> None:
    words = ["likelihood", str(digits), "--data", "digits:test", "-n", "2", "--method", "elbo", "--steps", "2"]
    rows = []
    for name in ("centred", "normal"):
        out = tmp_path / f"{name}.json"
        assert main([*words, "--prior", name, "--out", str(out), "--device", "cpu"]) == 0
        rows.append({key: row["mean"] for key, row in json.loads(out.read_text())["rows"].items()})
    assert rows[0]["diffusion"] == rows[1]["diffusion"]
    assert rows[1]["bound on −log p"] == pytest.approx(
        rows[1]["prior"] + rows[1]["diffusion"] + rows[1]["reconstruction"], rel=1e-5
    )
    assert main([*words, "--prior", "none"]) == 2


def test_all_that_was_found_in_a_file_of_one_s_own(
    digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "FITTING", 3)
    out = tmp_path / "likelihood.json"
    words = ["likelihood", str(digits), "--data", "digits:test", "-n", "3", "--device", "cpu", "--out", str(out)]
    assert main([*words, "--steps", "12", "--dequantise", "variational", "--per-item"]) == 0
    record = json.loads(out.read_text())
    assert len(record["items"]["nats"]) == 3
    assert np.mean(record["items"]["nats"]) == pytest.approx(record["nats"]["mean"])
    assert record["options"]["steps"] == 12
    assert record["versions"]["torch"]
    assert main([*words, "--method", "bound", "--steps", "15", "--force"]) == 0
    said = capsys.readouterr().out
    assert "log-SNR" in said
    assert "█" in said
    record = json.loads(out.read_text())
    steps = record["steps"]
    assert len(steps) == 15
    assert steps[-1]["to_t"] == 1
    assert sum(step["mean"] for step in steps) == pytest.approx(record["rows"]["diffusion"]["mean"], rel=1e-4)
    assert "items" not in record


def test_derivatives_along_many_vectors_are_taken_at_once(digits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not one after the other, as where torch has no rule: for weights that lie channels-last, for one."""
    grad, together = torch.autograd.grad, []
    monkeypatch.setattr(
        torch.autograd, "grad", lambda *a, **k: together.append(k.get("is_grads_batched", False)) or grad(*a, **k)
    )
    assert (
        main(["likelihood", str(digits), "--data", "digits:test", "-n", "2", "--device", "cpu", "--steps", "12"]) == 0
    )
    assert together
    assert all(together)


def test_images_by_the_ode_in_any_batches(digits: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "likelihood",
        str(digits),
        "--data",
        "digits:test",
        "-n",
        "2",
        "--device",
        "cpu",
        "--steps",
        "12",
        "--dequantise",
        "path",
    ]
    means = []
    for size in ("1", "2"):
        assert main([*words, "--batch-size", size]) == 0
        record = json.loads((digits / "evaluation" / "likelihood-ode-digits-test.json").read_text())
        means.append(record["rows"]["−log p"]["mean"])
        assert record["rows"]["−log p"]["solver"] > 0
        assert record["rows"]["−log p"]["probe"] > 0
    assert means[0] == pytest.approx(means[1], rel=1e-4)


def test_vectors_in_nats(points: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = str(points.parent / "points.npy")
    words = ["--data", source, "-n", "40", "--device", "cpu", "--trace", "exact"]
    assert main(["likelihood", str(points), *words]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[0] == f"Data: {source}."
    assert "density in the units of the data, 2 dimensions" in out
    (file,) = (points / "evaluation").iterdir()
    record = json.loads(file.read_text())
    assert record["unit"] == "nats"
    row = record["rows"]["−log p"]
    assert row["probe"] == 0
    # after 3 steps the model is about the standard normal in its units; the entropy of that, in the data's own
    assert row["mean"] == pytest.approx(np.log(2 * np.pi * np.e * 2.0 * 0.1), abs=0.5)


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--method", "exact"], "--method 'exact' is not known; give one of ode, elbo, bound"),
        (["--trace", "none"], "--trace 'none' is not known"),
        (["-n", "0"], "--count 0 is too small"),
        (["--steps", "8"], "--steps 8 is too small; give 12 or more"),
        (["--tolerance", "0"], "--tolerance 0 must be positive"),
        (["--out", "found.txt"], "--out found.txt is no .json file"),
        (["--dequantise", "variational", "--data", "POINTS"], "no whole numbers: there is nothing to dequantise"),
        ([], "is not opened unasked, since it is no data set that comes with ornstein"),
        (["--data", "digits"], "but"),
    ],
)
def test_what_cannot_be_done(points: Path, capsys: pytest.CaptureFixture[str], flags: list[str], says: str) -> None:
    source = str(points.parent / "points.npy")
    assert main(["likelihood", str(points), *(source if word == "POINTS" else word for word in flags)]) == 2
    assert says in capsys.readouterr().err


def test_labels_and_units_must_fit(digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = np.arange(4 * 64, dtype=np.uint8).reshape(4, 8, 8) % 17
    np.save(tmp_path / "images.npy", images)
    assert main(["likelihood", str(digits), "--data", str(tmp_path / "images.npy")]) == 2
    assert "lacks the 10 classes" in capsys.readouterr().err  # the numbers are taken as they are
    words = ["--unconditional", "-n", "2", "--steps", "12", "--device", "cpu"]
    np.save(tmp_path / "parts.npy", images / 16)
    assert main(["likelihood", str(digits), "--data", str(tmp_path / "parts.npy"), *words]) == 2
    assert "not whole" in capsys.readouterr().err
    np.savez(tmp_path / "range.npz", images=images, low=0, high=16)
    assert main(["likelihood", str(digits), "--data", str(tmp_path / "range.npz")]) == 2
    assert "lacks the 10 classes" in capsys.readouterr().err
    assert main(["likelihood"]) == 2
    assert "needs a run folder" in capsys.readouterr().err


def test_held_out_vectors_are_measured_in_the_units_of_the_training(points: Path, tmp_path: Path) -> None:
    """Where the data lie far from the training data, they are unlikely, whatever their own mean and deviation."""
    draw = np.random.default_rng(1).normal(3, [2.0, 0.1], (200, 2))
    means = []
    for name, items in (("near", draw), ("far", draw + np.array([20.0, 1.0]))):
        np.save(tmp_path / f"{name}.npy", items)
        words = [
            "--data",
            str(tmp_path / f"{name}.npy"),
            "-n",
            "40",
            "--device",
            "cpu",
            "--trace",
            "exact",
            "--steps",
            "24",
        ]
        assert main(["likelihood", str(points), *words]) == 0
        (file,) = (points / "evaluation").glob(f"*{name}*.json")
        means.append(json.loads(file.read_text())["rows"]["−log p"]["mean"])
    assert means[1] > means[0] + 40  # ten deviations in both dimensions: about 100 nats of a standard normal
