"""`ornstein evaluate`, `compare`, `diagnose`: from a run to a table, a JSON that repeats it, an image, the report page."""

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

import ornstein
from ornstein import data
from ornstein.cli import main
from ornstein.cli.compare import _candidates
from ornstein.metrics import Values, cnn, evaluate, extract, reference

QUICK = ["-n", "120", "--steps", "2", "--device", "cpu"]


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))
    monkeypatch.setattr(cnn, "STEPS", 60)


def trained(out: Path, source: str) -> Path:
    words = ["--data", source, "--out", str(out), "--steps", "3", "--samples", "0", "--preset", "tiny"]
    assert main(["train", *words, "--batch-size", "4", "--device", "cpu"]) == 0
    return out


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("runs") / "digits", "digits:train")


@pytest.fixture
def run(digits: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(digits, tmp_path / "run"))


def result(run: Path) -> dict[str, object]:
    (file,) = (run / "evaluation").glob("*.json")
    return dict(json.loads(file.read_text()))


def test_a_run_is_measured(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(run), *QUICK, "--data", "digits:test", "--features", "pixels"]) == 0
    out = capsys.readouterr().out
    assert "120 samples against 120 items of digits:test, pixels features." in out
    assert "Note: frechet was left out: A Fréchet distance in 64 features of 120 sample items" in out
    found = result(run)
    assert [score["name"] for score in found["scores"]] == [  # type: ignore[attr-defined]
        *("KID", "precision", "recall", "density", "coverage", "sliced Wasserstein"),
        *("label agreement", "nearer than fresh data", "near copies", "distance ratio", "exact copies"),
    ]
    made: dict[str, object] = found["samples"]  # type: ignore[assignment]
    assert made["weights"] == ornstein.load(run).weights_hash
    assert len(made["times"]) == 3  # type: ignore[arg-type]
    page = (run / "report.html").read_text()
    assert "Evaluation: abm, 2 steps" in page
    assert "nearer than fresh data" in page


def test_samples_made_before_score_the_same(run: Path, tmp_path: Path) -> None:
    words = ["--data", "digits:test", "--metrics", "kid,agreement"]
    assert main(["evaluate", str(run), *QUICK, *words]) == 0
    first = result(run)
    shutil.rmtree(run / "evaluation")
    trained = ornstein.load(run)
    labels = trained.model.labels(0, 120, 0)
    assert labels is not None
    np.savez(tmp_path / "x.npz", samples=trained.sample(120, steps=2), labels=labels.numpy())
    assert main(["evaluate", str(run), "--samples", str(tmp_path / "x.npz"), *words]) == 0
    assert result(run)["scores"] == first["scores"]


def test_a_folder_of_pictures(run: Path, tmp_path: Path) -> None:
    real = data.open("digits:test")
    data.save_images(np.asarray(real.items[:150]), tmp_path / "folder", spec=real.spec)
    words = ["--samples", str(tmp_path / "folder"), "--data", "digits:test", "--features", "pixels"]
    assert main(["evaluate", str(run), *words, "--metrics", "density-coverage memorisation"]) == 0
    scores = {score["name"]: score["value"] for score in result(run)["scores"]}  # type: ignore[attr-defined]
    assert scores["density"] > 0.5
    assert 0.3 < scores["nearer than fresh data"] < 0.7


