"""Kinds of data × commands: what a run was trained on comes back from all of them in its axes, type and units.

Each cell trains, samples, reads the samples back, scores held-out, doubled and moved data, measures a likelihood and edits one
item. A few cells run always, with a few steps; all of them with 50 steps in the slow suite.
"""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import ornstein
from ornstein.cli import main
from ornstein.data import open as open_source

TYPES = ("uint8", "uint16", "int16", "int64", "float32", "bool")
LAYOUTS = ("ND", "N", "NHWC", "NHW", "NCHW", "NCL", "NLC", "NL", "NCDHW", "NDHWC", "NDHW")
SHAPES = {"ND": (3,), "N": (), "NHWC": (8, 8, 3), "NHW": (8, 8), "NCHW": (3, 8, 8), "NCL": (2, 24), "NLC": (24, 2)}
SHAPES |= {"NL": (24,), "NCDHW": (2, 8, 8, 8), "NDHWC": (8, 8, 8, 2), "NDHW": (8, 8, 8)}
FAST = [("float32", "ND"), ("float32", "NCHW"), ("uint16", "NCL")]


def made(dtype: str, layout: str, count: int, seed: int) -> NDArray[np.generic]:
    """Items that are alike and not the same: smooth, each around a level of its own, with a scale for each channel."""
    rng = np.random.default_rng(seed)
    shape = SHAPES[layout]
    level = 0.5 + 0.15 * rng.normal(size=(count, *(1,) * len(shape))) + 0.05 * rng.normal(size=(count, *shape))
    level = np.clip(level, 0.02, 0.98)
    if dtype == "bool":
        return np.asarray(level > 0.5)
    top = {"uint8": 120, "uint16": 2000, "int16": 2000, "int64": 50_000}.get(dtype)
    if top is not None:
        return np.rint(level * top).astype(dtype)
    axis = layout.index("C") if "C" in layout else None
    units = np.array([1.0, 9.0, 1150.0])[: shape[axis - 1] if axis else 1]
    scale = units.reshape([-1 if i == axis else 1 for i in range(len(layout))]) if axis else units[0]
    return (scale * (50 + level)).astype(dtype)


def said(capsys: pytest.CaptureFixture[str]) -> str:
    captured = capsys.readouterr()
    return captured.out + captured.err


