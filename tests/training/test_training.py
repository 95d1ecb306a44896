"""The training loop and its folder: repeatable, resumable bit for bit, and hard to hurt."""

import dataclasses
import json
import os
import random
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import ornstein
from ornstein import data, names
from ornstein.errors import OrnsteinError, UsageError
from ornstein.folder import checkpoints, posthoc
from ornstein.settings import Settings
from ornstein.training import continuing, ema, schedule
from ornstein.training.continuing import check_folder
from ornstein.training.trainer import FolderTraining

DIGITS = data.open("digits")


def settings(out: Path, **changes: object) -> Settings:
    base = Settings(data="digits", out=str(out), steps=6, batch_size=8, samples=0, preset="tiny")
    return dataclasses.replace(base, **changes)  # type: ignore[arg-type]


def finish(run: FolderTraining, stop_after: int | None = None) -> dict[str, torch.Tensor]:
    """All tensors of the run's newest checkpoint."""
    for event in run:
        if event.progress.step == stop_after:
            run.stop()
    place = next(checkpoints.checkpoints(run.folder / "checkpoints"))
    files = sorted(file.stem for file in place.glob("*.safetensors"))
    return {f"{name}.{k}": v for name in files for k, v in load_file(place / f"{name}.safetensors").items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


VARIANTS = {
    "plain": {},
    "accumulated, mirrored, in bf16": {"accumulate": 2, "flips": True, "precision": "bf16"},
    "edm": {"path": "edm", "target": "edm", "weight": "edm"},
    "ddpm": {"path": "ddpm", "target": "noise"},
    "everything": {"uncertainty": True, "coupling": "ot", "augment": 0.5},
}


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_a_stopped_run_goes_on_as_if_unbroken(tmp_path: Path, changes: dict[str, object]) -> None:
    whole = finish(FolderTraining(settings(tmp_path / "whole", **changes), DIGITS))
    first = finish(FolderTraining(settings(tmp_path / "parts", **changes), DIGITS), stop_after=2)
    assert not same(whole, first)
    run = FolderTraining(settings(tmp_path / "parts", **changes), DIGITS)
    assert same(whole, finish(run))
    assert run.resumed is not None
    assert run.resumed.name == "step-00000002"


def test_evaluation_does_not_touch_training(tmp_path: Path) -> None:
    plain = finish(FolderTraining(settings(tmp_path / "plain"), DIGITS))
    watched = finish(FolderTraining(settings(tmp_path / "watched", samples=8), DIGITS))
    assert same(plain, watched)
    assert list((tmp_path / "watched" / "samples").glob("*.png"))


def test_another_seed_is_another_run(tmp_path: Path) -> None:
    assert not same(
        finish(FolderTraining(settings(tmp_path / "a"), DIGITS)),
        finish(FolderTraining(settings(tmp_path / "b", seed=1), DIGITS)),
    )


def test_accumulation_leaves_the_batch_as_it_is(tmp_path: Path) -> None:
    """The same images are seen in one part or in four; only the draws of times and noise differ."""
    seen: list[list[float]] = []

    class Spy(data.Dataset):
        def batch(self, indices, flip=None, wide=False):  # type: ignore[no-untyped-def]
            seen[-1].extend(np.asarray(indices).tolist())
            return super().batch(indices, flip, wide)

    for parts in (1, 4):
        seen.append([])
        finish(
            FolderTraining(
                settings(tmp_path / str(parts), accumulate=parts), Spy(DIGITS.items, DIGITS.labels, DIGITS.spec)
            )
        )
    assert seen[0] == seen[1]
    assert len(seen[0]) == 6 * 8


def test_a_loss_falls(tmp_path: Path) -> None:
    losses = [event.progress.loss for event in FolderTraining(settings(tmp_path, steps=60, batch_size=32), DIGITS)]
    assert np.mean(losses[-10:]) < 0.75 * np.mean(losses[:5])


def test_steps_that_are_not_finite_change_nothing_and_ten_end_the_run(tmp_path: Path) -> None:
    spec = dataclasses.replace(DIGITS.spec, high=DIGITS.spec.high)
    poisoned = 3

    class Poisoned(data.Dataset):
        calls = 0

        def batch(self, indices, flip=None, wide=False):  # type: ignore[no-untyped-def]
            x, labels = super().batch(indices, flip, wide)
            type(self).calls += 1
            return (x * float("nan") if type(self).calls > poisoned else x), labels

    run = FolderTraining(settings(tmp_path, steps=50, save_every=1), Poisoned(DIGITS.items, DIGITS.labels, spec))
    seen = []
    with pytest.raises(OrnsteinError, match="10 steps in a row"):
        seen.extend(run)  # keeps what came before the error
    last = seen[-1].progress
    assert last.step == poisoned + 10
    assert last.skipped == 10
    assert all(p.isfinite().all() for p in run.state.network.parameters())
    assert all(p.isfinite().all() for p in run.state.average.parameters())


def test_a_flipped_bit_is_found_and_the_checkpoint_before_is_used(tmp_path: Path) -> None:
    run = FolderTraining(settings(tmp_path, save_every=3), DIGITS)
    finish(run)
    newest, older = checkpoints.checkpoints(tmp_path / "checkpoints")
    rng = random.Random(0)
    for name in (
        "weights.safetensors",
        "half.safetensors",
        "average.safetensors",
        "optimizer.safetensors",
        "state.json",
    ):
        file = newest / name
        content = bytearray(file.read_bytes())
        at = rng.randrange(len(content))
        content[at] ^= 1 << rng.randrange(8)
        before = file.read_bytes()
        file.write_bytes(content)
        assert checkpoints.damage(newest) == f"{name} does not have its sha256"
        file.write_bytes(before[: len(before) // 2])
        assert checkpoints.damage(newest) is not None
        file.write_bytes(before)
    assert checkpoints.damage(newest) is None
    (newest / "weights.safetensors").write_bytes(b"no")
    told: list[str] = []
    again = FolderTraining(settings(tmp_path, save_every=3), DIGITS, told.append)
    whole = finish(again)
    assert again.resumed == older
    assert len(told) == 1
    assert "set aside as step-00000006.damaged" in told[0]
    assert same(whole, finish(FolderTraining(settings(tmp_path.with_name("whole")), DIGITS)))


def test_all_damaged_is_said_in_one_sentence(tmp_path: Path) -> None:
    finish(FolderTraining(settings(tmp_path), DIGITS))
    for place in checkpoints.checkpoints(tmp_path / "checkpoints"):
        (place / "sha256.json").unlink()
    with pytest.raises(OrnsteinError, match="every checkpoint"):
        finish(FolderTraining(settings(tmp_path), DIGITS, lambda _: None))


def test_old_checkpoints_are_removed(tmp_path: Path) -> None:
    finish(FolderTraining(settings(tmp_path, save_every=1, keep=3), DIGITS))
    assert [p.name for p in checkpoints.checkpoints(tmp_path / "checkpoints")] == [f"step-{i:08d}" for i in (6, 5, 4)]
    assert not [p for p in (tmp_path / "checkpoints").iterdir() if p.name.startswith(".")]


def test_what_a_kill_kept_from_being_removed_is_removed_by_the_next_run(tmp_path):
    """Between the last checkpoint and the removal of older ones: the run is over, and nothing saves again."""
    whole = finish(FolderTraining(settings(tmp_path, save_every=1, keep=9), DIGITS))
    folder = tmp_path / "checkpoints"
    assert len(list(checkpoints.checkpoints(folder))) > 2
    newest = [place.name for place in checkpoints.checkpoints(folder)][:2]
    assert same(whole, finish(FolderTraining(settings(tmp_path, save_every=1, keep=2), DIGITS)))
    assert [place.name for place in checkpoints.checkpoints(folder)] == newest


def test_other_settings_or_other_data_are_refused_with_the_difference(tmp_path: Path) -> None:
    finish(FolderTraining(settings(tmp_path), DIGITS))
    with pytest.raises(UsageError, match=r"batch_size: 8 -> 16; path: linear -> cosine|path: linear -> cosine"):
        FolderTraining(settings(tmp_path, path="cosine", batch_size=16), DIGITS)
    half = data.open("digits:train")
    with pytest.raises(UsageError, match="other data"):
        FolderTraining(settings(tmp_path), half)
    FolderTraining(settings(tmp_path, steps=12), DIGITS)  # longer is allowed


def test_a_folder_of_something_else_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(UsageError, match="not empty"):
        FolderTraining(settings(tmp_path), DIGITS)


def test_a_run_that_another_process_has_begun_meanwhile_is_a_run(tmp_path: Path) -> None:
    """Between the looks at the settings and at the folder: no settings were there yet, or a lock is gone again."""
    run = FolderTraining(settings(tmp_path / "run"), DIGITS, tell=lambda text: None)
    finish(run)
    check_folder(run.folder, run.settings, None)
    with pytest.raises(UsageError, match=r"other settings \(seed: 0 -> 1\)"):
        check_folder(run.folder, dataclasses.replace(run.settings, seed=1), None)
    for gone in (".lock", ".ornstein-0123456789abcdef", "checkpoints"):
        assert continuing._is_begun(tmp_path / gone)


def test_a_second_process_is_told_who_holds_the_folder(tmp_path: Path) -> None:
    held = iter(FolderTraining(settings(tmp_path), DIGITS))
    next(held)
    with pytest.raises(OrnsteinError, match=f"being trained by process {os.getpid()}"):
        next(iter(FolderTraining(settings(tmp_path), DIGITS)))
    held.close()  # type: ignore[attr-defined]
    finish(FolderTraining(settings(tmp_path), DIGITS))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"path": "linaer"}, "did you mean 'linear'"),
        ({"target": "noise"}, "cannot be inverted"),
        ({"preset": "huge"}, "preset"),
        ({"network": "mlp"}, "does not fit image data"),
        ({"steps": 0}, "steps = 0"),
        ({"steps": 5, "minutes": 1.0}, "not both"),
        ({"batch_size": 8, "accumulate": 3}, "must divide"),
        ({"label_dropout": 1.5}, "label_dropout"),
        ({"ema": 0.5}, "ema"),
        ({"precision": "fp8"}, "precision"),
        ({"device": "abacus"}, "device"),
        ({"weight": "snr"}, "weight"),
        ({"seed": -1}, "seed"),
        ({"snapshots": -1}, "snapshots"),
        ({"coupling": "optimal"}, "coupling"),
        ({"augment": 1.5}, "augment"),
    ],
)
def test_settings_that_cannot_work_are_refused_before_anything_is_written(
    tmp_path: Path, changes: dict[str, object], says: str
) -> None:
    with pytest.raises(UsageError, match=says):
        FolderTraining(settings(tmp_path / "run", **changes), DIGITS)
    assert not (tmp_path / "run").exists()


