"""From a file to a run and back: samples are the same kind of file, which is measured as such."""

import json
from pathlib import Path

import numpy as np
import pytest

from ornstein import data
from ornstein.cli import main

WAVES = np.sin(0.4 * np.arange(12) + np.random.default_rng(0).uniform(0, 6, (204, 1))) * 1000
CPU = ["--device", "cpu"]


def long(folder: Path) -> tuple[str, str, list[str]]:
    rows = [f"s{i},{t},{wave[t]:.1f}\n" for i, wave in enumerate(WAVES) for t in range(12)]
    (folder / "a.csv").write_text("shop,hour,sold\n" + "".join(rows))
    return str(folder / "a.csv"), str(folder / "out.csv"), ["--time", "hour", "--id", "shop"]


def hdf5(folder: Path) -> tuple[str, str, list[str]]:
    h5py = pytest.importorskip("h5py")
    with h5py.File(folder / "a.h5", "w") as file:
        file["waves"] = WAVES.astype("f4")
        file["more"] = WAVES
    return f"{folder / 'a.h5'}?waves", str(folder / "out.h5"), ["--layout", "NL"]


def sound(folder: Path) -> tuple[str, str, list[str]]:
    soundfile = pytest.importorskip("soundfile")
    (folder / "in").mkdir()
    for i, wave in enumerate(WAVES):
        soundfile.write(folder / f"in/{i}.wav", wave.astype("i2"), 8000, subtype="PCM_16")
    return str(folder / "in"), str(folder / "out"), []


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("make", [long, hdf5, sound])
def test_samples_are_files_of_the_kind_of_the_data(make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    source, out, flags = make(tmp_path)
    run = str(tmp_path / "run")
    words = [
        "train",
        "--data",
        source,
        "--out",
        run,
        "--steps",
        "2",
        "--samples",
        "0",
        "--preset",
        "tiny",
        "--batch-size",
        "8",
    ]
    assert main([*words, *flags, *CPU]) == 0
    sample = ["sample", run, "-n", "100", "--steps", "2", *CPU]
    assert main([*sample, "--out", out]) == 0
    assert main([*sample, "--out", str(tmp_path / "plain.npz")]) == 0
    like = json.loads((tmp_path / "run/model/config.json").read_text())["data"]
    spec = data.DataSpec.from_json(like)
    made, plain = data.open(out, like=spec), np.load(tmp_path / "plain.npz")["samples"]
    assert (made.spec.layout, made.spec.dtype) == (spec.layout, spec.dtype)
    np.testing.assert_allclose(made.items, plain, atol=0.051 if make is long else 1e-3)  # to the decimals of the table
    words = ["evaluate", run, "--data", source, "--samples", out, "--metrics", "sliced-wasserstein", *CPU]
    assert main([*words, "--out", str(tmp_path / "e.json")]) == 0
    assert json.loads((tmp_path / "e.json").read_text())["samples"]["count"] == 100
