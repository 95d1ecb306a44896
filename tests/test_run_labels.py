"""A label that a user gives is the label of the data: in Python and in the command, for samples, guidance, tuning."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import ornstein
from ornstein.cli import main
from ornstein.errors import UsageError
from ornstein.guidance import GuidanceConfig, NegativeLabel
from ornstein.runs import Run
from ornstein.runs.conditioning import label_ids

CLASSES = ("1", "2", "3", "10", "cat")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("labels")
    y = np.array(["10", "2", "1", "cat", "3"] * 20)
    x = np.random.default_rng(0).normal(size=(100, 2))
    np.savez(folder / "points.npz", x=x, y=y)
    settings: dict[str, Any] = {"steps": 30, "batch_size": 32, "preset": "tiny", "device": "cpu", "learning_rate": 0.01}
    ornstein.train(str(folder / "points.npz"), out=folder / "run", **settings)
    return folder / "run"


@pytest.fixture(scope="module")
def run(trained: Path) -> Run:
    return ornstein.load(trained)


def test_a_label_is_the_class_of_that_name(run: Run) -> None:
    assert run.spec.classes == CLASSES
    for index, name in enumerate(CLASSES):
        wanted = run.sample(3, label_index=index, steps=3)
        ways: list[Any] = [name, [name] * 3]
        if name.isdigit():
            number = int(name)
            ways += [number, float(number), np.int32(number), torch.tensor(number), np.full(3, number), f"{number}.0"]
        for label in ways:
            np.testing.assert_array_equal(run.sample(3, label=label, steps=3), wanted)
        np.testing.assert_array_equal(run.sample(3, condition={"label_index": index}, steps=3), wanted)
        np.testing.assert_array_equal(run.sample(3, label_index=[index] * 3, steps=3), wanted)
        assert label_ids(run, name, 2).tolist() == [index] * 2
    mixed = run.sample(3, label=[10, "cat", 1], steps=3)
    np.testing.assert_array_equal(mixed, run.sample(3, label_index=[3, 4, 0], steps=3))


@pytest.mark.parametrize(
    ("how", "said"),
    [
        (
            {"label": 0},
            r"label: 0 is no class; the classes are 1, 2, 3, 10, cat \(the class at index 0 is '1': label_index=0\)",
        ),
        ({"label": 4}, "4 is no class"),
        ({"label": -1}, "-1 is no class"),
        ({"label": 1.5}, "1.5 is no class"),
        ({"label": "cta"}, "did you mean 'cat'"),
        ({"label": [1, 0, 2]}, "0 is no class"),
        ({"label": [1, 2]}, "2 labels for 3 samples"),
        ({"label": [[1], [2], [3]]}, r"\[1\] is no label"),
        ({"label_index": 5}, "5 is not one of the 5 indices 0 to 4"),
        ({"label_index": -1}, "-1 is not one"),
        ({"label_index": "1"}, "'1' is not one"),
        ({"label_index": 1.0}, "1.0 is not one"),
        ({"label": 1, "label_index": 0}, "give one of them"),
        ({"label": 1, "guide": GuidanceConfig(2.0, negative=NegativeLabel(0))}, "0 is no class"),
        ({"label": 1, "guide": GuidanceConfig(2.0, negative=NegativeLabel("dog"))}, "'dog' is no class"),
    ],
)
def test_what_is_no_class_is_refused(run: Run, how: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        run.sample(3, steps=2, **how)


def test_guidance_goes_away_from_the_class_of_that_name(run: Run) -> None:
    def guided(negative: NegativeLabel) -> np.ndarray:
        return run.sample(3, label="cat", steps=3, guide=GuidanceConfig(2.0, negative=negative))

    wanted = guided(NegativeLabel("anything", index=3))
    for label in (10, "10"):
        np.testing.assert_array_equal(guided(NegativeLabel(label)), wanted)
    assert (guided(NegativeLabel(1)) != wanted).any()
    with pytest.raises(TypeError, match="indices alone"):
        NegativeLabel("cat")(run.denoiser, torch.zeros(2, dtype=torch.int64))


def test_the_command_means_the_same(
    trained: Path, run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def sampled(*flags: str) -> np.ndarray:
        out = tmp_path / f"{len(list(tmp_path.iterdir()))}.npz"
        assert main(["sample", str(trained), "-n", "3", "--steps", "3", "--out", str(out), *flags]) == 0
        return np.load(out)["samples"]

    for name in ("1", "10", "cat"):
        np.testing.assert_array_equal(sampled("--label", name), run.sample(3, label=name, steps=3))
    guided = run.sample(3, label=1, steps=3, guide=GuidanceConfig(2.0, negative=NegativeLabel(10)))
    np.testing.assert_array_equal(sampled("--label", "1", "--guidance", "2", "--not-label", "10"), guided)
    for flags in (["--label", "0"], ["--label", "1", "--guidance", "2", "--not-label", "0"]):
        assert main(["sample", str(trained), "-n", "3", *flags, "--out", str(tmp_path / "none.npz")]) == 2
        assert "0 is no class; the classes are 1, 2, 3, 10, cat" in capsys.readouterr().err


def test_tuned_solvers_are_of_a_class(run: Run) -> None:
    run.tune(2, label=10, starts=16, seconds=2.0, teacher=8)
    assert run.tuned(2, label="10").model == run.weights_hash
    with pytest.raises(UsageError, match="no solver of 2 steps"):
        run.tuned(2, label=1)
    with pytest.raises(UsageError, match="0 is no class"):
        run.tune(2, label=0)
