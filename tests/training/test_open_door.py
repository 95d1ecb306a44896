"""Training from Python goes on, changes, is frozen in part, logs, and reads data in turn; each with what it promises."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset, WeightedRandomSampler

import ornstein
from ornstein import solvers
from ornstein.cli import main
from ornstein.data import dataset_of, streams
from ornstein.data.streams import Stream
from ornstein.errors import OrnsteinError, UsageError
from ornstein.folder import checkpoints, history

POINTS = np.random.default_rng(0).normal(size=(300, 2)).astype(np.float32) * np.float32([1.0, 5.0])
LABELS = np.arange(300) % 3
SHORT: dict[str, Any] = {"batch_size": 16, "device": "cpu", "preset": "tiny", "snapshots": 0}


def weights(folder: Path) -> dict[str, Tensor]:
    place = next(checkpoints.checkpoints(folder / "checkpoints"))
    return {f"{f.stem}.{k}": v for f in sorted(place.glob("*.safetensors")) for k, v in load_file(f).items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


# Going on


def test_a_finished_run_goes_on_with_more_steps_and_minutes(tmp_path: Path) -> None:
    for steps in (4, 4, 7):
        run = ornstein.train(POINTS, out=tmp_path / "run", steps=steps, **SHORT)
        assert [line["step"] for line in run.metrics()] == list(range(1, steps + 1))
    assert history.entries(tmp_path / "run") == [{"step": 4, "changes": {"steps": [4, 7]}}]
    timed = ornstein.train(POINTS, out=tmp_path / "run", minutes=0.02, **SHORT)
    assert timed.metrics()[-1]["step"] >= 7


def test_more_steps_by_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "points.npy", POINTS)
    words = [
        "train",
        "--data",
        str(tmp_path / "points.npy"),
        "--out",
        str(tmp_path / "run"),
        "--samples",
        "0",
        "--preset",
        "tiny",
    ]
    assert main([*words, "--steps", "2", "--learning-rate", "1e-3"]) == 0
    assert main([*words, "--steps", "4", "--learning-rate", "2e-3"]) == 2
    error = capsys.readouterr().err
    assert "learning_rate: 0.001 -> 0.002" in error
    assert "--change" in error
    assert main([*words, "--steps", "4", "--learning-rate", "2e-3", "--change"]) == 0
    assert main([*words, "--steps", "4", "--path", "cosine", "--change"]) == 2
    assert "path: linear -> cosine" in capsys.readouterr().err
    assert main(["info", str(tmp_path / "run")]) == 0
    line = "from step 2: steps 2 -> 4, learning_rate 0.001 -> 0.002"
    assert line in capsys.readouterr().out
    assert "learning_rate 0.001 -&gt; 0.002" in (tmp_path / "run" / "report.html").read_text()


@pytest.mark.parametrize("changes", [{"learning_rate": 0.03}, {"batch_size": 24}, {"weight_decay": 0.1, "clip": 0.5}])
def test_a_change_is_from_that_step_on_and_goes_on_exactly(tmp_path: Path, changes: dict[str, Any]) -> None:
    def train(name: str, stops: tuple[int, ...]) -> Path:
        out, first = tmp_path / name, True
        for stop in (*stops, 9):
            how = {**SHORT, "steps": 9, **({} if first else changes)}
            trainer = ornstein.Trainer(None, None, POINTS, out, change=not first, **how)
            for event in trainer:
                if event.progress.step == stop:
                    break
            first = False
        return out

    with pytest.raises(UsageError, match="--change"):
        ornstein.train(POINTS, out=train("plain", ()), **{**SHORT, "steps": 9, **changes})
    once, twice = train("once", (3,)), train("twice", (3, 6))
    assert same(weights(once), weights(twice))
    assert not same(weights(once), weights(tmp_path / "plain"))
    assert [entry["step"] for entry in history.entries(twice)] == [3]
    assert history.entries(twice)[0]["changes"].keys() == changes.keys()
    assert ornstein.train(POINTS, out=once, **{**SHORT, "steps": 9, **changes}).settings.items() >= changes.items()


def test_a_history_that_cannot_be_read_is_one_sentence(tmp_path: Path) -> None:
    ornstein.train(POINTS, out=tmp_path / "run", steps=2, **SHORT)
    (tmp_path / "run" / "history.json").write_text("[1]")
    with pytest.raises(OrnsteinError, match=r"history\.json cannot be read"):
        ornstein.train(POINTS, out=tmp_path / "run", steps=3, **SHORT)


# Own objects, known again


class Net(nn.Module):
    """A network of one's own, with a hyperparameter that no shape shows."""

    def __init__(self, slope: float = 0.1, seed: int = 0, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.embedding, self.norm = nn.Linear(3, 8), nn.BatchNorm1d(8)
            self.body = nn.Sequential(nn.LeakyReLU(slope), nn.Linear(8, 2))
        self.to(dtype)

    def forward(self, x: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
        y: Tensor = self.body(self.norm(self.embedding(torch.cat([x, t[:, None]], 1))))
        return y


def sgd(rate: float, momentum: float) -> Any:
    return lambda parameters: torch.optim.SGD(parameters, rate, momentum=momentum)


OTHERS = {
    "network": {"network": Net(0.2)},
    "optimizer": {"optimizer": sgd(0.1, 0.5)},
    "the library's optimizer": {"optimizer": None},
    "schedule": {"schedule": lambda done: 1 - done**2},
}


@pytest.mark.parametrize("key", OTHERS)
def test_another_network_optimiser_or_schedule_is_refused(tmp_path: Path, key: str) -> None:
    how: dict[str, Any] = {**SHORT, "network": Net(), "optimizer": sgd(0.1, 0.9), "schedule": lambda done: 1 - done}
    del how["preset"]
    ornstein.train(POINTS, out=tmp_path / "run", steps=2, **how)
    ornstein.train(
        POINTS, out=tmp_path / "run", steps=3, **{**how, "network": Net(seed=5)}
    )  # its weights are in the checkpoint
    with pytest.raises(UsageError, match=f"another {key.split()[-1]} ") as caught:
        ornstein.train(POINTS, out=tmp_path / "run", steps=4, **{**how, **OTHERS[key]})
    assert "\n" not in str(caught.value)
    if key == "schedule":
        ornstein.train(POINTS, out=tmp_path / "run", steps=4, change=True, **{**how, **OTHERS[key]})


def test_info_says_how_an_own_network_is_loaded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ornstein.train(POINTS, network=Net(), out=tmp_path / "run", steps=2, batch_size=16, device="cpu")
    assert main(["info", str(tmp_path / "run")]) == 0
    assert "network=Net(...))" in capsys.readouterr().out


# Freezing


@pytest.mark.parametrize("patterns", ["embedding.*,norm.*", ["embedding.*", "norm.*"]])
def test_frozen_parts_stay_as_they_are(tmp_path: Path, patterns: Any) -> None:
    net, how = Net(), {"batch_size": 16, "device": "cpu", "save_every": 2, "freeze": patterns}
    run = ornstein.train(POINTS, network=net, out=tmp_path / "run", steps=6, weight_decay=0.1, **how)
    before, after = net.state_dict(), run.model.network.state_dict()
    still = [name for name in before if torch.equal(before[name], after[name])]
    assert still == [name for name in before if name.startswith(("embedding", "norm"))]  # running statistics too
    assert all(weight.requires_grad for weight in net.parameters())
    for stop in (3, 6):
        trainer = ornstein.Trainer(net, None, POINTS, tmp_path / "parts", steps=6, weight_decay=0.1, **how)
        for event in trainer:
            if event.progress.step == stop:
                break
    assert same(weights(tmp_path / "run"), weights(tmp_path / "parts"))


@pytest.mark.parametrize(("pattern", "said"), [("embeding.*", "embedding"), ("*", "nothing is left"), ("", "named")])
def test_wrong_patterns_are_one_sentence(pattern: str, said: str) -> None:
    with pytest.raises(UsageError, match=f"^freeze: .*{said}"):
        ornstein.train(POINTS, network=Net(), steps=1, freeze=pattern)


def test_a_part_is_frozen_by_the_command(tmp_path: Path) -> None:
    first = ornstein.train(POINTS, out=tmp_path / "first", steps=2, **SHORT)
    np.save(tmp_path / "points.npy", POINTS)
    words = [
        "train",
        "--data",
        str(tmp_path / "points.npy"),
        "--out",
        str(tmp_path / "next"),
        "--samples",
        "0",
        "--preset",
        "tiny",
    ]
    assert main([*words, "--steps", "3", "--from", str(tmp_path / "first"), "--freeze", "blocks.*"]) == 0
    before, after = (run.model.network.state_dict() for run in (first, ornstein.load(tmp_path / "next")))
    moved = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert moved
    assert "blocks" not in moved


# Logging


class Book:
    """A logger that remembers."""

    def __init__(self, fails: str = "") -> None:
        self.fails = fails
        self.calls: list[tuple[Any, ...]] = []

    def _called(self, name: str, *values: Any) -> None:
        self.calls.append((name, *values))
        if name == self.fails:
            raise ConnectionError("no network")

    def start(self, settings: Mapping[str, Any]) -> None:
        self._called("start", dict(settings))

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        self._called("log", step, dict(numbers))

    def image(self, step: int, file: Path) -> None:
        self._called("image", step, file.exists())

    def finish(self) -> None:
        self._called("finish")


@pytest.mark.parametrize("folder", [False, True])
def test_a_logger_gets_the_lines_of_the_metrics(tmp_path: Path, folder: bool) -> None:
    book = Book()
    run = ornstein.train(POINTS, out=tmp_path / "run" if folder else None, steps=3, log=book, **SHORT)
    assert [call[0] for call in book.calls] == ["start", "log", "log", "log", "finish"]
    assert book.calls[0][1]["batch_size"] == 16
    for call, line in zip(book.calls[1:4], run.metrics(), strict=True):
        assert call[1] == line["step"]
        assert call[2]["loss"] == pytest.approx(line["loss"], abs=1e-6)


def test_a_logger_gets_sheets_of_images(tmp_path: Path) -> None:
    book = Book()
    images = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 1), dtype=np.uint8)
    ornstein.train(
        images, out=tmp_path / "run", steps=2, samples=4, sample_steps=2, solver="euler", log=[book], **SHORT
    )
    assert ("image", 2, True) in book.calls