def test_copies_of_the_training_data_are_told(run: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", samples=data.open("digits:train").items[:150])
    words = ["--samples", str(tmp_path / "x.npz"), "--data", "digits:test", "--metrics", "memorisation"]
    assert main(["evaluate", str(run), *words]) == 0
    scores = {score["name"]: score["value"] for score in result(run)["scores"]}  # type: ignore[attr-defined]
    assert scores["near copies"] == 1
    assert scores["distance ratio"] == 0
    assert len(list((run / "evaluation").glob("samples-x-*-digits-test-*-cnn-nearest.png"))) == 1


def test_every_file_that_sample_writes_scores_the_same(run: Path, tmp_path: Path) -> None:
    words = ["--data", "digits:test", "--features", "pixels", "--metrics", "kid,memorisation"]
    found = []
    for out in ("x.npz", "folder"):
        assert (
            main(["sample", str(run), "-n", "120", "--steps", "2", "--out", str(tmp_path / out), "--device", "cpu"])
            == 0
        )
    items = np.load(tmp_path / "x.npz")["samples"]
    np.save(tmp_path / "x.npy", items)
    np.save(tmp_path / "y.npy", items.astype(np.float64))
    (tmp_path / "numbers").mkdir()
    for i, item in enumerate(items):
        np.save(tmp_path / "numbers" / f"{i:05d}.npy", item)
    for name in ("x.npz", "folder", "x.npy", "y.npy", "numbers"):
        assert main(["evaluate", str(run), "--samples", str(tmp_path / name), *words]) == 0
        found.append(result(run)["scores"])
        shutil.rmtree(run / "evaluation")
    assert all(scores == found[0] for scores in found)


def test_a_folder_of_vectors(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(5.0, 2.0, (300, 2)))
    run = trained(tmp_path / "run", str(tmp_path / "x.npy"))
    assert (
        main(["sample", str(run), "-n", "120", "--steps", "2", "--out", str(tmp_path / "made"), "--device", "cpu"]) == 0
    )
    words = ["--samples", str(tmp_path / "made"), "--data", str(tmp_path / "x.npy"), "--metrics", "mmd"]
    assert main(["evaluate", str(run), *words]) == 0
    assert result(run)["samples"]["count"] == 120  # type: ignore[index]


BROKEN = {
    "nan": (lambda x: np.where(np.arange(len(x))[:, None, None, None] == 7, np.nan, x / 1.0), "Item 7 of --samples"),
    "inf": (lambda x: np.where(np.arange(len(x))[:, None, None, None] == 9, np.inf, x / 1.0), "Item 9 of --samples"),
    "constant": (lambda x: np.full_like(x, 3), "are the same, which is no distribution to compare"),
    "one": (lambda x: x[:1], "of 1 sample items would mean nothing"),
    "shape": (lambda x: x[:, :4], "but the run makes images of shape (8, 8, 1)"),
    "fractions": (lambda x: x / 16.0, "these are fractions between 0 and 1"),
    "none": (lambda x: x[:0], "holds no samples"),
    "text": (lambda x: x.astype(str), "items must be whole or floating numbers"),
}


@pytest.mark.parametrize("wrong", BROKEN)
@pytest.mark.parametrize(
    "metrics",
    [
        *("kid", "precision-recall", "memorisation", "c2st", None),
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("frechet", "density-coverage", "sliced-wasserstein", "mmd")
        ),
    ],
)
def test_broken_samples_are_refused(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], wrong: str, metrics: str | None
) -> None:
    change, says = BROKEN[wrong]
    np.savez(tmp_path / "x.npz", samples=change(data.open("digits:test").items[:250]))
    words = ["--samples", str(tmp_path / "x.npz"), "--data", "digits:test", "--features", "pixels"]
    assert main(["evaluate", str(run), *words, *(["--metrics", metrics] if metrics else [])]) in (1, 2)
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1


