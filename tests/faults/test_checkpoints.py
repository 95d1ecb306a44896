"""Bits flipped, tails zeroed and files cut in checkpoints: all found, the one before is used, one sentence says so."""

import dataclasses
import shutil
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch

from ornstein import data
from ornstein.folder import checkpoints
from ornstein.settings import Settings
from ornstein.training import checkpoint
from ornstein.training.checkpoint import State
from ornstein.training.trainer import FolderTraining

ALL = [*checkpoints.FILES, *checkpoints.LEARNED]


def damaged(content: bytes, rng: Random) -> bytes:
    """The same bytes with a fault; never the same."""
    found = bytearray(content)
    at = rng.randrange(len(found))
    match rng.randrange(5):
        case 0:
            found[at] ^= 1 << rng.randrange(8)
        case 1:
            found[at:] = bytes(len(found) - at)
        case 2:
            del found[at:]
        case 3:
            del found[at]
        case _:
            found += rng.randbytes(rng.randrange(1, 9))
    return damaged(content, rng) if found == content else bytes(found)


@pytest.fixture(scope="module")
def settings(points: Path, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Of a run that has come to its end, whichever test asks first."""
    out = tmp_path_factory.mktemp("run") / "run"
    found = Settings(
        data=str(points), out=str(out), steps=6, batch_size=4, preset="tiny", samples=0, save_every=1, keep=3
    )
    list(FolderTraining(found, data.open(points)))
    return found


def tensors(state: State) -> dict[str, torch.Tensor]:
    found = {f"{k}.{name}": t for k in ("network", "average") for name, t in getattr(state, k).state_dict().items()}
    return found | checkpoint._optimizer_tensors(state.optimizer)


def test_damage_is_found_and_the_checkpoint_before_is_used(settings: Settings, points: Path, cases: Any) -> None:
    run = FolderTraining(settings, data.open(points))
    list(run)
    folder = run.folder / "checkpoints"
    newest, before, _ = checkpoints.checkpoints(folder)
    state, aside = run.state, newest.with_name(newest.name + ".damaged")
    checkpoint._load(before, state)
    expected = {name: tensor.clone() for name, tensor in tensors(state).items()}
    counters = state.counters()
    for rng in cases(100, 5000):
        file = newest / rng.choice([*ALL, "sha256.json"])
        good = file.read_bytes()
        file.write_bytes(damaged(good, rng))
        told: list[str] = []
        checkpoint._load(_, state)
        assert checkpoint.restore(folder, state, told.append) == before
        assert len(told) == 1
        assert "is damaged" in told[0]
        assert "\n" not in told[0]
        assert state.counters() == counters
        assert all(torch.equal(tensor, expected[name]) for name, tensor in tensors(state).items())
        aside.rename(newest)
        file.write_bytes(good)
    assert checkpoints.damage(newest) is None


def test_sums_whose_white_space_changed_are_damage(settings: Settings, tmp_path: Path) -> None:
    place = next(checkpoints.checkpoints(Path(settings.out) / "checkpoints"))
    copy = shutil.copytree(place, tmp_path / place.name)
    sums = (copy / "sha256.json").read_bytes()
    (copy / "sha256.json").write_bytes(sums.replace(b" ", b"\t", 1))
    assert checkpoints.damage(copy) == "sha256.json is not as it was written"


@pytest.mark.parametrize("gone", [*ALL, "sha256.json"])
def test_a_missing_file_is_damage(settings: Settings, tmp_path: Path, gone: str) -> None:
    place = next(checkpoints.checkpoints(Path(settings.out) / "checkpoints"))
    copy = shutil.copytree(place, tmp_path / place.name)
    assert checkpoints.damage(copy) is None
    (copy / gone).unlink()
    assert checkpoints.damage(copy) is not None
    (copy / gone).mkdir()
    assert checkpoints.damage(copy) is not None


def test_pruning_never_counts_a_damaged_checkpoint(settings: Settings, tmp_path: Path, cases: Any) -> None:
    """After each save the newest `keep` whole ones are there, whatever happened to the others."""
    original = Path(settings.out) / "checkpoints"
    places = [p.name for p in checkpoints.checkpoints(original)]
    for number, rng in enumerate(cases(12, 300)):
        folder, keep = tmp_path / str(number), rng.randrange(1, 4)
        folder.mkdir()
        names = [f"step-{step:08d}" for step in range(1, 7)]
        for name in names:
            shutil.copytree(original / places[0], folder / name)
        broken = rng.sample(names, rng.randrange(len(names)))
        for name in broken:
            file = folder / name / rng.choice(ALL)
            file.write_bytes(damaged(file.read_bytes(), rng))
        whole = [name for name in names if name not in broken]
        checkpoints.prune(folder, keep)
        assert [p.name for p in checkpoints.checkpoints(folder) if p.name in whole] == whole[::-1][:keep]
        oldest = whole[-min(keep, len(whole))]
        left = {p.name for p in folder.iterdir()}
        assert left == {name for name in names if name >= oldest} or len(names) <= keep or len(whole) < keep
        shutil.rmtree(folder)


def test_a_run_goes_on_from_before_the_damage_and_ends_bit_identical(
    settings: Settings, points: Path, tmp_path: Path
) -> None:
    def end(out: Path) -> dict[str, torch.Tensor]:
        run = FolderTraining(dataclasses.replace(settings, out=str(out)), data.open(points), lambda _: None)
        list(run)
        return tensors(run.state)

    whole = end(tmp_path / "whole")
    end(tmp_path / "broken")
    newest, before, _ = checkpoints.checkpoints(tmp_path / "broken" / "checkpoints")
    for place in (newest, before):
        (place / "weights.safetensors").write_bytes(b"no")
    again = end(tmp_path / "broken")
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_other_files_of_a_run_that_are_damaged_are_mended_or_named(
    settings: Settings, points: Path, tmp_path: Path, cases: Any, run: Any
) -> None:
    """The same command again: it ends well, or one sentence names the file."""
    original = Path(settings.out)
    for number, rng in enumerate(cases(4, 200)):
        out = tmp_path / str(number)
        shutil.copytree(original, out)
        files = [f for f in sorted(out.rglob("*")) if f.is_file() and f.parent.parent.name != "checkpoints"]
        file = rng.choice([f for f in files if f.stat().st_size])
        file.write_bytes(damaged(file.read_bytes(), rng))
        words = ["--data", str(points), "--steps", "6", "--batch-size", "4", "--preset", "tiny", "--samples", "0"]
        done = run(["train", *words, "--out", str(out), "--save-every", "1", "--keep", "3"])
        assert done.code in (0, 1, 2), (file, done)
        if done.code:
            assert file.name in done.sentence or str(out) in done.sentence, (file, done)
        shutil.rmtree(out)
