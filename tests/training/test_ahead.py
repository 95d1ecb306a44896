"""Batches made ahead: the same batches, in another thread, errors where they belong."""

import dataclasses
import json
import threading
from contextlib import nullcontext

import pytest
import torch
from safetensors.torch import load_file

from ornstein import data
from ornstein.errors import OrnsteinError
from ornstein.settings import Settings
from ornstein.training import lookahead, loop
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


class Poisoned(data.Dataset):
    """Digits that are NaN in some of the batches that are read."""

    bad: range = range(0)
    read = 0

    def batch(self, indices, flip=None, wide=False):
        x, labels = super().batch(indices, flip, wide)
        type(self).read += 1
        return (x * float("nan") if type(self).read - 1 in self.bad else x), labels


def outcome(folder, monkeypatch, looks_ahead, bad=range(0), stops=(), **changes):
    """All tensors of the newest checkpoint, and the lines of metrics.jsonl without their clock."""
    settings = Settings(data="digits", steps=8, batch_size=16, samples=0, preset="tiny", device="cpu", out=str(folder))
    monkeypatch.setattr(lookahead, "DEVICES", ("cpu",) if looks_ahead else ())
    monkeypatch.setattr(Poisoned, "bad", bad)
    monkeypatch.setattr(Poisoned, "read", 0)
    for stop in (*stops, None):
        run = FolderTraining(
            dataclasses.replace(settings, **changes),
            Poisoned(DIGITS.items, DIGITS.labels, DIGITS.spec),
            tell=lambda text: None,
        )
        for event in run:
            assert event.progress.step == run.state.step
            if event.progress.step == stop:
                run.stop()
    places = sorted((folder / "checkpoints").glob("step-*"))
    tensors = {
        f"{file.stem}.{key}": t for file in places[-1].glob("*.safetensors") for key, t in load_file(file).items()
    }
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return tensors, [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


@pytest.mark.parametrize(
    ("bad", "skipped", "changes"),
    [
        (range(0), 0, {"hold_out": 0.1}),
        (range(3, 5), 2, {}),
        (range(4), 2, {"uncertainty": True, "accumulate": 2, "precision": "float32"}),
        (range(7, 8), 1, {"save_every": 3}),
    ],
)
def test_a_loop_that_looks_ahead_learns_the_same_bits(tmp_path, monkeypatch, bad, skipped, changes):
    """Steps that are not finite among them, which the optimiser leaves out by itself."""
    tensors, lines = outcome(tmp_path / "plain", monkeypatch, False, bad, **changes)
    ahead, others = outcome(tmp_path / "ahead", monkeypatch, True, bad, **changes)
    assert lines == others
    counted = json.loads((tmp_path / "ahead" / "checkpoints" / "step-00000008" / "state.json").read_text())["skipped"]
    assert counted == skipped
    assert tensors.keys() == ahead.keys()
    assert all(torch.equal(tensors[key], ahead[key]) for key in tensors)


def test_a_loop_that_looks_ahead_stops_and_goes_on(tmp_path, monkeypatch):
    tensors, lines = outcome(tmp_path / "plain", monkeypatch, False)
    ahead, others = outcome(tmp_path / "ahead", monkeypatch, True, stops=(3, 6))
    assert lines == others
    assert all(torch.equal(tensors[key], ahead[key]) for key in tensors)


def test_a_loop_that_looks_ahead_ends_without_a_checkpoint_of_what_is_not_finite(tmp_path, monkeypatch):
    for looks_ahead in (False, True):
        folder = tmp_path / str(looks_ahead)
        with pytest.raises(OrnsteinError, match="10 steps in a row, up to step 13"):
            outcome(folder, monkeypatch, looks_ahead, range(3, 99), steps=50, save_every=1)
        assert [place.name for place in sorted((folder / "checkpoints").glob("step-*"))] == [
            "step-00000002",
            "step-00000003",
        ]
        assert json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])["diverged"]


def test_where_the_loop_looks_ahead(tmp_path, monkeypatch):
    monkeypatch.setattr(lookahead, "DEVICES", ("cpu",))

    def possible(**changes):
        settings = Settings(data="digits", batch_size=8, preset="tiny", device="cpu", out=str(tmp_path / "run"))
        run = FolderTraining(dataclasses.replace(settings, **changes), DIGITS, tell=lambda text: None)
        state, _ = run.ready()
        return lookahead.possible(run.recipe, state), run.recipe, state

    yes, recipe, state = possible()
    assert yes
    assert not possible(prefetch=False)[0]
    two = dataclasses.replace(recipe, processes=dataclasses.replace(recipe.processes, count=2))
    assert not lookahead.possible(two, state)
    plain = dataclasses.replace(state, optimizer=torch.optim.SGD(state.network.parameters(), 0.1, fused=False))
    assert not lookahead.possible(recipe, plain)
    own = dataclasses.replace(recipe.model, network=torch.nn.BatchNorm2d(1))
    changing = dataclasses.replace(state, network=own.network)
    assert not lookahead.possible(dataclasses.replace(recipe, model=own), changing)
    monkeypatch.undo()
    assert not lookahead.possible(recipe, state)  # a CPU waits for nothing