def columns(count: int, seed: int) -> np.ndarray:
    """Three columns of other units, in two classes that differ."""
    rng = np.random.default_rng(seed)
    rows = rng.uniform(-2, 2, size=(count, 3)) + np.where(np.arange(count)[:, None] % 2, 1.0, 0.0)
    return np.asarray(rows * [1.0, 11.0, 1150.0] + [0.0, 280.0, 56_000.0])


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on columns of other units with classes a and b, and its data beside it."""
    folder = tmp_path_factory.mktemp("table")
    np.savez(folder / "train.npz", x=columns(400, 0), y=np.array(["a", "b"] * 200))
    return trained(folder / "run", str(folder / "train.npz"))


OTHERS = {
    "right": (lambda x: x, None),
    "single": (lambda x: x.astype(np.float32), "holds float32, and the training data float64"),
    "doubled": (lambda x: 2 * x + 3, "lie outside the range of the training data"),
    "moved": (lambda x: x + x.std(0) * 8, "lie outside the range of the training data"),
    "hot": (lambda x: np.where(np.arange(x.size).reshape(x.shape) == 4, 900.0, x), "of 360 numbers"),
    "huge": (lambda x: x * 1000.0, "are they in the same units?"),
}


@pytest.mark.parametrize("side", ["--data", "--samples"])
def test_other_data_are_in_the_units_of_the_run(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], side: str
) -> None:
    beside = {"--data": table.parent / "train.npz", "--samples": tmp_path / "same.npz"}
    np.savez(tmp_path / "same.npz", samples=columns(120, 3))
    far = {}
    for name, (change, says) in OTHERS.items():
        np.save(tmp_path / f"{name}.npy", change(columns(120, 2)))
        sources = {**beside, side: tmp_path / f"{name}.npy"}
        out = tmp_path / f"result-{name}.json"
        words = [word for pair in sources.items() for word in map(str, pair)]
        assert main(["evaluate", str(table), *words, "--metrics", "sliced-wasserstein", "--out", str(out)]) == 0
        notes = [line for line in capsys.readouterr().out.splitlines() if f"{name}.npy" in line and "Note" in line]
        assert (not says and not notes) or any(says in note for note in notes if says)
        far[name] = json.loads(out.read_text())["scores"][0]["value"]
    assert far["single"] == pytest.approx(far["right"], rel=1e-4)
    assert min(far["doubled"], far["moved"], far["huge"]) > 5 * far["right"]
    assert far["hot"] < far["doubled"]


def test_compare_and_diagnose_are_in_the_units_of_the_run(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found, errors = {}, {}
    for name in ("right", "single", "doubled"):
        change, says = OTHERS[name]
        source, out = tmp_path / f"{name}.npz", tmp_path / f"{name}.png"
        np.savez(source, x=change(columns(120, 2)), y=np.array(["a", "b"] * 60))
        words = ["--data", str(source), "--device", "cpu"]
        extra = ["-n", "100", "--steps", "2", "--metrics", "sliced-wasserstein", "--out", str(out)]
        assert main(["compare", str(table), *words, *extra]) == 0
        assert not says or says in capsys.readouterr().out
        (point,) = json.loads(out.with_suffix(".json").read_text())["points"]
        found[name] = point["scores"][0]["value"]
        extra = ["-n", "100", "--levels", "2", "--out", str(tmp_path / f"diagnosis-{name}.json")]
        assert main(["diagnose", str(table), *words, *extra]) == 0
        assert not says or says in capsys.readouterr().out
        errors[name] = json.loads((tmp_path / f"diagnosis-{name}.json").read_text())["levels"][-1]["clean"]["value"]
    assert found["single"] == pytest.approx(found["right"], rel=1e-4)
    assert errors["single"] == pytest.approx(errors["right"], rel=1e-4)
    assert found["doubled"] > found["right"] + 1
    assert errors["doubled"] > 5 * errors["right"]


@pytest.mark.parametrize(
    ("classes", "says"),
    [
        (("b",), "There are no items of 1 of the run's 2 classes: a."),
        (("a", "b", "c"), "60 of 180 items are left out, whose classes the run does not have: c."),
        (("b", "a", "a"), None),
    ],
)
@pytest.mark.parametrize("command", ["evaluate", "compare", "diagnose", "likelihood"])
def test_classes_of_other_data_are_matched_by_name(
    table: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    command: str,
    classes: tuple[str, ...],
    says: str | None,
) -> None:
    rows, names = columns(360, 2), np.array(classes * 180)[:180]
    chosen = np.array([2 * i + (name == "b") for i, name in enumerate(names)])
    np.savez(tmp_path / "held.npz", x=rows[chosen], y=names)
    extra = {
        "evaluate": ["-n", "100", "--steps", "2", "--metrics", "sliced-wasserstein"],
        "compare": ["-n", "100", "--steps", "2", "--metrics", "sliced-wasserstein"],
        "diagnose": ["-n", "100", "--levels", "1"],
        "likelihood": ["-n", "4", "--steps", "12"],
    }[command]
    out = tmp_path / ("x.png" if command == "compare" else "x.json")
    words = [command, str(table), "--data", str(tmp_path / "held.npz"), *extra, "--out", str(out), "--device", "cpu"]
    assert main(words) == 0
    assert says is None or f"Note: {says}" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["evaluate", "likelihood"])
def test_data_of_other_classes_alone_are_refused(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    np.savez(tmp_path / "held.npz", x=columns(120, 2), y=np.array(["x", "y"] * 60))
    assert main([command, str(table), "--data", str(tmp_path / "held.npz"), "--device", "cpu"]) == 2
    error = capsys.readouterr().err
    assert "the classes of these data are x, y, and those of the run a, b: none is both" in error
    assert error.count("\n") == 1


SHAPES = {"NHWC": (8, 8, 3), "NCL": (2, 12), "NDHW": (4, 4, 4), "NCDHW": (2, 4, 4, 4)}


@pytest.mark.parametrize("layout", SHAPES)
def test_samples_of_every_layout(layout: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """16-bit images come back from PNG files and a zip of them, series and volumes from .npy files."""
    whole = layout == "NHWC"
    rows = np.random.default_rng(0).normal(2000.0, 300.0, (240, *SHAPES[layout]))
    items = rows.astype(np.uint16) if whole else rows.astype(np.float32)
    np.save(tmp_path / "train.npy", items)
    run = str(tmp_path / "run")
    words = ["--data", str(tmp_path / "train.npy"), "--layout", layout, "--out", run, "--steps", "1", "--samples", "0"]
    assert main(["train", *words, "--preset", "tiny", "--batch-size", "4", "--device", "cpu"]) == 0
    spec = ornstein.load(run).spec
    data.save_images(items[:120], tmp_path / "folder", spec=spec)
    np.savez(tmp_path / "x.npz", samples=items[:120])
    sources = [tmp_path / "x.npz", tmp_path / "folder"]
    if whole:
        with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
            for file in sorted((tmp_path / "folder").glob("*.png")):
                archive.write(file, file.name)
        sources.append(tmp_path / "x.zip")
    found = []
    for source in sources:
        words = ["--samples", str(source), "--data", str(tmp_path / "train.npy"), "--metrics", "sliced-wasserstein"]
        out = tmp_path / f"{source.name}.json"
        assert main(["evaluate", run, *words, "--features", "pixels", "--out", str(out)]) == 0
        found.append(json.loads(out.read_text())["scores"][0]["value"])
    assert found == [found[0]] * len(sources)
    doubled = 2 * items[:120].astype(int) + 3 if whole else 2 * items[:120] + 3
    np.save(tmp_path / "doubled.npy", doubled)
    words = ["--samples", str(tmp_path / "doubled.npy"), "--data", str(tmp_path / "train.npy"), "--features", "pixels"]
    capsys.readouterr()
    out = tmp_path / "doubled.json"
    assert main(["evaluate", run, *words, "--metrics", "sliced-wasserstein", "--out", str(out)]) == 0
    assert "lie outside the range of the training data" in capsys.readouterr().out
    assert json.loads(out.read_text())["scores"][0]["value"] > 5 * found[0]


def test_labels_of_samples_are_those_of_the_data(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    real = data.open("digits:test")
    assert real.labels is not None
    words = ["--samples", str(tmp_path / "x.npz"), "--data", "digits:test", "--metrics", "agreement"]
    scores = []
    for labels in (real.labels, np.array(real.classes)[real.labels], real.labels.astype(float)):
        np.savez(tmp_path / "x.npz", samples=real.items, labels=labels)
        assert main(["evaluate", str(run), *words]) == 0
        scores.append(result(run)["scores"])
        shutil.rmtree(run / "evaluation")
    assert scores[0] == scores[1] == scores[2]
    np.savez(tmp_path / "x.npz", samples=real.items, labels=real.labels + 1)
    assert main(["evaluate", str(run), *words]) == 2
    assert "labels: 10 is no class" in capsys.readouterr().err


def test_each_set_has_a_result_of_its_own(run: Path, tmp_path: Path) -> None:
    real = data.open("digits:test")
    assert real.labels is not None
    for name, rows in (("a", slice(0, 150)), ("b", slice(150, 300))):
        (tmp_path / name).mkdir()
        np.savez(tmp_path / name / "held.npz", data=real.items[rows], labels=real.labels[rows])
        words = ["--features", "pixels", "--metrics", "kid", "--data", str(tmp_path / name / "held.npz")]
        assert main(["evaluate", str(run), *QUICK, *words]) == 0
        assert main(["diagnose", str(run), "-n", "100", "--levels", "1", "--device", "cpu", *words[-2:]]) == 0
    assert len(list((run / "evaluation").glob("abm-2-*.json"))) == 2
    assert len(list((run / "evaluation").glob("diagnosis-*.json"))) == 2


def test_a_module_of_ones_own(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "myown.py").write_text("from torch import nn\n\ndef net():\n    return nn.AvgPool2d(2)\n")
    monkeypatch.chdir(tmp_path)
    words = [*QUICK, "--data", "digits:test", "--metrics", "kid,frechet", "--features", "myown:net"]
    assert main(["evaluate", str(run), *words]) == 0
    found = result(run)
    assert found["features"]["name"] == "myown.net"  # type: ignore[index]
    assert [score["name"] for score in found["scores"]] == ["KID", "Fréchet distance"]  # type: ignore[attr-defined]


def test_vectors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(5.0, 2.0, (600, 2)))
    run = trained(tmp_path / "run", str(tmp_path / "x.npy"))
    own = ["--data", str(tmp_path / "x.npy")]
    assert main(["evaluate", str(run), "-n", "300", "--steps", "2", "--device", "cpu", *own]) == 0
    names = [score["name"] for score in result(run)["scores"]]  # type: ignore[attr-defined]
    assert {"C2ST accuracy", "MMD²", "near copies"} <= set(names)
    np.save(tmp_path / "y.npy", np.random.default_rng(1).normal(5.0, 2.0, (300, 2)))
    words = [str(run), "--data", str(tmp_path / "y.npy"), "-n", "300", "--steps", "2", "--device", "cpu"]
    capsys.readouterr()
    assert main(["evaluate", *words]) == 0
    out = capsys.readouterr().out
    assert "are not opened unasked" in out
    assert "memorisation was left out: the nearest-neighbour test needs the training data" in out
    assert main(["evaluate", *words, "--train-data", str(tmp_path / "x.npy")]) == 0
    out = capsys.readouterr().out
    assert f"Training data: {tmp_path / 'x.npy'}." in out
    assert "left out" not in out
    assert main(["evaluate", *words, "--train-data", str(tmp_path / "y.npy")]) == 2
    assert "is not what" in capsys.readouterr().err


def test_a_model_is_diagnosed(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diagnose", str(run), "--data", "digits:test", "-n", "100", "--levels", "2", "--device", "cpu"]) == 0
    assert "100 items of digits:test" in capsys.readouterr().out
    found = result(run)
    assert [level["t"] for level in found["levels"]] == sorted(level["t"] for level in found["levels"])  # type: ignore[attr-defined]
    assert [score["name"].split(" at ")[0] for score in found["scores"]] == [  # type: ignore[attr-defined]
        *("noise error", "noise error", "calibration", "calibration")
    ]
    (image,) = (run / "evaluation").glob("diagnosis-digits-test-*-plot.png")
    assert image.read_bytes().startswith(b"\x89PNG")
    page = (run / "report.html").read_text()
    assert "Diagnosis of the model" in page
    assert 'class="smooth"' in page


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["-n", "20"], "--count 20 is too small; give 100 or more"),
        (["--metrics", "fid"], "there is no metric 'fid'; there are kid, frechet"),
        (["--features", "dino"], "--features 'dino' is not known; give one of pixels, cnn, efficientnet"),
        (["--features", "inception:no.pth"], "inception:FILE: no.pth cannot be read (No such file or directory); give"),
        (["--features", "nothing.here:net"], "--features nothing.here:net cannot be used (No module named 'nothing')"),
        (["--features", "math:pi"], "--features math:pi cannot be used ('float' object is not callable)"),
        (["--samples", "nothing.npz"], "--samples nothing.npz cannot be read (No such file or directory)"),
        (["--data", "fashion.npy"], "There is no data source fashion.npy"),
        (
            ["--metrics", "frechet", *QUICK],
            "A Fréchet distance in 128 features of 120 sample items would mean nothing",
        ),
    ],
)
def test_mistakes_are_one_sentence(run: Path, capsys: pytest.CaptureFixture[str], flags: list[str], says: str) -> None:
    assert main(["evaluate", str(run), *QUICK, *flags]) == 2
    assert says in capsys.readouterr().err


# Comparisons

BESIDE = ["-n", "120", "--device", "cpu", "--data", "digits:test"]


def compared(out: Path) -> dict[str, object]:
    return dict(json.loads(out.with_suffix(".json").read_text()))


def test_runs_and_solvers_by_their_true_network_calls(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other, out = Path(shutil.copytree(run, tmp_path / "other")), tmp_path / "image.png"
    words = [str(run), str(other), *BESIDE, "--steps", "2,3", "--solver", "abm,heun,pc", "--features", "pixels"]
    assert main(["compare", *words, "--metrics", "kid", "--out", str(out)]) == 0
    assert out.read_bytes().startswith(b"\x89PNG")
    points = compared(out)["points"]
    calls = {(p["name"], p["solver_name"], p["steps"]): p["calls"] for p in points}  # type: ignore[attr-defined]
    for name in ("run", "other"):
        assert calls[name, "abm", 2] == 2
        assert calls[name, "abm", 3] == 3
        assert calls[name, "heun", 3] == 5  # two a step but for the last
        assert calls[name, "pc", 2] > 2  # a loop of its own: only counting tells
    # one score by hand: the same samples, the same real items
    loaded = ornstein.load(run)
    real, training = ornstein.data.open("digits:test"), ornstein.data.open("digits:train")
    beside = reference(Values(), real, training, 120)
    (row,) = evaluate(
        extract(Values(), loaded.sample(120, steps=3), loaded.spec), beside, ("kid",), extractor=Values()
    ).rows
    (score,) = next(p for p in points if p["solver_name"] == "abm" and p["steps"] == 3)["scores"]  # type: ignore[attr-defined]
    assert score["value"] == pytest.approx(row.score.value, rel=1e-6)
    assert "real data" in capsys.readouterr().out


def test_a_few_step_run_beside_its_base(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--data", "digits:train", "--out", str(tmp_path / "few"), "--few-steps", "progressive", "--preset", "tiny"]
    assert main(["train", *words, "--steps", "2", "--batch-size", "4", "--samples", "0", "--device", "cpu"]) == 0
    few, out = str(tmp_path / "few"), tmp_path / "image.png"
    words = [str(run), few, *BESIDE, "--features", "pixels", "--metrics", "kid", "--out", str(out)]
    assert main(["compare", *words, "--steps", "1,2", "--solver", "jump,abm"]) == 0
    assert f"Note: left out: --solver jump is for few-step runs, which {run} is not" in capsys.readouterr().out
    calls = {(p["name"], p["solver_name"], p["steps"]): p["calls"] for p in compared(out)["points"]}  # type: ignore[attr-defined]
    assert calls == {(n, s, k): k for n, s in (("run", "abm"), ("few", "jump"), ("few", "abm")) for k in (1, 2)}
    assert main(["compare", str(run), *BESIDE, "--solver", "jump"]) == 2
    assert "make one with `ornstein distil" in capsys.readouterr().err
    defaults = _candidates([ornstein.load(run), ornstein.load(few)], None, None)
    assert [(one.solver_name, one.steps) for one in defaults] == [
        *(("abm", n) for n in (5, 10, 20, 50)),
        *(("jump", n) for n in (1, 2, 4, 8)),
    ]


def test_the_same_command_again_draws_nothing(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "c.png"
    words = ["compare", str(run), *BESIDE, "--features", "pixels", "--out", str(out)]
    assert main([*words, "--steps", "2"]) == 0
    first = compared(out)["points"]
    out.unlink()
    monkeypatch.setattr(ornstein.runs.Run, "batches", None)
    assert main([*words, "--steps", "2"]) == 0
    assert out.exists()
    assert compared(out)["points"] == first


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (
            ["--steps", "5,many"],
            "--steps '5,many' is no list of steps; give whole numbers from 1 to 4096 as in 5,10,20",
        ),
        (["--solver", "abm,huen"], "huen"),
        (["--solver", "tuned", "--steps", "4"], "no solver of 4 steps is tuned yet; make it with `ornstein tune"),
        (["--out", "c.pdf"], "--out c.pdf is no .png file"),
        (["--metrics", "fid"], "there is no metric 'fid'"),
        (["-n", "20"], "--count 20 is too small; give 100 or more"),
    ],
)
def test_a_wrong_comparison_is_one_sentence(
    run: Path, capsys: pytest.CaptureFixture[str], flags: list[str], says: str
) -> None:
    assert main(["compare", str(run), *BESIDE, *flags]) == 2
    err = capsys.readouterr().err
    assert says in err
    assert err.count("\n") == 1


def test_runs_on_other_data_are_refused(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(5.0, 2.0, (200, 2)))
    vectors = trained(tmp_path / "vectors", str(tmp_path / "x.npy"))
    assert main(["compare", str(run), str(vectors), "--steps", "2"]) == 2
    assert "compare runs on the same data" in capsys.readouterr().err
    half = trained(tmp_path / "half", "digits:test")
    assert main(["compare", str(run), str(half), "--steps", "2"]) == 2
    assert "name the real data that both are compared with by --data" in capsys.readouterr().err
    assert main(["compare", str(run), str(run), "--steps", "2"]) == 2
    assert "is given twice" in capsys.readouterr().err


@pytest.mark.slow
def test_two_processes_measure_what_one_does(run: Path, tmp_path: Path) -> None:
    two = Path(shutil.copytree(run, tmp_path / "two"))
    words = ["-n", "121", "--steps", "2", "--device", "cpu", "--metrics", "kid,memorisation", "--features", "pixels"]
    assert main(["evaluate", str(run), *words]) == 0
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    subprocess.run([*launch, "-m", "ornstein", "evaluate", str(two), *words], check=True, timeout=120)
    one, other = (result(folder)["scores"] for folder in (run, two))
    for a, b in zip(one, other, strict=True):  # type: ignore[call-overload]
        assert a["value"] == pytest.approx(b["value"], rel=1e-3)