@pytest.mark.parametrize("fails", ["start", "log", "finish"])
def test_a_logger_that_fails_is_told_once_and_left(tmp_path: Path, fails: str) -> None:
    book, other, said = Book(fails), Book(), list[str]()
    ornstein.train(POINTS, out=tmp_path / "run", steps=3, log=[book, other], tell=said.append, **SHORT)
    assert [line for line in said if "Book failed (ConnectionError: no network)" in line]
    assert sum(call[0] == fails for call in book.calls) == 1
    assert [call[0] for call in other.calls] == ["start", "log", "log", "log", "finish"]


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_trackers_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    calls: list[tuple[Any, ...]] = []
    fake = SimpleNamespace(
        __spec__=SimpleNamespace(name=name),
        init=lambda **how: calls.append(("init", how)),
        log=lambda numbers, step: calls.append(("log", step, numbers["loss"])),
        finish=lambda: calls.append(("finish",)),
    )
    monkeypatch.setitem(sys.modules, name, fake)  # type: ignore[arg-type]
    ornstein.train(POINTS, out=tmp_path / "moons", steps=2, log=name, **SHORT)
    assert [call[0] for call in calls] == ["init", "log", "log", "finish"]
    assert calls[0][1]["name"] == "moons"
    assert calls[0][1]["config"]["steps"] == 2


