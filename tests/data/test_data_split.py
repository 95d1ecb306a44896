"""A part held out of the training, and classes drawn alike."""

from pathlib import Path

import numpy as np
import pytest

import ornstein
from ornstein import data
from ornstein.cli import main
from ornstein.errors import UsageError


def test_a_part_is_held_out_of_each_class() -> None:
    digits = data.open("digits")
    learned, held = digits.split(0.1)
    assert (len(learned), len(held)) == (1797 - 180, 180)
    counts = np.bincount(digits.labels)
    assert np.abs(np.bincount(held.labels) - counts / 1797 * 180).max() <= 1
    together = np.concatenate([learned.items, held.items]).reshape(1797, -1)
    assert np.array_equal(
        together[np.lexsort(together.T)], digits.items.reshape(1797, -1)[np.lexsort(digits.items.reshape(1797, -1).T)]
    )
    again = data.open("digits").split(0.1)
    assert np.array_equal(again[1].items, held.items)
    assert again[1].spec == held.spec
    assert learned.spec == digits.spec  # what a run is known by
    assert held.spec.content_hash != digits.spec.content_hash
    assert (held.spec.low, held.spec.data_std) == (digits.spec.low, digits.spec.data_std)
    other = data.dataset_of(np.arange(40.0).reshape(20, 2)).split(0.25)
    assert [len(part) for part in other] == [15, 5]
    for wrong in (0.0, 1e-9, 1.0):
        with pytest.raises(UsageError, match="leaves some to learn from"):
            digits.split(wrong)


def test_balanced_draws() -> None:
    x = np.arange(200.0).reshape(100, 2)
    with pytest.warns(match="20 of 100 items have no label"):
        dataset = data.dataset_of({"x": x, "y": np.array([0.0] * 70 + [1] * 8 + [2] * 2 + [np.nan] * 20)})
    balanced = dataset.balanced()
    assert balanced.spec == dataset.spec
    rows = np.concatenate([balanced.drawn(0, step, 100)[1] for step in range(200)])
    shares = np.bincount(dataset.labels[rows]) / len(rows)
    assert shares == pytest.approx([0.8 / 3] * 3 + [0.2], abs=0.01)
    assert len(np.unique(rows)) == 100
    assert np.array_equal(balanced.drawn(3, 7, 9)[1], balanced.drawn(3, 7, 9)[1])
    assert not np.array_equal(balanced.drawn(3, 7, 9)[1], balanced.drawn(3, 8, 9)[1])
    with pytest.raises(UsageError, match="no classes to draw alike"):
        data.dataset_of(x).balanced()


def test_balanced_draws_of_a_table(tmp_path: Path) -> None:
    rare = ["no"] * 90 + ["yes"] * 8 + [""] * 2
    lines = [f"{i % 7}.5,{word}" for i, word in enumerate(rare)]
    (tmp_path / "people.csv").write_text("\n".join(["age,income", *lines]))
    table = data.open(tmp_path / "people.csv")
    balanced = table.balanced("income")
    drawn = [balanced.drawn(0, step, 100) for step in range(100)]
    income = np.asarray(table.items)[np.concatenate([rows for _, rows in drawn]), 1]
    assert [np.isnan(income).mean(), (income == 0).mean()] == pytest.approx([0.02, 0.49], abs=0.015)
    assert drawn[3][0].step == (0, 3)
    for wrong, reason in ((None, "--balance-by income"), ("age", "holds numbers"), ("incom", "did you mean 'income'")):
        with pytest.raises(UsageError, match=reason):
            table.balanced(wrong)
    with pytest.raises(UsageError, match="has no columns"):
        data.open("moons", limit=100).balanced("income")


@pytest.mark.slow
def test_a_balanced_model_has_the_rare_class_as_often() -> None:
    """Without conditions the model is of what it was shown: half of each class, where the data have one in twenty."""
    rng = np.random.default_rng(0)
    y = (np.arange(2000) % 20 == 0).astype(int)
    x = rng.normal(size=(2000, 1)) * 0.2 + 4.0 * y[:, None]
    run = ornstein.train((x, y), steps=400, balance=True, preset="tiny", batch_size=256, conditions=(), device="cpu")
    assert (run.sample(500) > 2).mean() == pytest.approx(0.5, abs=0.12)


@pytest.mark.slow
def test_the_command_holds_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    flags = [
        "--steps",
        "3",
        "--samples",
        "0",
        "--device",
        "cpu",
        "--batch-size",
        "16",
        "--hold-out",
        "0.2",
        "--balance",
    ]
    assert main(["train", "--data", "moons", "--out", "run", *flags]) == 0
    assert main(["train", "--data", "moons", "--out", "run", *flags[2:], "--steps", "4"]) == 0
    capsys.readouterr()
    assert main(["diagnose", "run", "--count", "100", "--levels", "1"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "Held out: 2,000 of the 10,000 items of moons, which run did not learn from." in said
    assert main(["train", "--data", "moons", "--out", "run", "--steps", "5", "--samples", "0", "--device", "cpu"]) == 2
    assert "hold_out" in capsys.readouterr().err
    assert main(["train", "--data", "moons", "--out", "other", "--hold-out", "0.95"]) == 2
    assert "hold_out" in capsys.readouterr().err


@pytest.mark.slow
def test_the_loss_on_held_out_items(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It falls with learning, is in metrics.jsonl and info, and changes nothing of what is learned."""
    from ornstein.files.reading import read_lines

    points = data.open("rings", limit=600)
    settings = {"steps": 320, "preset": "tiny", "batch_size": 64, "device": "cpu", "seed": 1}
    run = ornstein.train(points, out=tmp_path / "run", hold_out=0.5, **settings)
    lines = read_lines(tmp_path / "run" / "metrics.jsonl", ("step", "held_out"))
    assert [line["step"] for line in lines] == [10, 20, 40, 80, 160, 320]
    losses = [line["held_out"] for line in lines]
    assert losses[-1] < 0.9 * losses[0]
    assert main(["info", str(tmp_path / "run")]) == 0
    assert f"{losses[-1]:.4f} (step 320)" in capsys.readouterr().out
    learned, held = points.split(0.5)
    assert np.array_equal(ornstein.train(learned, **settings).sample(4, steps=3), run.sample(4, steps=3))
    trainer = ornstein.Trainer(None, None, points, hold_out=0.5, **settings)
    events = [event.held_out for event in trainer]
    assert [round(loss, 6) for loss in events if loss is not None] == losses
    assert events[-1] is not None
    assert len(held) == 300
