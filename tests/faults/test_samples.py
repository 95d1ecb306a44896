"""Samples and edits that are killed, stopped or refused: the same command goes on, and ends with the files of an unbroken one."""

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

ON_CPU = ["--device", "cpu"]
DRAW = ["sample", "RUN", "-n", "7", "--steps", "2", "--batch-size", "2", *ON_CPU, "--out"]
CHANGE = ["edit", "RUN", "IMAGE", "--strength", "0.5", "-n", "3", "--steps", "2", *ON_CPU, "--out"]
COMMANDS = {
    "sample a folder": (DRAW, "x"),
    "sample an array": (DRAW, "x.npz"),
    "sample a grid": (DRAW, "x.png"),
    "edit": (CHANGE, "x.png"),
    "edit into a folder": (CHANGE, "x"),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, run: Callable[..., Any]) -> Path:
    """A run on images, and one of them."""
    root = tmp_path_factory.mktemp("samples")
    words = ["train", "--data", "digits", "--out", str(root / "run"), "--preset", "tiny", "--steps", "2"]
    assert run([*words, "--batch-size", "4", "--samples", "0", *ON_CPU]).code == 0
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(root / "image.png")
    return root


@pytest.fixture
def words(place: Path, request: pytest.FixtureRequest) -> Callable[[Path], list[str]]:
    """A command line, by the folder that it writes into."""
    command, name = COMMANDS[request.param]
    names = {"RUN": str(place / "run"), "IMAGE": str(place / "image.png")}
    return lambda folder: [*(names.get(word, word) for word in command), str(folder / name)]


every = pytest.mark.parametrize("words", COMMANDS, indirect=True)


def contents(folder: Path) -> dict[str, bytes | None]:
    """All files and folders, hidden ones as well."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}


@pytest.fixture
def unbroken(words: Callable[[Path], list[str]], tmp_path: Path, forked: Any) -> tuple[dict[str, bytes | None], int]:
    """What a command leaves that nothing happens to, and how often it changes a file."""
    folder = tmp_path / "whole"
    end = forked((words(folder), {"within": str(folder)}))
    assert end.code == 0, end
    assert end.changes >= 5
    return contents(folder), end.changes


def goes_on(words: list[str], folder: Path, whole: dict[str, bytes | None], forked: Any) -> None:
    end = forked((words, {}))
    assert (end.code, end.err) == (0, ""), end
    found = contents(folder)
    assert found.keys() == whole.keys()
    assert [name for name in whole if found[name] != whole[name]] == []
    shutil.rmtree(folder)


def moments(changes: int, few: int, full: bool) -> Iterator[int]:
    yield from range(1, changes + 1, 1 if full else max(1, changes // few))


@every
def test_killed_at_each_change_of_a_file(
    words: Callable[[Path], list[str]], unbroken: Any, tmp_path: Path, forked: Any, full: bool
) -> None:
    (whole, changes), folder = unbroken, tmp_path / "cut"
    for at in moments(changes, 4, full):
        print("change", at)
        end = forked((words(folder), {"within": str(folder), "at": at}))
        assert end.code == -9, end
        goes_on(words(folder), folder, whole, forked)


@every
def test_signals_leave_nothing_but_whole_files(
    words: Callable[[Path], list[str]], unbroken: Any, tmp_path: Path, forked: Any, cases: Any
) -> None:
    (whole, _), folder = unbroken, tmp_path / "stopped"
    for number, rng in enumerate(cases(2, 40)):
        sent = (signal.SIGTERM, signal.SIGHUP)[number % 2]
        folder.mkdir()
        end = forked((words(folder), {"after": rng.random(), "signal": int(sent)}))
        assert end.code in (0, 128 + sent, -sent), end  # minus: before the command listened
        if end.code > 0:
            assert f"stopped by {sent.name}" in end.err
        left = contents(folder)
        assert not [name for name in left if os.path.basename(name).startswith(".")], left
        assert all(whole[name] == content for name, content in left.items())
        goes_on(words(folder), folder, whole, forked)


@every
def test_a_disk_that_refuses(
    words: Callable[[Path], list[str]], unbroken: Any, tmp_path: Path, forked: Any, cases: Any
) -> None:
    """At any byte of a file, and a folder that is closed: a sentence, no litter, and the same command goes on."""
    (whole, _), folder = unbroken, tmp_path / "full"
    for rng in cases(2, 40):
        folder.mkdir()
        end = forked((words(folder), {"largest": rng.choice([rng.randrange(1, 60), rng.randrange(400)])}))
        if end.code:
            assert end.code == 1, end
            assert "ornstein: ".startswith(end.err[:10]), end  # which goes to a file of that size itself
        assert not [name for name in contents(folder) if os.path.basename(name).startswith(".")]
        goes_on(words(folder), folder, whole, forked)
    folder.mkdir()
    folder.chmod(0o555)
    end = forked((words(folder), {"bound": True}))
    assert end.code == 1, end
    assert "could not be written" in end.err, end
    assert not contents(folder)
    folder.chmod(0o755)
    goes_on(words(folder), folder, whole, forked)


def test_two_at_once_on_one_folder_write_one_recipe(place: Path, tmp_path: Path, forked: Any, cases: Any) -> None:
    """Of two with other seeds one is done, and the other is told to wait or that the folder holds other samples."""
    command = ["sample", str(place / "run"), "-n", "9", "--steps", "2", "--batch-size", "1", *ON_CPU]
    seeds = [[*command, "--seed", str(seed), "--out"] for seed in (0, 1)]
    alone = []
    for seed in (0, 1):
        assert forked(([*seeds[seed], str(tmp_path / f"alone-{seed}")], {})).code == 0
        alone.append(contents(tmp_path / f"alone-{seed}"))
    for _ in cases(2, 40):
        ends = forked(*(([*words, str(tmp_path / "new")], {}) for words in seeds))
        codes = [end.code for end in ends]
        assert codes.count(0) == 1, ends
        winner = codes.index(0)
        said = ends[1 - winner].err
        assert "wait for it" in said or "made otherwise (seed)" in said, ends
        assert contents(tmp_path / "new") == alone[winner]
        shutil.rmtree(tmp_path / "new")