def test_what_is_no_logger_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TypeError, match="start\\(settings\\)"):
        ornstein.train(POINTS, steps=1, log=3)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="tensorboard"):
        ornstein.train(POINTS, steps=1, log="tensorbord", **SHORT)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(UsageError, match=r"pip install 'ornstein\[tensorboard\]'"):
        ornstein.train(POINTS, out=tmp_path / "run", steps=1, log="tensorboard", **SHORT)
    assert not (tmp_path / "run").exists()


def test_tensorboard_reads_what_is_logged(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for steps in (2, 4):
        run = ornstein.train(POINTS, out=tmp_path / "run", steps=steps, log="tensorboard", **SHORT)
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    logged = {event.step: event.value for event in events.Scalars("loss")}
    assert logged == {int(line["step"]): pytest.approx(line["loss"], rel=1e-5) for line in run.metrics()}


# Data in turn


class Turn(IterableDataset[Any]):
    """Items that can only be read in turn, so many, again and again."""

    def __init__(self, count: int, labels: bool = False) -> None:
        self.count, self.labels = count, labels

    def __iter__(self) -> Iterator[Any]:
        for i in range(self.count):
            x = torch.tensor(POINTS[i % 300])
            yield (x, i % 3) if self.labels else x


def test_a_short_stream_is_the_data_in_memory() -> None:
    for value in (Turn(300, True), iter(Turn(300, True)), DataLoader(Turn(300, True), batch_size=7)):
        held = dataset_of(value)
        assert held.is_indexed
        assert np.array_equal(held.items, POINTS)
        assert np.array_equal(held.labels, LABELS)  # type: ignore[arg-type]


def test_a_long_stream_gives_each_item_once_and_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "HEAD", 50)
    stream = dataset_of(Turn(120, True))
    assert isinstance(stream, Stream)
    assert len(stream) == 50
    seen = [dataset.items[rows] for dataset, rows in (stream.drawn(0, step, 48) for step in range(5))]
    assert np.array_equal(np.concatenate(seen), np.resize(POINTS[:120], (240, 2)))


