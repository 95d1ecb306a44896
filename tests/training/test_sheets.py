"""Sample sheets during a training: what time they take, and that none of it shows in what is learned."""

import dataclasses
import json
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from ornstein import data
from ornstein.networks import MLP
from ornstein.settings import Settings
from ornstein.training.choosing import Objects
from ornstein.training.recipe import Minutes, Steps
from ornstein.training.sample_sheet import CALLS, LEAST, SHARE, SheetBudget, TooSlow, Watch
from ornstein.training.trainer import FolderTraining

POINTS = np.random.default_rng(0).normal(size=(64, 2)).astype(np.float32)


class Slow(MLP):
    """A network that takes its time to sample, and none to learn."""

    seconds = 0.0

    def forward(self, x, t, condition=None):  # type: ignore[no-untyped-def]
        if not self.training:
            time.sleep(self.seconds)
        return super().forward(x, t, condition)


def steps(budget: SheetBudget, costs: float, count: int, pace: float) -> list[int]:
    """The steps after which sheets are drawn that cost so many seconds each, of a run of `count` steps of `pace` seconds."""
    drawn, spent = [], 0.0
    due = [count // 2**k for k in (5, 4, 3, 2, 1)]
    for step in range(1, due[-1] + 1):
        budget.note(step, step * pace)
        if step in due:
            most = budget.most(step, step * pace, spent, len(due) - due.index(step))
            if most >= costs:
                drawn.append(step)
                spent += costs
            budget.cost = costs
    return drawn


@pytest.mark.parametrize("minutes", [None, 1000 * 0.3 / 60])
def test_the_first_sheet_that_fits_and_then_the_latest_ones(minutes: float | None) -> None:
    """A run of 300 s: sheets may take 15."""

    def drawn(cost: float) -> list[int]:
        return steps(SheetBudget(Minutes(minutes) if minutes else Steps(1000)), cost, 1000, 0.3)

    assert drawn(2.9) == [31, 62, 125, 250, 500]
    assert drawn(3.5) == [31, 125, 250, 500]
    assert drawn(7.4) == [31, 500]
    assert drawn(14.0) == [31]
    assert drawn(16.0) == []


def test_the_first_step_is_slow_and_does_not_count() -> None:
    budget = SheetBudget(Steps(1000))
    budget.note(1, 20.0)
    budget.note(31, 20.0 + 30 * 0.1)
    assert budget.most(31, 23.0, 0.0, 5) == pytest.approx(SHARE * (20 + 999 * 0.1))


def test_short_runs_may_take_a_moment() -> None:
    budget = SheetBudget(Steps(9))
    budget.note(1, 0.01)
    assert budget.most(1, 0.01, 0.0, 5) == LEAST


def test_a_watch_ends_what_takes_too_long_at_once() -> None:
    x = torch.zeros(8, 2)
    watch = Watch(8, 0.11)
    watch(None, (x,))
    time.sleep(0.1)  # the first call may take any time
    watch(None, (x,))
    time.sleep(0.02)
    with pytest.raises(TooSlow) as slow:  # one call of 20 took 0.02
        watch(None, (x,))
    assert 0.1 + 0.02 * (CALLS - 1) <= slow.value.seconds < 0.1 + 0.2 * CALLS
    patient = Watch(8, 60.0)
    for _ in range(CALLS):
        patient(None, (x,))


def train(out: Path, seconds: float, steps: int = 128, stop: int = 0) -> tuple[FolderTraining, float]:
    torch.manual_seed(0)
    network = Slow(2, width=16, depth=1)
    Slow.seconds = seconds
    settings = Settings(data="x", out=str(out), steps=steps, batch_size=4, samples=8, snapshots=0, device="cpu")
    run = FolderTraining(settings, data.objects.dataset_of(POINTS), lambda _: None, Objects(network=network))
    began = time.monotonic()
    for event in run:
        if event.progress.step == stop:
            run.stop()
    return run, time.monotonic() - began


def weights(run: FolderTraining) -> dict[str, torch.Tensor]:
    place = sorted((run.folder / "checkpoints").glob("step-*"))[-1]
    return {
        f"{name}.{k}": v for name in ("weights", "average") for k, v in load_file(place / f"{name}.safetensors").items()
    }


def test_sheets_that_are_slow_are_left_out_and_change_no_bit(tmp_path: Path) -> None:
    quick, _ = train(tmp_path / "quick", 0.0)
    assert len(list((quick.folder / "samples").iterdir())) == 6
    slow, _ = train(tmp_path / "slow", 0.12)  # 2.4 s a sheet, and 1.5 are allowed
    assert [file.name for file in (slow.folder / "samples").iterdir()] == ["step-00000128.npz"]
    assert slow.state.drawing < LEAST + 0.5
    one, other = weights(quick), weights(slow)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_what_sheets_took_goes_with_the_checkpoint(tmp_path: Path) -> None:
    whole, _ = train(tmp_path / "whole", 0.0)
    first, _ = train(tmp_path / "parts", 0.02, stop=20)  # 0.4 s a sheet
    (state,) = [json.loads(file.read_text()) for file in tmp_path.glob("parts/checkpoints/step-00000020/state.json")]
    assert state["drawing"] == first.state.drawing > 0.4
    second, _ = train(tmp_path / "parts", 0.02)
    assert second.state.drawing <= LEAST + 0.3  # by a call or two, on a busy machine
    assert 2 <= len(list((second.folder / "samples").iterdir())) < 6
    one, other = weights(whole), weights(second)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_checkpoint_of_before_has_taken_none(tmp_path: Path) -> None:
    from ornstein.folder.checkpoints import Counters, counters

    place = tmp_path / "checkpoints" / "step-00000003"
    place.mkdir(parents=True)
    (place / "state.json").write_text(json.dumps({"step": 3, "images": 12, "seconds": 1, "skipped": 0}))
    assert counters(place) == Counters(3, 12, 1.0, 0, 0.0)


@pytest.mark.parametrize("kind", ["classes", "plain", "degradation", "vectors"])
def test_a_run_with_sheets_goes_on_without(tmp_path: Path, kind: str) -> None:
    """And its page is written: `--samples 0` draws no more, and what was drawn stays."""
    from ornstein import report

    dataset = data.open("digits")
    if kind == "plain":
        dataset = dataclasses.replace(dataset, labels=None, spec=dataclasses.replace(dataset.spec, classes=()))
    if kind == "vectors":
        dataset = data.objects.dataset_of(POINTS)
    settings = Settings(
        data="x", out=str(tmp_path), steps=4, batch_size=4, samples=7, snapshots=0, preset="tiny", device="cpu"
    )
    settings = dataclasses.replace(settings, degradation="mask" if kind == "degradation" else None)
    for more, samples in ((4, 7), (6, 0)):
        for _ in FolderTraining(dataclasses.replace(settings, steps=more, samples=samples), dataset, lambda _: None):
            pass
        report.write(tmp_path, dataset)
    assert not list((tmp_path / "samples").glob("step-00000006*"))
    assert "Samples" in (tmp_path / "report.html").read_text()
