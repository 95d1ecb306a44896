"""Batches made ahead: the same batches, in another thread, errors where they belong."""

import dataclasses
import threading
from contextlib import nullcontext

import pytest
import torch

from ornstein import data
from ornstein.settings import Settings
from ornstein.training import loop
from ornstein.training.batch import Batches
from ornstein.training.prefetch import prefetch, supplied
from ornstein.training.trainer import FolderTraining

DIGITS = data.open("digits")


def test_the_next_step_is_made_while_one_is_at_work():
    begun = [threading.Event() for _ in range(9)]
    makers = []

    def make(step):
        begun[step].set()
        makers.append(threading.current_thread())
        return iter([step, 10 * step])

    with prefetch(make) as parts:
        assert parts(3) == [3, 30]
        assert begun[4].wait(5)  # without being asked
        assert parts(4) == [4, 40]
        assert parts(7) == [7, 70]  # another step than the one that waits
        assert begun[8].wait(5)
    assert threading.current_thread() not in makers
    assert len(makers) == 5  # 3, 4, 5 in vain, 7, 8
    assert not any(thread.is_alive() for thread in makers)


def test_what_is_raised_reaches_the_step_it_belongs_to():
    def make(step):
        if step == 2:
            raise ValueError("step 2")
        return [step]

    with prefetch(make) as parts:
        assert parts(0) == [0]
        assert parts(1) == [1]
        with pytest.raises(ValueError, match="step 2"):
            parts(2)


def test_a_run_with_batches_made_ahead_is_the_run_without(tmp_path, monkeypatch):
    """The CPU makes its batches in turn; here it is told to make them ahead, with all that a batch can hold."""
    threads = set()

    class Watched(Batches):
        def parts(self, step):
            threads.add(threading.current_thread() is threading.main_thread())
            return super().parts(step)

    common = {
        "data": "digits",
        "steps": 5,
        "batch_size": 8,
        "accumulate": 2,
        "samples": 0,
        "preset": "tiny",
        "device": "cpu",
    }
    settings = Settings(**common, precision="float32", flips=True, augment=0.5)

    def weights(name, making_ahead):
        supply = prefetch if making_ahead else nullcontext
        monkeypatch.setattr(loop, "supplied", lambda batches, early: supply(batches.parts))
        run = FolderTraining(dataclasses.replace(settings, out=str(tmp_path / name)), DIGITS, tell=lambda text: None)
        watched = Watched(run.recipe)
        monkeypatch.setattr(run, "batches", lambda: watched)
        losses = [event.progress.loss for event in run]
        return losses, run.state.network.state_dict()

    plain, ours = weights("plain", False)
    assert threads == {True}
    threads.clear()
    early, theirs = weights("ahead", True)
    assert threads == {False}
    assert plain == early
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.mark.parametrize(
    ("device", "prefetch", "early"), [("cuda", True, True), ("cuda", False, False), ("cpu", True, False)]
)
def test_where_batches_are_made_ahead(device, prefetch, early, monkeypatch):
    threads = []

    class Watched:
        def parts(self, step):
            threads.append(threading.current_thread() is threading.main_thread())
            return [step]

    watched = Watched()
    watched.device = torch.device(device)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: None)
    monkeypatch.setattr(torch.cuda, "set_stream", lambda stream: None)
    with supplied(watched, prefetch) as parts:
        assert list(parts(1)) == [1]
    assert (False in threads) == early
