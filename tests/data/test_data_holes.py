"""Missing numbers: with missing="mask" NaN is neither scaled by, nor seen, nor learned; without it NaN is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch

import ornstein
from ornstein import data
from ornstein.cli import main
from ornstein.data import dataset_of
from ornstein.errors import OrnsteinError, UsageError
from ornstein.folder import config
from ornstein.learn import Trainer
from ornstein.objective import TIMES, WEIGHTS, Objective
from ornstein.path import Cosine, Linear, VariancePreserving
from ornstein.target import Clean, Noise, Velocity

SHAPES = {"ND": (5,), "NHWC": (8, 8, 3), "NCHW": (2, 8, 8), "NCL": (2, 24), "NLC": (24, 2), "NDHW": (8, 8, 8)}


def holed(layout: str, count: int = 60, part: float = 0.3) -> tuple[np.ndarray, np.ndarray]:
    """Channels of different units, whole and with holes."""
    rng = np.random.default_rng(0)
    shape = SHAPES[layout]
    whole = rng.normal(3, 2, (count, *shape)).astype(np.float32)
    if "C" in layout or layout == "ND":
        axis = layout.index("C") if "C" in layout else 1
        whole *= np.array([1, 50, 4000, 2, 9])[: whole.shape[axis]].reshape(
            [-1 if i == axis else 1 for i in range(whole.ndim)]
        )
    return whole, np.where(rng.random(whole.shape) < part, np.nan, whole).astype(np.float32)


@pytest.mark.parametrize("layout", SHAPES)
def test_missing_numbers_count_for_nothing_in_the_scale(layout: str) -> None:
    whole, holes = holed(layout)
    spec = dataset_of(holes, layout=layout, missing="mask").spec
    axes = tuple(
        i for i, axis in enumerate(layout) if axis != ("C" if "C" in layout else "D" if layout == "ND" else "")
    )
    assert spec.missing
    assert np.allclose(spec.mean, np.nanmean(holes.astype(float), axis=axes))
    assert np.allclose(spec.std, np.nanstd(holes.astype(float), axis=axes))
    assert np.allclose(spec.lows, np.nanmin(holes, axis=axes))
    assert np.allclose(spec.highs, np.nanmax(holes, axis=axes))
    assert spec.data_std == pytest.approx(1, abs=1e-3)
    assert data.DataSpec.from_json(spec.to_json()) == spec
    # data without holes are described as ever
    assert dataset_of(whole, layout=layout, missing="mask").spec == dataset_of(whole, layout=layout).spec


@pytest.mark.parametrize("layout", SHAPES)
def test_missing_numbers_are_refused_with_their_place_unless_they_are_masked(layout: str, tmp_path: Path) -> None:
    _, holes = holed(layout)
    np.save(tmp_path / "x.npy", holes)
    for source in (holes, tmp_path / "x.npy"):
        with pytest.raises(OrnsteinError, match=r"Item \d+ of .* holds NaN or infinite numbers \("):
            dataset_of(source, layout=layout)
        assert dataset_of(source, layout=layout, missing="mask").spec.missing
    holes.flat[0] = np.inf
    with pytest.raises(OrnsteinError, match=r"Item 0 of .* holds infinite numbers \("):
        dataset_of(holes, layout=layout, missing="mask")


def test_what_cannot_be_masked_is_refused(tmp_path: Path) -> None:
    holes = holed("ND")[1]
    with pytest.raises(UsageError, match="'zero' is not known; give mask"):
        dataset_of(holes, missing="zero")
    with pytest.raises(UsageError, match="floating arrays"):
        data.open("moons", missing="mask")
    with pytest.raises(UsageError, match="stream"):
        dataset_of((np.ones(3) for _ in range(20_000)), missing="mask")
    holes[:, 2] = np.nan
    with pytest.raises(OrnsteinError, match="Column 2 of memory holds no number at all"):
        dataset_of(holes, missing="mask")
    images = holed("NHWC")[1]
    for settings in ({"augment": 0.1}, {"degradation": "grey"}, {"learned_variance": True}, {"coupling": "ot"}):
        with pytest.raises(UsageError, match="leave it out, or give data without NaN"):
            Trainer(None, None, images, steps=1, missing="mask", **settings)


@pytest.mark.parametrize("path", [Linear(), Cosine(), VariancePreserving()], ids=str)
@pytest.mark.parametrize("target", [Velocity(), Noise(), Clean()], ids=str)
def test_the_loss_is_that_of_the_numbers_that_are_there(
    path: ornstein.path.Path, target: ornstein.target.Target
) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(16, 6, generator=generator)
    known = (torch.rand(16, 6, generator=generator) < 0.6).float()
    known[0] = 0
    for weight in WEIGHTS:
        draw = Objective(path, target, TIMES[0], weight).draw(x, torch.Generator().manual_seed(1))
        masked = draw.where(known)
        assert torch.equal(masked.x_t, draw.x_t * known)
        prediction = torch.randn(16, 6, generator=generator)
        errors = masked.error(prediction)
        assert errors[0] == 0
        for i in range(1, 16):
            there = known[i] > 0
            expected = draw.weight[i] * (prediction[i] - draw.q[i])[there].square().mean()
            assert float(errors[i]) == pytest.approx(float(expected), rel=1e-5)


def test_a_run_with_holes_repeats_and_samples_whole_items() -> None:
    _, holes = holed("NCL")
    run = ornstein.train(holes, layout="NCL", missing="mask", preset="tiny", steps=3, batch_size=8, device="cpu")
    again = ornstein.train(
        holes.copy(), layout="NCL", missing="mask", preset="tiny", steps=3, batch_size=8, device="cpu"
    )
    assert [line["loss"] for line in run.metrics()] == [line["loss"] for line in again.metrics()]
    samples = run.sample(4, steps=3)
    assert samples.shape == (4, *SHAPES["NCL"])
    assert np.isfinite(samples).all()
    with pytest.raises(UsageError, match="NaN"):
        run.edit(holes[:1], strength=0.5)


@pytest.mark.slow
def test_a_gaussian_with_holes_is_learned_as_the_whole_one() -> None:
    """Of holes that do not depend on the numbers, the mean and the deviation of each dimension stay what they are."""
    rng = np.random.default_rng(0)
    mean, std = np.array([5.0, -300.0]), np.array([2.0, 40.0])
    points = mean + std * rng.normal(size=(4000, 2))
    points[rng.random(points.shape) < 0.3] = np.nan
    points[0] = np.nan  # an item of nothing
    run = ornstein.train(
        points.astype(np.float32), missing="mask", steps=150, batch_size=256, device="cpu", hold_out=0.1, threads=1
    )
    samples = run.sample(1000, steps=8)
    assert np.abs((samples.mean(0) - mean) / std).max() < 0.15
    assert np.abs(samples.std(0) / std - 1).max() < 0.2


def test_the_command_writes_that_numbers_are_masked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "x.npy", holed("NCL")[1])
    words = [
        "train",
        "--data",
        str(tmp_path / "x.npy"),
        "--layout",
        "NCL",
        "--out",
        str(tmp_path / "run"),
        "--steps",
        "2",
    ]
    words += ["--preset", "tiny", "--batch-size", "4", "--device", "cpu"]
    assert main(words) == 1
    assert "holds NaN" in capsys.readouterr().err
    assert main([*words, "--missing", "mask"]) == 0
    assert "missing numbers (NaN) are 0 for the network" in capsys.readouterr().out
    assert config.read(tmp_path / "run" / "config.yaml")["missing"] == "mask"
    assert ornstein.load(tmp_path / "run").spec.missing
    assert main([*words, "--missing", "mask"]) == 0  # goes on where it is whole
    assert main(["sample", str(tmp_path / "run"), "-n", "2", "--steps", "2", "--out", str(tmp_path / "s.npz")]) == 0
    assert np.isfinite(np.load(tmp_path / "s.npz")["samples"]).all()
