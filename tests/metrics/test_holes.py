"""Real data with missing numbers: samples get the same holes, so that the right ones score as real data do."""

import json
from pathlib import Path

import numpy as np
import pytest

import ornstein
from ornstein.cli import main
from ornstein.data import dataset_of
from ornstein.errors import UsageError
from ornstein.metrics import BY_NAME, TwoSample
from ornstein.metrics.holes import Holes, alike

MEAN, STD = np.array([5.0, -300.0, 0.2]), np.array([2.0, 40.0, 0.01])


def points(count: int, seed: int, part: float = 0.3) -> np.ndarray:
    rng = np.random.default_rng(seed)
    x = MEAN + STD * rng.normal(size=(count, 3))
    x[rng.random(x.shape) < part] = np.nan
    return x.astype(np.float32)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("holes")
    np.save(place / "train.npy", points(400, 0))
    words = [
        "train",
        "--data",
        str(place / "train.npy"),
        "--missing",
        "mask",
        "--out",
        str(place / "run"),
        "--steps",
        "2",
    ]
    assert main([*words, "--samples", "0", "--preset", "tiny", "--device", "cpu"]) == 0
    np.save(place / "held.npy", points(300, 1))
    np.save(place / "whole.npy", points(300, 2, 0.0))
    np.savez(place / "right.npz", samples=points(300, 3, 0.0))
    np.savez(place / "wrong.npz", samples=points(300, 3, 0.0) * 1.5)
    return place


@pytest.mark.parametrize("metric", [name for name, metric in BY_NAME.items() if isinstance(metric, TwoSample)])
def test_right_samples_score_as_real_data_and_others_do_not(
    metric: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = {}
    for name in ("right", "wrong"):
        out = tmp_path / f"{name}.json"
        words = ["--samples", str(run / f"{name}.npz"), "--data", str(run / "held.npy"), "--metrics", metric]
        words += ["--train-data", str(run / "train.npy"), "--out", str(out), "--device", "cpu"]
        assert main(["evaluate", str(run / "run"), *words]) == 0
        assert "of the numbers of" in (said := capsys.readouterr().out)
        assert "are missing: samples get the same holes" in said
        found[name] = json.loads(out.read_text())["scores"]
    for right, wrong in zip(found["right"], found["wrong"], strict=True):
        low, high = right["floor"]["low"], right["floor"]["high"]
        assert right["low"] <= high  # the intervals of samples and of other real data meet
        assert right["high"] >= low
        assert abs(wrong["value"] - right["floor"]["value"]) > 2 * abs(right["value"] - right["floor"]["value"])


def test_what_needs_whole_items_takes_them_or_says_so(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    both = ["--device", "cpu", "--data"]
    assert main(["evaluate", str(run / "run"), "-n", "200", "--steps", "2", *both, str(run / "held.npy")]) == 0
    assert "memorisation was left out: the nearest-neighbour test needs whole items" in capsys.readouterr().out
    for command in (["likelihood", "-n", "8", "--steps", "12"], ["diagnose", "-n", "100", "--levels", "2"]):
        assert main([command[0], str(run / "run"), *command[1:], *both, str(run / "held.npy")]) == 0
        assert "of 300 items of" in (said := capsys.readouterr().out)
        assert "have missing numbers and are left out" in said
        assert "vary nan" not in said
    words = ["--train-data", str(run / "train.npy"), *both, str(run / "whole.npy")]
    assert main(["evaluate", str(run / "run"), "-n", "200", "--steps", "2", *words]) == 0
    said = capsys.readouterr().out
    assert "of 400 items of" in said
    assert "nearer than fresh data" in said


def test_holes_are_filled_with_the_middle_of_each_channel_in_the_units_of_the_run() -> None:
    spec = dataset_of(points(400, 0), missing="mask").spec
    holed = dataset_of(points(50, 1), missing="mask").adopt(spec)[0]
    filled, training, holes, note = alike(holed, None)
    assert training is None
    assert holes is not None
    assert "of the numbers of memory are missing" in note
    x = filled.batch(np.arange(50))[0].numpy()
    lacks = np.isnan(points(50, 1))
    assert np.abs(x[lacks]).max() < 1e-3
    np.testing.assert_allclose(x[~lacks], spec.to_model(points(50, 1, 0.0)).numpy()[~lacks], atol=1e-3)
    made = points(20, 2, 0.0)
    punched = holes.punch(made, 7)
    np.testing.assert_array_equal(punched[3:], holes.punch(made[3:], 10))  # by the number of a sample alone
    assert 0.2 < (punched != made).mean() < 0.4
    assert alike(filled, filled)[2] is None
    same = alike(holed, holed)
    assert same[0] is same[1]


def test_whole_items(run: Path) -> None:
    data = dataset_of(points(100, 1), missing="mask")
    some, note = data.whole()
    assert len(some) == int((~np.isnan(points(100, 1)).any(1)).sum())
    assert note == f"{100 - len(some)} of 100 items of memory have missing numbers and are left out."
    assert some.whole() == (some, "")
    holed = points(100, 1)
    holed[:, 0] = np.where(np.arange(100) % 2, np.nan, 1.0)
    holed[:, 1] = np.where(np.arange(100) % 2, 1.0, np.nan)
    with pytest.raises(UsageError, match="all 100 items of memory have missing numbers"):
        dataset_of(holed, missing="mask").whole()
    with pytest.raises(UsageError, match="have missing numbers; give those that are whole"):
        ornstein.load(run / "run").likelihood(data, np.arange(3), None)  # type: ignore[arg-type]
    assert Holes.of(data).share == pytest.approx(float(np.isnan(points(100, 1)).mean()))
