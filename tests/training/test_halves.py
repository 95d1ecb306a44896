"""Two halves side by side learn what the whole does, up to rounding, and the same every time."""

import dataclasses
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from ornstein import data
from ornstein.names import COUPLINGS
from ornstein.settings import Settings
from ornstein.training import loop, split_batch
from ornstein.training.loss_module import LossModule
from ornstein.training.split_batch import divisible, learning
from ornstein.training.trainer import FolderTraining

DIGITS = data.open("digits")
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def two_threads(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Whatever the machine has, for batches of any size."""
    before = torch.get_num_threads()
    monkeypatch.setattr(split_batch, "ROWS", 2)
    monkeypatch.setattr(split_batch, "NUMBERS", 0)
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def settings(out: Path, **changes: Any) -> Settings:
    common = {"data": "digits", "steps": 4, "batch_size": 10, "samples": 0, "preset": "tiny", "device": "cpu"}
    return Settings(**{**common, "out": str(out), "precision": "float32", **changes})


def taught(out: Path, halved: bool, **changes: Any) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """The error and the gradient of all parts of one batch, of weights away from where they begin."""
    run = FolderTraining(settings(out, split_batch=halved, **changes), DIGITS, tell=lambda text: None)
    _, learner = run.ready()
    draws, error = torch.Generator().manual_seed(0), torch.zeros(())
    with torch.no_grad():
        for weight in learner.parameters():
            weight.add_(0.05 * torch.randn(weight.shape, generator=draws))
    with learning(run.recipe, learner) as learn:
        for part in run.batches().parts(3):
            error = error + learn(part)
    return error, [weight.grad for weight in learner.parameters() if weight.grad is not None]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"accumulate": 2},
        {"few_steps": "progressive", "accumulate": 2},  # parts of 5, so that each cut moves the odd rows
        {"uncertainty": True},
        {"batch_size": 1},
        {"batch_size": 7},
        {"augment": 0.5, "flips": True},
    ],
)
def test_the_gradient_is_that_of_the_whole(tmp_path: Path, changes: dict[str, Any]) -> None:
    error, gradient = taught(tmp_path / "whole", False, **changes)
    ours, found = taught(tmp_path / "halves", True, **changes)
    assert float(ours) == pytest.approx(float(error), rel=1e-5)
    assert len(found) == len(gradient) > 50
    for mine, theirs in zip(found, gradient, strict=True):
        assert torch.allclose(mine, theirs, rtol=1e-3, atol=1e-4 * float(theirs.abs().max()))
    again = taught(tmp_path / "again", True, **changes)
    assert torch.equal(again[0], ours)
    assert all(torch.equal(mine, other) for mine, other in zip(found, again[1], strict=True))


def test_two_threads_take_half_of_the_rows_and_half_of_the_cores_each(tmp_path: Path) -> None:
    run = FolderTraining(settings(tmp_path / "run"), DIGITS, tell=lambda text: None)
    state, learner = run.ready()
    seen = []

    def watch(module: nn.Module, given: tuple[Any, ...]) -> None:
        seen.append((len(given[0].x), threading.current_thread() is threading.main_thread(), torch.get_num_threads()))

    learner.register_forward_pre_hook(watch)
    others, taken = [], torch.optim.AdamW.step
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", lambda self: (others.append(torch.get_num_threads()), taken(self)))
        losses = []
        for progress in loop.train(run.recipe, learner, run.batches(), state):
            losses.append(progress.loss)
            assert torch.get_num_threads() == 2  # between steps the process is as it was
    assert others == [1] * 4
    assert seen == [(5, False, 1)] * 8
    assert torch.get_num_threads() == 2
    assert not any(thread.name.startswith("halves") for thread in threading.enumerate())
    plain = [
        event.progress.loss
        for event in FolderTraining(settings(tmp_path / "plain", split_batch=False), DIGITS, tell=lambda _: None)
    ]
    assert losses == pytest.approx(plain, rel=1e-4)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [({}, True), ({"coupling": "ot"}, False), ({"compile": True}, False), ({"shard": True}, False)],
)
def test_what_needs_the_whole_keeps_it(tmp_path: Path, changes: dict[str, Any], expected: bool) -> None:
    run = FolderTraining(settings(tmp_path / "run"), DIGITS, tell=lambda text: None)
    _, learner = run.ready()
    model = dataclasses.replace(run.model, coupling=COUPLINGS[changes.pop("coupling", "independent")])
    asked = dataclasses.replace(run.recipe, settings=dataclasses.replace(run.settings, **changes), model=model)
    assert divisible(asked, learner) is expected
    assert not divisible(asked, nn.Sequential(learner))  # as torch's wrappers are other modules
    assert isinstance(learner, LossModule)
    learner.network.middle[0].residual.dropout.p = 0.1
    assert not divisible(asked, learner)


def test_a_failure_in_a_half_is_raised(tmp_path: Path) -> None:
    run = FolderTraining(settings(tmp_path / "run"), DIGITS, tell=lambda text: None)
    _, learner = run.ready()
    part = next(run.batches().parts(0))
    with learning(run.recipe, learner) as learn, pytest.raises(RuntimeError, match=r"shape|size|channels"):
        learn(part._replace(x=part.x[:, :, :3], noise=part.noise[:, :, 1:4, :5]))
    assert [len(half.x) for half in split_batch._halves(part)] == [5, 5]
    assert all(half.seed == part.seed for half in split_batch._halves(part))


@pytest.mark.parametrize(("rows", "numbers", "batch", "calls"), [(11, 0, 10, 1), (10, 641, 10, 1), (10, 640, 10, 2)])
def test_small_parts_stay_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int, numbers: int, batch: int, calls: int
) -> None:
    monkeypatch.setattr(split_batch, "ROWS", rows)
    monkeypatch.setattr(split_batch, "NUMBERS", numbers)
    run = FolderTraining(settings(tmp_path / "run", batch_size=batch), DIGITS, tell=lambda text: None)
    _, learner = run.ready()
    seen = []
    learner.register_forward_pre_hook(lambda module, given: seen.append(len(given[0].x)))
    with learning(run.recipe, learner) as learn:
        learn(next(run.batches().parts(0)))
    assert len(seen) == calls
    assert sum(seen) == batch