@pytest.mark.parametrize("workers", [0])
def test_a_stream_trains_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int) -> None:
    monkeypatch.setattr(streams, "HEAD", 50)
    loader = DataLoader(Turn(120, True), batch_size=8, num_workers=workers)
    for steps in (3, 6):
        run = ornstein.train(loader, out=tmp_path / "run", steps=steps, device="cpu", preset="tiny")
    assert run.settings["batch_size"] == 8
    assert run.sample(4, label=1).shape == (4, 2)
    one, other = (ornstein.train(Turn(120), steps=4, **SHORT) for _ in range(2))
    assert np.array_equal(one.sample(4), other.sample(4))


def test_a_stream_that_ends_or_changes_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "HEAD", 50)
    with pytest.raises(OrnsteinError, match="ended before step 5"):
        ornstein.train(iter(Turn(70)), steps=9, **SHORT)
    late = [(x, 7 if i > 60 else i % 3) for i, x in enumerate(POINTS)]
    with pytest.raises(OrnsteinError, match="label 7, which none of its first 50"):
        ornstein.train(iter(late), steps=9, **SHORT)
    with pytest.raises(OrnsteinError, match=r"has shape \(3,\)"):
        ornstein.train(iter([*POINTS[:60], *np.zeros((20, 3), np.float32)]), steps=9, **SHORT)


def test_a_loader_that_only_batches_is_its_data_set_in_the_order_by_seed() -> None:
    data = TensorDataset(torch.tensor(POINTS), torch.tensor(LABELS))
    loader, direct = DataLoader(data, batch_size=16, shuffle=True), {**SHORT, "steps": 3}
    del direct["batch_size"]
    one, other = ornstein.train(loader, **direct), ornstein.train(data, **{**SHORT, "steps": 3})
    assert one.settings["batch_size"] == 16
    assert np.array_equal(one.sample(4), other.sample(4))


def test_a_loader_with_a_sampler_or_a_collation_of_its_own_is_followed() -> None:
    data = TensorDataset(torch.tensor(POINTS), torch.tensor(LABELS))
    only = DataLoader(data, batch_size=10, sampler=WeightedRandomSampler([float(y == 1) for y in LABELS], 60))
    assert set(dataset_of(only).classes) == {"1"}
    shifted = DataLoader(data, batch_size=10, collate_fn=lambda items: torch.stack([x + 1 for x, _ in items]))
    assert np.allclose(dataset_of(shifted).items, POINTS + 1)


