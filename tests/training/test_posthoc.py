"""Averages after the training: profiles against quadrature, closed forms, and an average tracked in a run."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import ornstein
from ornstein import data
from ornstein.cli import main
from ornstein.errors import OrnsteinError, UsageError
from ornstein.files.lock import hold
from ornstein.folder import checkpoints, posthoc
from ornstein.folder.posthoc import Profile
from ornstein.settings import Settings
from ornstein.training import ema
from ornstein.training.trainer import FolderTraining

SETTINGS = Settings(steps=60, batch_size=16, samples=0, preset="tiny", snapshots=9)
Train = Callable[..., Path]


@pytest.fixture(scope="module")
def train(tmp_path_factory: pytest.TempPathFactory) -> Train:
    """train(out, stop_after=None, **changes) -> out: a run on points in the plane."""
    file = tmp_path_factory.mktemp("points") / "points.npy"
    np.save(file, np.random.default_rng(0).normal(size=(200, 2)))
    points = data.open(str(file))

    def run(out: Path, stop_after: int | None = None, **changes: object) -> Path:
        training = FolderTraining(dataclasses.replace(SETTINGS, data=str(file), out=str(out), **changes), points)  # type: ignore[arg-type]
        for event in training:
            if event.progress.step == stop_after:
                training.stop()
        return out

    return run


@pytest.fixture(scope="module")
def trained(train: Train, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("posthoc") / "run")


def newest(folder: Path, name: str) -> dict[str, Tensor]:
    return load_file(next(checkpoints.checkpoints(folder / "checkpoints")) / f"{name}.safetensors")


def distance(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> float:
    """Of all weights, relative to their norm."""
    difference = sum(float((one[name] - other[name]).double().square().sum()) for name in one)
    return math.sqrt(difference / sum(float(tensor.double().square().sum()) for tensor in other.values()))


def test_inner_products_are_the_integrals() -> None:
    n, gamma = np.array([1.0, 1.0, 0.7, 0.31]), np.array([posthoc.exponent(x) for x in (0.1, 0.05, 0.1, 0.2)])
    tau = (np.arange(400_000) + 0.5) / 400_000
    profiles = np.where(tau < n[:, None], (gamma[:, None] + 1) * (tau / n[:, None]) ** gamma[:, None] / n[:, None], 0)
    np.testing.assert_allclose(posthoc.inner_products(n, gamma), profiles @ profiles.T / len(tau), rtol=1e-4)


def schedule(last: int, ratio: float, count: int, lengths: tuple[float, ...] = (0.1, 0.05)) -> list[Profile]:
    times = [last, *(math.ceil(last * ratio ** -(k + 0.5)) for k in range(count))]
    return [Profile(length, n) for n in times for length in lengths]


@pytest.mark.parametrize("length", [0.04, 0.07, 0.13, 0.18])
def test_polynomials_are_averaged_as_in_closed_form(length: float) -> None:
    """θ(τ) = 1 + (τ/n)^k has the average 1 + (γ + 1)/(γ + k + 1): known of the parts, wanted of the sum."""
    last, errors = 100_000, []
    for ratio, count in ((1.5, 5), (1.15, 12), (1.05, 36)):
        known = schedule(last, ratio, count)
        found = posthoc.fit(known, Profile(length, last))
        assert found.coefficients.sum() == pytest.approx(1, abs=1e-9)

        def mean(profile: Profile, k: int) -> float:
            gamma = posthoc.exponent(profile.length)
            return 1 + (profile.updates / last) ** k * (gamma + 1) / (gamma + k + 1)

        exact = np.array([mean(Profile(length, last), k) for k in range(1, 5)])
        sums = [sum(c * mean(p, k) for c, p in zip(found.coefficients, known, strict=True)) for k in range(1, 5)]
        errors.append((found.error, float(np.abs(sums / exact - 1).max())))
    assert errors[1][1] < 1e-3
    assert errors[0][0] > errors[1][0] > errors[2][0]  # more snapshots, nearer profiles
    assert errors[0][1] > errors[2][1]


def test_discrete_updates_weigh_by_the_integral_of_the_profile() -> None:
    values, average = torch.randn(300, 3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    gamma = posthoc.exponent(0.07)
    for step, value in enumerate(values, 1):
        ema.update([average], [value], step, gamma)
    levels = (torch.arange(301, dtype=torch.float64) / 300) ** (gamma + 1)
    torch.testing.assert_close(average, levels.diff() @ values, rtol=1e-9, atol=1e-12)


def test_what_is_tracked_is_itself() -> None:
    known = schedule(1000, 1.15, 12)
    found = posthoc.fit(known, Profile(0.05, 1000))
    assert found.error == 0
    assert found.coefficients.tolist() == [0, 1, *[0] * 24]


def test_snapshots_are_due_at_powers_of_the_ratio() -> None:
    times = [n for n in range(20_000) if posthoc.due(n)]
    assert times[0] >= 8
    expected = {math.ceil(posthoc.RATIO**k) for k in range(80)}
    assert times == sorted(n for n in expected if 8 <= n < 20_000)


@pytest.mark.parametrize("length", [0.06, 0.14])
def test_another_length_is_the_average_a_run_would_have_tracked(
    tmp_path: Path, train: Train, trained: Path, length: float
) -> None:
    """The same run with that `ema` learns the same weights, and its own average is what is wanted."""
    direct = train(tmp_path / "direct", ema=length)
    weights = newest(trained, "weights")
    assert all(torch.equal(weights[name], tensor) for name, tensor in newest(direct, "weights").items())
    wanted = newest(direct, "average")
    before = posthoc.snapshots(trained / "averages")
    found = ornstein.load(trained).averages().average(length)
    assert distance(found, wanted) < 1e-3
    assert distance(found, wanted) < 0.1 * distance(newest(trained, "average"), wanted)
    few = tmp_path / "few"
    few.mkdir()
    for file in before[::5]:
        (few / file.name).write_bytes(file.read_bytes())
    fewer = dataclasses.replace(ornstein.load(trained).averages(), folder=few)
    assert distance(fewer.average(length), wanted) > distance(found, wanted)


def test_snapshots_of_a_run_that_goes_on_are_those_of_the_unbroken_one(
    tmp_path: Path, train: Train, trained: Path
) -> None:
    parts = train(tmp_path / "parts", stop_after=30)
    stray = parts / "averages" / "update-00000031.safetensors"
    stray.write_bytes(b"of a run that was killed after its last checkpoint")
    train(parts)
    files = posthoc.snapshots(trained / "averages")
    assert [file.name for file in posthoc.snapshots(parts / "averages")] == [file.name for file in files]
    for file in files:
        assert (parts / "averages" / file.name).read_bytes() == file.read_bytes()
    assert not [file for file in (parts / "averages").iterdir() if file.name.startswith(".")]


def test_the_number_of_snapshots_is_bounded_and_none_may_be_kept(tmp_path: Path, train: Train, trained: Path) -> None:
    assert len(posthoc.snapshots(trained / "averages")) == 9
    default = ornstein.load(train(tmp_path / "default", snapshots=Settings().snapshots))
    assert len(posthoc.snapshots(default.folder / "averages")) == 4
    shortest, longest = default.averages().reach()
    assert shortest < 0.03
    assert longest > 0.2
    assert all(default.averages().error(length) < 0.06 for length in (0.05, 0.07, 0.1, 0.14))
    none = ornstein.load(train(tmp_path / "none", steps=20, snapshots=0))
    assert not none.averages().folder.exists()
    with pytest.raises(UsageError, match="reach from"):
        none.ema(0.2)
    assert torch.equal(none.averages().average(0.05)["head.weight"], newest(tmp_path / "none", "half")["head.weight"])


def test_a_damaged_snapshot_is_named(tmp_path: Path, train: Train) -> None:
    run = train(tmp_path / "run", steps=20)
    newest = posthoc.snapshots(run / "averages")[0]
    whole = newest.read_bytes()
    for content in (whole[:-2] + bytes([whole[-2] ^ 4, whole[-1]]), whole[: len(whole) // 2], b""):
        newest.write_bytes(content)
        with pytest.raises(OrnsteinError, match=newest.name):
            ornstein.load(run).ema(0.07)
    newest.unlink()
    ornstein.load(run).ema(0.07)


def test_the_command_writes_the_model_and_lists(
    tmp_path: Path, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "long"
    assert main(["ema", str(trained), "--length", "0.14", "--out", str(out)]) == 0
    assert "Sample it" in capsys.readouterr().out
    made = ornstein.load(out)
    expected = ornstein.load(trained).averages().average(0.14)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in made.model.network.named_parameters())
    assert "length 0.14" in (out / "model" / "README.md").read_text()
    assert made.sample(3, steps=2).shape == (3, 2)
    assert main(["ema", str(trained), "--list"]) == 0
    assert "9 of both" in capsys.readouterr().out
    assert main(["ema", str(trained), "--length", "0.001"]) == 2
    assert "reach from" in capsys.readouterr().err
    assert main(["ema", str(trained), "--length", "0.5"]) == 2
    assert main(["ema", str(trained)]) == 2
    assert main(["ema", str(trained), "--length", "0.1", "--out", str(out)]) == 2
    assert main(["ema", str(trained), "--length", "0.1"]) == 0  # what the training itself writes
    own = newest(trained, "average")
    model = load_file(trained / "model" / "model.safetensors")
    assert all(torch.equal(model[name], tensor) for name, tensor in own.items())


def test_a_run_that_is_held_keeps_its_model(tmp_path: Path, train: Train) -> None:
    """The average that is written is that of the newest checkpoint, and none is while the run is being trained."""
    run = train(tmp_path / "run", steps=20)
    before = (run / "model" / "model.safetensors").read_bytes()
    early = ornstein.load(run)
    with hold(run), pytest.raises(OrnsteinError, match=r"is being trained by process \d+ on .*; wait for it"):
        early.ema(0.07)
    assert (run / "model" / "model.safetensors").read_bytes() == before
    train(run, steps=40)
    assert "for 40 steps" in (early.ema(0.07).folder / "model" / "README.md").read_text()


def test_the_same_average_into_the_same_folder_is_there_already(tmp_path: Path, trained: Path) -> None:
    out = tmp_path / "long"
    made = ornstein.load(trained).ema(0.14, out)
    before = {file: file.stat().st_mtime_ns for file in out.rglob("*")}
    assert ornstein.load(trained).ema(0.14, out).weights_hash == made.weights_hash
    assert {file: file.stat().st_mtime_ns for file in out.rglob("*")} == before
    with pytest.raises(UsageError, match="is not empty; give a new folder"):
        ornstein.load(trained).ema(0.13, out)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes").write_text("mine")
    with pytest.raises(UsageError, match="is not empty; give a new folder"):
        ornstein.load(trained).ema(0.14, tmp_path / "mine")
    assert [file.name for file in tmp_path.rglob("*") if file.name.startswith(".")] == []


def test_files_that_are_somebody_elses_are_neither_removed_nor_replaced(tmp_path: Path, train: Train) -> None:
    """Of the names of snapshots and checkpoints."""
    out = tmp_path / "run"
    averages, stored = out / "averages", out / "checkpoints"
    train(train(out, steps=12), steps=13)
    (tmp_path / "notes").write_text("mine")
    mine = [averages / f"update-{number:08d}.safetensors" for number in (1, 14, 15, 17)]
    for file in mine[:2]:
        save_file({"mine": torch.ones(2)}, file)
    mine[2].mkdir()
    mine[3].symlink_to(tmp_path / "notes")
    for name in ("step-00000001", "step-00000002", "step-00000099", "step-00000013.damaged"):
        (stored / name).mkdir()
        (stored / name / "notes").write_text("mine")
        mine.append(stored / name / "notes")
    (stored / "step-00000003").symlink_to(averages)
    mine.append(stored / "step-00000003")
    before = [(file.lstat(), file.read_bytes() if file.is_file() else None) for file in mine]
    (stored / "step-00000013" / "weights.safetensors").write_bytes(b"")
    train(out, steps=30, save_every=1, keep=1, snapshots=2)
    assert (stored / "step-00000013.damaged-2" / "state.json").exists()
    assert [(file.lstat(), file.read_bytes() if file.is_file() else None) for file in mine] == before
    assert [place.name for place in checkpoints.checkpoints(stored)] == ["step-00000030"]
    assert len(posthoc.snapshots(averages)) == 2
    (stored / "step-00000031").mkdir()
    (stored / "step-00000031" / "notes").write_text("mine")
    with pytest.raises(
        OrnsteinError, match="step-00000031 is no checkpoint, and one is to be written there; move it away"
    ):
        train(out, steps=31)
    assert (stored / "step-00000031" / "notes").read_text() == "mine"
