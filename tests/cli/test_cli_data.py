"""`ornstein data` of sources besides tables, and `ornstein sample --size`."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import ornstein
from ornstein.cli import main


def shown(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    code = main(["data", *map(str, words)])
    captured = capsys.readouterr()
    return captured.out if code == 0 else captured.err


@pytest.mark.filterwarnings("ignore:1 items have no caption")
def test_what_items_have_besides_a_class_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows: list[dict[str, Any]] = [
        {"labels": ["red", "round; thing"], "text": 'a "thing", ü', "conditions": [1.0, 2.0]},
        {"labels": ["red"], "text": "", "conditions": [0.0, 1.0]},
    ]
    for number, row in enumerate(rows):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / f"{number}.png")
        row["file_name"] = f"{number}.png"
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    out = shown(capsys, tmp_path)
    assert "any of 2: red, round; thing" in out
    assert "2 numbers each" in out
    assert "of 1 items, such as 'a \"thing\", ü'" in out


def test_what_a_training_is_told_of_the_data_can_be_told_here(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "long.csv"
    table.write_text("store,day,sold\n" + "".join(f"{i},{t},{i + t}.5\n" for i in range(4) for t in range(6)))
    assert "4 series, length 6, 1 channel" in shown(capsys, table, "--time", "day", "--id", "store")
    assert "8 series, length 3, 1 channel" in shown(capsys, table, "--time", "day", "--id", "store", "--crop", 3)
    assert "table of rows; leave it out, or give --time and --id" in shown(capsys, table, "--crop", 3)
    items = np.random.default_rng(0).normal(size=(20, 2, 16))
    np.save(tmp_path / "x.npy", items)
    assert "say which by --layout NCL" in shown(capsys, tmp_path / "x.npy")
    assert "20 series, length 16, 2 channels" in shown(capsys, tmp_path / "x.npy", "--layout", "NCL")
    items[3, 1, 2] = np.nan
    np.save(tmp_path / "x.npy", items)
    assert "mend it, or take NaN for missing numbers by --missing mask" in shown(
        capsys, tmp_path / "x.npy", "--layout", "NCL"
    )
    assert "no part of the loss" in shown(capsys, tmp_path / "x.npy", "--layout", "NCL", "--missing", "mask")


def test_samples_of_other_lengths_than_the_trained_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    items, place = np.random.default_rng(0).normal(size=(20, 2, 16)).astype(np.float32), tmp_path / "run"
    settings: dict[str, Any] = {"layout": "NCL", "preset": "tiny", "batch_size": 4, "samples": 0, "device": "cpu"}
    run = ornstein.train(items, out=place, steps=2, **settings)
    words = ["sample", str(place), "-n", "2", "--steps", "2", "--device", "cpu", "--out", str(tmp_path / "x.npz")]
    assert main([*words, "--size", "29"]) == 0
    made = np.load(tmp_path / "x.npz")["samples"]
    assert made.shape == (2, 2, 29)
    np.testing.assert_array_equal(made, run.sample(2, shape=(29,), steps=2))
    capsys.readouterr()
    for size, says in (("3,4", "give a whole number"), ("long", "give a whole number"), ("0", "give a whole number")):
        assert main([*words, "--size", size]) == 2
        assert says in capsys.readouterr().err
    assert main([*words, "--size", "40"]) == 2  # not what the file holds
    assert main([*words, "--size", "40", "--force"]) == 0
    assert np.load(tmp_path / "x.npz")["samples"].shape == (2, 2, 40)
    capsys.readouterr()
    past = ornstein.train(items, out=tmp_path / "past", steps=2, given="past:4", **settings)
    words[1] = str(past.folder)
    assert main([*words, "--size", "40", "--force"]) == 2
    assert "--size: the condition of" in capsys.readouterr().err