def cell(dtype: str, layout: str, steps: int, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train, held = made(dtype, layout, 160, 0), made(dtype, layout, 120, 1)
    np.save(folder / "train.npy", train)
    np.savez(folder / "held.npz", x=held)
    run, small = str(folder / "run"), ["--preset", "tiny", "--batch-size", "8", "--device", "cpu"]
    words = ["train", "--data", str(folder / "train.npy"), "--layout", layout, "--out", run, "--steps", str(steps)]
    assert main([*words, *small, "--samples", "4"]) == 0
    assert "become" in said(capsys)
    trained = ornstein.load(run)
    assert trained.spec.layout == layout

    # what comes out is what went in: axes, type, range
    out = folder / "samples.npz"
    assert main(["sample", run, "-n", "6", "--steps", "3", "--out", str(out), "--device", "cpu"]) == 0
    samples = np.load(out)["samples"]
    assert (samples.shape, samples.dtype) == ((6, *train.shape[1:]), train.dtype)
    if dtype != "float32" and (trained.spec.mean or layout in ("ND", "N")):
        assert train.min() <= samples.min()
        assert samples.max() <= train.max()
    assert np.array_equal(open_source(out, layout=layout).items, samples)
    files = folder / "each"
    assert main(["sample", run, "-n", "2", "--steps", "3", "--out", str(files), "--device", "cpu"]) == 0
    assert len(list(files.glob("0000*"))) == 2
    if trained.spec.traits.drawn:
        assert (
            main(["sample", run, "-n", "4", "--steps", "3", "--out", str(folder / "sheet.png"), "--device", "cpu"]) == 0
        )

    # held-out data, doubled and moved: in the units of the run
    np.savez(folder / "as.npz", samples=train[:120])
    distances = {}
    wide = train.dtype if dtype == "float32" else np.dtype("int64")
    held_wide = held.astype(wide)
    spread = int(np.ptp(held_wide)) if wide.kind == "i" else float(np.ptp(held_wide))
    others = {"right": held, "doubled": 2 * held_wide + 3, "moved": held_wide + 2 * spread}
    said(capsys)
    for name, other in others.items():
        np.save(folder / f"{name}.npy", other)
        words = ["--samples", str(folder / "as.npz"), "--metrics", "sliced-wasserstein", "--features", "pixels"]
        result = folder / f"{name}.json"
        words += ["--data", str(folder / f"{name}.npy"), "--out", str(result), "--device", "cpu"]
        assert main(["evaluate", run, *words]) == 0
        lines = said(capsys)
        distances[name] = json.loads(result.read_text())["scores"][0]["value"]
        low, high = (trained.spec.low, trained.spec.high)
        if other.max() > high or other.min() < low:
            assert re.search(r"numbers of .* lie outside the range of the training data", lines)
    assert distances["doubled"] > 5 * distances["right"]
    assert distances["moved"] > 5 * distances["right"]

    # a likelihood of held-out data, and of the same numbers in another type
    words = ["likelihood", run, "-n", "3", "--steps", "12", "--device", "cpu"]
    means = []
    for name in ("right", "wide"):
        np.save(folder / "wide.npy", held.astype("float64"))
        result = folder / f"likelihood-{name}.json"
        assert main([*words, "--data", str(folder / f"{name}.npy"), "--out", str(result)]) == 0
        means.append(json.loads(result.read_text())["rows"]["−log p"]["mean"])
    assert means[0] == pytest.approx(means[1], rel=1e-3, abs=1e-3)

    # one item, with its first axis and without
    for name, item in (("alone", held[0]), ("first", held[:1])):
        np.save(folder / f"{name}.npy", item)
        edited = folder / f"{name}-edited.npz"
        words = ["edit", run, str(folder / f"{name}.npy"), "--strength", "0.3", "--steps", "3", "--out", str(edited)]
        assert main([*words, "--device", "cpu"]) == 0
        array = np.load(edited)["samples"]
        assert (array.shape, array.dtype) == ((1, *held.shape[1:]), held.dtype)


LABELS = {
    "by name": (["cat", "dog", "eel"], "dog"),
    "by number from 1": ([1, 2, 10], "2"),
    "partly": ([3.0, 7.0, np.nan], "7"),
}


@pytest.mark.parametrize(
    "layout", ["ND", *(pytest.param(name, marks=pytest.mark.slow) for name in ("NCHW", "NHW", "NCL", "NCDHW"))]
)
@pytest.mark.parametrize("kind", LABELS)
def test_labels_are_those_of_the_data_in_all_commands(
    kind: str, layout: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A label on the command line is one of the data, whatever its place; held-out data are matched by it, and may lack one."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    values, label = LABELS[kind]
    rows = np.arange(150) % 3
    train, held = made("float32", layout, 150, 0), made("float32", layout, 150, 1)
    np.savez(tmp_path / "train.npz", x=train, y=np.array(values)[rows])
    some = rows != 0  # the first class is not in the held-out data
    np.savez(tmp_path / "held.npz", x=held[some], y=np.array(values)[rows[some]])
    run, cpu = str(tmp_path / "run"), ["--device", "cpu"]
    words = ["train", "--data", str(tmp_path / "train.npz"), "--out", run, "--steps", "2", "--samples", "0", *cpu]
    assert main([*words, "--layout", layout, "--preset", "tiny", "--batch-size", "8"]) == 0
    trained = ornstein.load(run)
    names = tuple(str(int(value)) if isinstance(value, float) else str(value) for value in values if value == value)
    assert trained.spec.classes == names
    place = names.index(label)
    out = str(tmp_path / "s.npz")
    assert main(["sample", run, "-n", "3", "--steps", "3", "--label", label, "--out", out, *cpu]) == 0
    expected = trained.sample(3, steps=3, label_index=place)
    np.testing.assert_allclose(np.load(out)["samples"], expected, rtol=1e-4)
    said(capsys)
    assert main(["sample", run, "-n", "3", "--steps", "3", "--label", "0", "--out", str(tmp_path / "t.npz"), *cpu]) == 2
    assert "0" in said(capsys)  # a place is no label

    words = ["likelihood", run, "-n", "4", "--steps", "12", "--data", str(tmp_path / "held.npz"), *cpu]
    assert main([*words, "--out", str(tmp_path / "l.json")]) == 0
    assert np.isfinite(json.loads((tmp_path / "l.json").read_text())["rows"]["−log p"]["mean"])
    words = ["evaluate", run, "--data", str(tmp_path / "held.npz"), "-n", "100", "--steps", "2", *cpu]
    words += ["--metrics", "sliced-wasserstein", "--features", "pixels", "--out", str(tmp_path / "e.json")]
    said(capsys)
    assert main(words) == 0
    np.save(tmp_path / "item.npy", held[1])
    words = ["edit", run, str(tmp_path / "item.npy"), "--strength", "0.4", "--steps", "2", "--label", label, *cpu]
    assert main([*words, "--out", str(tmp_path / "edited.npz")]) == 0
    edited = trained.edit(held[1], strength=0.4, steps=2, label=values[place])
    np.testing.assert_allclose(np.load(tmp_path / "edited.npz")["samples"], edited, rtol=1e-4)


@pytest.mark.parametrize(("dtype", "layout"), FAST)
def test_a_kind_of_data_through_all_commands(
    dtype: str, layout: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    cell(dtype, layout, 2, tmp_path, capsys)


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", TYPES)
def test_every_kind_of_data_through_all_commands(
    dtype: str, layout: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    cell(dtype, layout, 50, tmp_path, capsys)