# Sampling while training, and progress


def test_sheets_take_a_solver(tmp_path: Path) -> None:
    def sheet(name: str, **how: Any) -> Any:
        ornstein.train(POINTS, out=tmp_path / name, steps=1, samples=4, **how, **SHORT)
        with np.load(tmp_path / name / "samples" / "step-00000001.npz") as file:
            return file["samples"]

    plain = sheet("plain")
    assert np.array_equal(
        sheet("name", solver="heun", sample_steps=4), sheet("object", solver=solvers.Heun(), sample_steps=4)
    )
    assert not np.array_equal(sheet("fewer", sample_steps=2), plain)
    with pytest.raises(UsageError, match="solver"):
        sheet("wrong", solver="huen")
    with pytest.raises(TypeError, match="solver"):
        sheet("wrong", solver=3)


def test_progress_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    ornstein.train(POINTS, steps=3, progress=True, **SHORT)
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("training") and "loss" in line for line in lines)
    assert not any("\x1b" in line or "\r" in line for line in lines)


def test_env_says_what_was_own(tmp_path: Path) -> None:
    ornstein.train(POINTS, out=tmp_path / "run", steps=1, **SHORT)
    assert json.loads((tmp_path / "run" / "env.json").read_text())["own"] == {}


# Numbers of 64 bits, and systems without Linux's calls


def test_a_network_of_float64_learns_from_float64() -> None:
    fine = np.stack([np.full(64, 1 / 3), np.linspace(0, 1, 64)], 1)
    seen: list[Tensor] = []

    class Sees:
        def loss(self, predict: Any, x: Tensor, generator: torch.Generator) -> Tensor:
            seen.append(x)
            return predict(x, torch.ones(len(x), dtype=x.dtype)).square().mean(1)

    for dtype in (torch.float32, torch.float64):
        ornstein.train(fine, network=Net(dtype=dtype), objective=Sees(), steps=1, batch_size=64, device="cpu")
    data = dataset_of(fine)
    exact = torch.from_numpy(
        (fine - np.array(data.spec.mean)) / np.where(np.array(data.spec.std) > 0, data.spec.std, 1)
    )
    assert [x.dtype for x in seen] == [torch.float32, torch.float64]
    for row in seen[1]:
        assert (exact - row).abs().amax(1).min() == 0
    assert (seen[0].double().sort(0).values - exact.sort(0).values).abs().max() > 0
    images = dataset_of(np.random.default_rng(0).integers(0, 256, (3, 4, 4, 1), dtype=np.uint8))
    wide = images.batch(np.arange(3), wide=True)[0]
    assert wide.dtype == torch.float64
    assert torch.equal(
        wide, torch.from_numpy(np.moveaxis(np.asarray(images.items), -1, 1).astype(float)) * (2 / 255) - 1
    )


WINDOWS = """
import os, signal, sys
sys.modules["fcntl"] = None
for name in "pwrite pread preadv sched_getaffinity O_NOFOLLOW O_NONBLOCK O_CLOEXEC fork".split():
    if hasattr(os, name): delattr(os, name)
del signal.SIGHUP
from ornstein.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_a_run_is_trained_and_resumed_without_the_calls_that_windows_lacks(tmp_path: Path) -> None:
    np.save(tmp_path / "points.npy", POINTS)
    out = tmp_path / "run"
    words = ["train", "--data", str(tmp_path / "points.npy"), "--out", str(out), "--preset", "tiny", "--samples", "4"]
    for steps in ("2", "3"):
        done = subprocess.run(
            [sys.executable, "-c", WINDOWS, *words, "--steps", steps], capture_output=True, text=True, encoding="utf-8"
        )
        assert done.returncode == 0, done.stderr
    assert ornstein.load(out).metrics()[-1]["step"] == 3
    for file in out.rglob("*"):
        assert not re.search(r'[<>:"|?*\\]|[ .]$', file.name), file
        assert file.stem.upper() not in {"CON", "PRN", "AUX", "NUL"}
