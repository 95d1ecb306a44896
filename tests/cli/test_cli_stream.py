"""Samples written as they come: folders that go on where they stopped, and batches that fit into memory."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import ornstein
from ornstein import cpu
from ornstein.cli import main
from ornstein.data.images import SampleFolder
from ornstein.networks import UNet


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "digits"
    words = ["--data", "digits", "--out", str(out), "--steps", "3", "--samples", "0", "--preset", "tiny"]
    assert main(["train", *words, "--batch-size", "4", "--device", "cpu"]) == 0
    return out


def draw(trained: Path, out: Path, *more: str) -> int:
    return main(["sample", str(trained), "--steps", "2", "--out", str(out), "--device", "cpu", *more])


def files(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.glob("*.png")}


def test_an_interrupted_folder_goes_on_where_it_stopped(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert draw(trained, tmp_path / "whole", "-n", "7", "--batch-size", "2") == 0
    write, written = SampleFolder.write, list[int]()

    def interrupted(self: SampleFolder, first: int, arrays: np.ndarray) -> None:
        if len(written) == 2:
            raise KeyboardInterrupt
        write(self, first, arrays)
        written.append(first)

    monkeypatch.setattr(SampleFolder, "write", interrupted)
    assert draw(trained, tmp_path / "part", "-n", "7", "--batch-size", "2") == 130
    assert sorted(files(tmp_path / "part")) == [f"0000{i}.png" for i in range(4)]
    assert len(list(tmp_path.iterdir())) == 2  # nothing temporary stays
    monkeypatch.setattr(SampleFolder, "write", write)
    (tmp_path / "part" / "00001.png").unlink()
    capsys.readouterr()
    assert draw(trained, tmp_path / "part", "-n", "7", "--batch-size", "2") == 0
    assert "holds 3 of the 7 samples already" in capsys.readouterr().out
    whole, part = files(tmp_path / "whole"), files(tmp_path / "part")
    assert whole.keys() == part.keys()
    assert sum(whole[name] == part[name] for name in whole) >= 6  # another batch may round in another way
    assert draw(trained, tmp_path / "part", "-n", "7") == 0
    assert "holds all 7 samples" in capsys.readouterr().out
    assert files(tmp_path / "part") == part


def test_files_are_named_by_the_number_of_the_sample(trained: Path, tmp_path: Path) -> None:
    assert draw(trained, tmp_path / "out", "-n", "2", "--first", "3") == 0
    assert draw(trained, tmp_path / "out", "-n", "2", "--first", "8") == 0
    assert sorted(files(tmp_path / "out")) == ["00003.png", "00004.png", "00008.png", "00009.png"]


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--seed", "1"], "(seed); give a new folder"),
        (["--label", "3"], "(label)"),
        (["--solver", "ddim"], "(solver"),
        (["--steps", "3"], "(times)"),
    ],
)
def test_a_folder_of_another_recipe_is_refused(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], says: str
) -> None:
    assert draw(trained, tmp_path / "out", "-n", "2") == 0
    before = files(tmp_path / "out")
    assert draw(trained, tmp_path / "out", "-n", "3", *flags) == 2
    assert f"holds samples that were made otherwise {says}" in capsys.readouterr().err
    assert files(tmp_path / "out") == before
    (tmp_path / "out" / "samples.json").unlink()
    assert draw(trained, tmp_path / "out", "-n", "3") == 2
    assert "there is no samples.json" in capsys.readouterr().err


def test_an_array_comes_batch_by_batch(trained: Path, tmp_path: Path) -> None:
    for name, size in (("a", "2"), ("b", "5")):
        assert draw(trained, tmp_path / f"{name}.npz", "-n", "5", "--batch-size", size) == 0
    a, b = (np.load(tmp_path / f"{name}.npz")["samples"].astype(int) for name in ("a", "b"))
    assert a.shape == (5, 8, 8, 1)
    assert np.abs(a - b).max() <= 1


@pytest.fixture
def short_of_memory(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, Exception], list[int]]:
    """Networks that fail for more than so many items; the sizes of the batches that were tried."""

    def arrange(most: int, error: Exception) -> list[int]:
        forward, tried = UNet.forward, list[int]()

        def limited(self: UNet, x: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
            tried.append(len(x))
            if len(x) > most:
                raise error
            return forward(self, x, *rest)

        monkeypatch.setattr(UNet, "forward", limited)
        return tried

    return arrange


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("[enforce fail] not enough memory"), MemoryError()],
    ids=lambda error: type(error).__name__,
)
def test_batches_are_halved_where_memory_is_short(
    trained: Path, short_of_memory: Callable[[int, Exception], list[int]], error: Exception
) -> None:
    run = ornstein.load(trained)
    labels = list(range(10))
    expected = run.sample(10, label=labels, steps=2).astype(int)
    tried = short_of_memory(3, error)
    with pytest.warns(UserWarning, match="memory is short: samples are made 5 at a time or fewer") as told:
        found = run.sample(10, label=labels, steps=2, batch_size=10).astype(int)
    assert len(told) == 1
    assert tried[:3] == [10, 5, 2]
    assert set(tried[3:]) == {2}
    assert np.abs(found - expected).max() <= 1


def test_one_sample_that_does_not_fit_is_an_error(
    trained: Path, short_of_memory: Callable[[int, Exception], list[int]], capsys: pytest.CaptureFixture[str]
) -> None:
    short_of_memory(0, MemoryError())
    assert main(["sample", str(trained), "-n", "1", "--steps", "2", "--device", "cpu"]) == 1
    assert "memory ran out" in capsys.readouterr().err
    short_of_memory(0, RuntimeError("a bug"))
    with pytest.raises(RuntimeError, match="a bug"):
        ornstein.load(trained).sample(4, steps=2)


def test_two_batches_at_once_are_the_same_samples(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, seen = ornstein.load(trained), list[tuple[int, int]]()
    monkeypatch.setattr("ornstein.model.SMALL", 0)
    run.model.network.register_forward_pre_hook(lambda _, rows: seen.append((len(rows[0]), torch.get_num_threads())))
    results = []
    for threads in (1, 2):
        with cpu.threads(threads):
            results.append(run.sample(9, label=list(range(9)), steps=3).astype(int))
    assert sorted(set(seen)) == [(4, 1), (5, 1), (9, 1)]
    assert np.abs(results[0] - results[1]).max() <= 1
