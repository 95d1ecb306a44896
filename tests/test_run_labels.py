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
            r"label: 0 is no class; the classes are 1, 2, 3, 10, cat \(the class at index 0 is '1': label_index=0, "
            r"--label-index 0\)",
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


# Held-out data


def held_out(folder: Path, y: list[Any], name: str = "held.npz") -> Path:
    x = np.random.default_rng(1).normal(size=(len(y), 2))
    np.savez(folder / name, x=x, y=np.array(y))
    return folder / name


def nats(run: Run, source: Path, classes: bool = True) -> list[float]:
    dataset = ornstein.data.open(source)
    if classes:
        dataset, _ = dataset.with_classes(run.spec.classes)
    parts = run.likelihood(dataset, np.arange(len(dataset)), ornstein.likelihood.ODE())
    return torch.cat([part.nats for part in parts]).tolist()


@pytest.mark.slow
def test_likelihoods_are_given_the_class_of_that_name(run: Run, tmp_path: Path) -> None:
    """In whatever order, or however few, the classes of other data are: an item's likelihood is that of its own class."""
    named = ["cat", "1", "10", "1"]
    whole = nats(run, held_out(tmp_path, [*named, "2", "3"]), classes=False)[:4]
    assert nats(run, held_out(tmp_path, named), classes=False) == pytest.approx(whole)
    swapped = nats(run, held_out(tmp_path, ["1", "1", "10", "1"]))
    assert swapped[1:] == pytest.approx(whole[1:])
    assert swapped[0] != pytest.approx(whole[0])
    numbers = held_out(tmp_path, [10.0, 1.0, 2.0], "numbers.npz")
    assert nats(run, numbers)[0] == pytest.approx(nats(run, held_out(tmp_path, ["10", "1", "2"], "words.npz"))[0])
    others = held_out(tmp_path, ["dog", "1", "10", "dog"], "others.npz")
    with pytest.raises(UsageError, match=r"2 of 4 items are left out, .*: dog.* Give dataset.with_classes"):
        nats(run, others, classes=False)
    assert len(nats(run, others)) == 2
    with pytest.raises(UsageError, match="none is both"):
        nats(run, held_out(tmp_path, ["x", "y"], "none.npz"), classes=False)
    with pytest.warns(match="1 of 3 items have no label"):
        missing = nats(run, held_out(tmp_path, ["1", "", "10"], "missing.npz"))
    assert np.isfinite(missing).all()


def test_commands_match_classes_by_name(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = held_out(tmp_path, ["dog", "cat", "10", "2"] * 40)
    for command in (
        ["likelihood", str(trained), "--data", str(data), "-n", "8", "--steps", "12", "--force"],
        ["diagnose", str(trained), "--data", str(data), "--count", "100", "--levels", "2", "--force"],
    ):
        code = main(command)
        said = capsys.readouterr()
        assert code == 0, said.err
        assert "40 of 160 items are left out, whose classes the run does not have: dog." in said.out
        assert "no items of 2 of the run's 5 classes: 1, 3." in said.out


def test_samples_to_compare_are_of_classes_that_the_data_have(
    trained: Path, run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from ornstein import data
    from ornstein.runs.conditioning import like, like_labels

    some = held_out(tmp_path, ["cat", "10"] * 60)
    held, note = data.open(some, like=run.spec).with_classes(run.spec.classes)
    assert "no items of 3 of the run's 5 classes: 1, 2, 3." in note
    labels = like_labels(run, held, 100)
    assert labels is not None
    assert set(labels.tolist()) == {CLASSES.index("cat"), CLASSES.index("10")}
    batch = like(run, held, range(20, 60))
    assert batch is not None
    assert torch.equal(batch.rows[0], labels[20:60])
    whole = data.open(trained.parent / "points.npz", like=run.spec)
    assert like(run, whole, range(5)) is None
    assert torch.equal(like_labels(run, whole, 5), run.model.labels(0, 5, 0))  # type: ignore[arg-type]
    words = ["-n", "100", "--steps", "2", "--metrics", "mmd", "--device", "cpu", "--out"]
    assert main(["evaluate", str(trained), "--data", str(some), *words, str(tmp_path / "e.json")]) == 0
    assert f"samples are of the classes alone that {some} has" in capsys.readouterr().out


def test_one_item_is_measured_as_it_is(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "row.npy", np.zeros(2))
    words = ["likelihood", str(trained), "--data", str(tmp_path / "row.npy"), "--steps", "12", "--device", "cpu"]
    assert main([*words, "--unconditional", "--out", str(tmp_path / "l.json")]) == 0
    assert "1 of 1 items" in capsys.readouterr().out


def test_sets_of_labels_are_matched_by_name(tmp_path: Path) -> None:
    sets = np.array([[1, 0, 1], [0, 1, 0], [1, 1, 1], [0, 0, 0]] * 5)
    x = np.random.default_rng(0).normal(size=(20, 2))
    one = ornstein.data.dataset_of({"x": x, "labels": sets, "classes": np.array(["a", "b", "c"])})
    run = ornstein.train(one, steps=3, preset="tiny", device="cpu")
    other = ornstein.data.dataset_of({"x": x, "labels": sets[:, [2, 0]], "classes": np.array(["c", "a"])})
    moved, note = run.model.conditions.matched(other)
    assert note == "No item has the run's labels b."
    np.testing.assert_array_equal(moved.annotations.sets, (sets * [1, 0, 1]) > 0)
    wide = ornstein.data.dataset_of({"x": x, "labels": np.eye(20, 4), "classes": np.array(list("dcba"))})
    moved, note = run.model.conditions.matched(wide)
    assert note == "The labels d are left out, which the run does not have."
    np.testing.assert_array_equal(moved.annotations.sets, np.eye(20, 4)[:, [3, 2, 1]] > 0)


# The same data elsewhere


def test_a_run_goes_on_with_the_same_data_in_another_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    for i in range(6):
        place = tmp_path / "pics" / f"{i % 2}" / f"{i}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), 40 * i).save(place)

    def go_on(source: str, steps: int) -> int:
        flags = ["--steps", str(steps), "--samples", "0", "--device", "cpu", "--batch-size", "4"]
        return main(["train", "--data", source, "--out", "run", *flags])

    assert go_on("pics", 2) == 0
    assert go_on("./pics", 3) == 0
    assert go_on(str(tmp_path / "pics") + "/", 4) == 0
    (tmp_path / "pics").rename(tmp_path / "moved")
    assert go_on("moved", 5) == 0
    run = ornstein.load("run")
    assert run.settings["data"] == run.spec.source == "moved"
    assert len({line["step"] for line in run.metrics()}) == 5
    Image.new("L", (8, 8), 3).save(tmp_path / "moved" / "0" / "0.png")
    assert go_on("moved", 6) == 2


def test_a_run_of_classes_in_the_order_of_text_goes_on(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(20, 2))
    now = ornstein.data.dataset_of((x, np.array(["0", "1", "10", "2"] * 5)))
    old, _ = now.with_classes(("0", "1", "10", "2"))
    out: dict[str, Any] = {"out": tmp_path / "run", "preset": "tiny", "device": "cpu"}
    ornstein.train(old, steps=2, **out)
    run = ornstein.train(now, steps=3, **out)
    assert run.spec.classes == ("0", "1", "10", "2")
    assert run.metrics()[-1]["step"] == 3
    unlabelled = ornstein.data.dataset_of(x)
    ornstein.train(unlabelled, steps=2, **(out | {"out": tmp_path / "plain"}))
    assert ornstein.train(now, steps=3, **(out | {"out": tmp_path / "plain"})).spec.classes == ()