def test_minutes_end_in_time_and_the_rate_has_decayed(tmp_path: Path) -> None:
    started = time.monotonic()
    events = list(FolderTraining(settings(tmp_path, steps=None, minutes=0.02), DIGITS))
    assert events[-1].progress.done == 1
    assert events[-1].progress.rate < 0.25e-3
    assert events[-1].progress.seconds >= 1.2
    assert time.monotonic() - started < 20
    state = json.loads((next(checkpoints.checkpoints(tmp_path / "checkpoints")) / "state.json").read_text())
    assert state["seconds"] == pytest.approx(events[-1].progress.seconds, abs=0.5)
    assert not list(
        FolderTraining(settings(tmp_path, steps=None, minutes=0.02), DIGITS)
    )  # nothing is left of its minutes


def test_the_metrics_have_no_double_steps_after_a_resume(tmp_path: Path) -> None:
    run = FolderTraining(settings(tmp_path, save_every=2), DIGITS)
    finish(run, stop_after=4)
    with (tmp_path / "metrics.jsonl").open("a") as stream:
        stream.write('{"step": 5, "loss": 1}\n{"step": 6, "lo')  # what a kill leaves
    finish(FolderTraining(settings(tmp_path, save_every=2), DIGITS))
    steps = [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert steps == [1, 2, 3, 4, 5, 6]


def test_power_function_average_is_the_integral() -> None:
    gamma = posthoc.exponent(0.1)
    assert (gamma + 1) / ((gamma + 2) ** 2 * (gamma + 3)) == pytest.approx(0.01)
    values = torch.randn(500, 3, dtype=torch.float64)
    average = torch.zeros(3, dtype=torch.float64)
    for step, value in enumerate(values, 1):
        ema.update([average], [value], step, gamma)
    tau = torch.arange(1, 501, dtype=torch.float64)
    weights = tau ** (gamma + 1) - (tau - 1) ** (gamma + 1)  # ∫ τ^γ over each step
    torch.testing.assert_close(average, (weights @ values) / weights.sum(), rtol=0.02, atol=0.02)
    first = torch.zeros(3, dtype=torch.float64)
    ema.update([first], [values[0]], 1, gamma)
    assert torch.equal(first, values[0])  # no trace of the start, whatever the length


def test_the_rate_rises_then_falls_to_its_floor() -> None:
    rates = [schedule.rate(i / 1000, 0.05) for i in range(1001)]
    assert rates[50] == pytest.approx(1.0)
    assert all(b >= a for a, b in pairwise(rates[:51]))
    assert all(b <= a for a, b in pairwise(rates[50:]))
    assert rates[-1] == pytest.approx(0.01)


@pytest.mark.parametrize("name", names.PATHS)
def test_every_path_by_name_survives_the_model_file(tmp_path: Path, name: str) -> None:
    target = "edm" if name == "edm" else "v"
    run = FolderTraining(settings(tmp_path, steps=1, path=name, target=target), DIGITS)
    finish(run)
    loaded = ornstein.load(tmp_path)
    assert loaded.model.path == run.model.path
    assert loaded.model.target == run.model.target
    assert loaded.spec == DIGITS.spec
    assert np.isfinite(loaded.sample(2, steps=2).astype(float)).all()


@pytest.mark.parametrize("last", [True, False])
def test_weights_lie_channels_last_unless_told_otherwise(tmp_path: Path, last: bool) -> None:
    run = FolderTraining(settings(tmp_path / "run", channels_last=last), DIGITS)
    state, _ = run.ready()
    for network in (state.network, state.average, state.half):
        weight = network.middle[0].residual.conv1.weight
        assert weight.is_contiguous() is not last
        assert weight.is_contiguous(memory_format=torch.channels_last) is last
