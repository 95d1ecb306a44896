"""What the cache holds, who uses it, and what goes when it is full."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ornstein import data
from ornstein.cli import main
from ornstein.data import cache
from ornstein.errors import OrnsteinError, UsageError


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.delenv("ORNSTEIN_CACHE_LIMIT", raising=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "c"


def filled(folder: Path, sizes: tuple[int, ...] = (4, 5, 6)) -> dict[int, Path]:
    """Entries of the digits in several sizes, used so many days ago."""
    made = {}
    for size in sizes:
        before = {entry.path for entry in cache.entries(folder)}
        data.open("digits", size=size, cache=folder)
        (made[size],) = {entry.path for entry in cache.entries(folder)} - before
        day = time.time() - 86400 * size
        os.utime(made[size] / "entry.json", (day, day))
    return made


def test_entries_say_what_they_are(folder: Path) -> None:
    made = filled(folder)
    entries = cache.entries(folder)
    assert [entry.path for entry in entries] == [made[6], made[5], made[4]]  # the least recently used first
    for entry in entries:
        assert (entry.source, entry.count) == ("digits", 1797)
        assert entry.size == sum(file.stat().st_size for file in entry.path.iterdir())
    data.open("digits", size=6, cache=folder)
    assert cache.entries(folder)[-1].path == made[6]


def test_the_least_recently_used_go_when_it_is_full(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = filled(folder)
    sizes = {entry.path: entry.size for entry in cache.entries(folder)}
    monkeypatch.setenv("ORNSTEIN_CACHE_LIMIT", str(sizes[made[4]] + 80_000))
    new = data.open("digits", size=3, cache=folder)
    assert not made[6].exists()
    assert not made[5].exists()
    assert made[4].exists()
    assert len(cache.entries(folder)) == 2
    monkeypatch.setenv("ORNSTEIN_CACHE_LIMIT", "1kB")  # the one that was just made stays
    assert len(data.open("digits", size=2, cache=folder)) == 1797
    assert len(cache.entries(folder)) == 2  # the new one, and the one that `new` uses
    del new


@pytest.mark.parametrize("limit", ["much", "-1", "5 apples", "1e9"])
def test_a_limit_that_is_none(folder: Path, limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORNSTEIN_CACHE_LIMIT", limit)
    with pytest.raises(UsageError, match="ORNSTEIN_CACHE_LIMIT"):
        data.open("digits", size=4, cache=folder)


def test_limits() -> None:
    assert cache.size_of("1.5 GB", "x") == 1.5e9
    assert cache.size_of("200", "x") == 200
    assert cache.limit() == cache.LIMIT


def test_what_a_living_process_uses_stays(folder: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from ornstein import data; "
        f"found = data.open('digits', size=4, cache=Path({str(folder)!r})); print('open', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdin is not None
        other.stdout.readline()
        assert cache.shrink(folder, 0) == []
        (entry,) = cache.entries(folder)
        other.stdin.close()
        other.wait()
    assert cache.shrink(folder, 0) == [entry]
    assert list(folder.iterdir()) == []


def stranger(folder: Path, kind: str) -> Path:
    """A folder that only looks like an entry."""
    made = filled(folder, (4,))[4]
    place = folder / ("a" * 32)
    made.rename(place)
    match kind:
        case "no entry.json":
            (place / "entry.json").unlink()
        case "other maker":
            about = json.loads((place / "entry.json").read_text())
            (place / "entry.json").write_text(json.dumps({**about, "made_by": "somebody"}))
        case "one file more":
            (place / "thesis.tex").write_text("mine")
        case "other name":
            place = place.rename(folder / "results")
        case "a link":
            moved = place.rename(folder / "moved")
            place.symlink_to(moved)
        case "a linked entry.json":
            (place / "entry.json").rename(folder / "e.json")
            (place / "entry.json").symlink_to(folder / "e.json")
    return place


@pytest.mark.parametrize(
    "kind", ["no entry.json", "other maker", "one file more", "other name", "a link", "a linked entry.json"]
)
def test_what_is_not_its_own_is_not_removed(folder: Path, kind: str) -> None:
    place = stranger(folder, kind)
    before = {file: file.stat().st_size for file in folder.rglob("*")}
    assert cache.entries(folder) == []
    assert main(["cache", "--prune", "--cache", str(folder)]) == 0
    assert {file: file.stat().st_size for file in folder.rglob("*")} == before
    assert os.path.lexists(place)


def test_entries_of_the_first_format_are_known(folder: Path) -> None:
    """They are of no use any more, but this library made them."""
    old = folder / ("0" * 32)
    old.mkdir(parents=True)
    np.save(old / "items.npy", np.zeros(3))
    about = {"classes": [], "low": None, "high": None, "notes": [], "files": {"items.npy": [152, 0]}}
    (old / "entry.json").write_text(json.dumps(about))
    assert [entry.path for entry in cache.entries(folder)] == [old]
    assert cache.shrink(folder, 0)
    assert not old.exists()


def test_the_command(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = filled(folder)
    assert main(["cache", "--cache", str(folder)]) == 0
    listed = capsys.readouterr().out
    assert listed.count("digits") == 3
    assert "1,797" in listed
    assert "144 h 0 min ago" in listed
    assert "3 entries of" in listed
    assert main(["cache", f"--cache={folder}", "--prune", "--older-than", "5.5d"]) == 0
    assert "Removed 1 entries" in capsys.readouterr().out
    assert not made[6].exists()
    assert main(["cache", "--cache", str(folder), "--prune", "--to", "60kB"]) == 0
    assert [entry.path for entry in cache.entries(folder)] == [made[4]]
    held = data.open("digits", size=4, cache=folder)
    assert main(["cache", "--cache", str(folder), "--prune"]) == 0
    assert "1 entries stay, which a running command uses: digits." in capsys.readouterr().out
    del held
    assert main(["cache", "--cache", str(folder), "--prune"]) == 0
    assert list(folder.iterdir()) == []
    assert main(["cache", "--cache", str(folder / "none")]) == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--to", "5GB"], "give it too"),
        (["--prune", "--to", "some"], "--to"),
        (["--prune", "--older-than", "5"], "--older-than"),
        (["--prune", "--older-than", "-5d"], "--older-than"),
        (["--cache", ""], "--cache"),
        (["--cache="], "--cache"),
        (["--cache", "a\0b"], "--cache"),
        (["--cache"], "--cache"),
    ],
)
def test_flags_that_say_nothing(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cache", *words]) == 2
    assert message in capsys.readouterr().err


def test_the_flag_places_the_cache_and_is_no_setting(
    tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", "--data", "digits", "--size", "6", "--steps", "1", "--preset", "tiny", "--samples", "0"]
    words += ["--batch-size", "4", "--device", "cpu", "--snapshots", "0", "--out", str(tmp_path / "run")]
    assert main([*words, "--cache", str(folder)]) == 0
    assert len(cache.entries(folder)) == 1
    assert "ORNSTEIN_CACHE" not in os.environ
    assert not (tmp_path / "xdg").exists()
    assert "\ncache:" not in (tmp_path / "run" / "config.yaml").read_text()
    assert main(words) == 0  # another place, and the same run
    assert (tmp_path / "xdg").exists()


def test_a_cache_that_cannot_be_written_names_what_to_set(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(
        OrnsteinError, match=r"could not be written .* point ORNSTEIN_CACHE or --cache at another folder"
    ):
        data.open("digits", size=4, cache=tmp_path / "file")
    archive = tmp_path / "a.npz"
    np.savez(archive, x=np.zeros((3 << 20, 2), np.uint8))
    with pytest.raises(
        OrnsteinError, match=r"could not be written .* point ORNSTEIN_CACHE or --cache at another folder"
    ):
        data.open(archive, cache=tmp_path / "file")


def test_a_large_limit_reads_what_is_there(folder: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("ORNSTEIN_CACHE_LIMIT", "none")
    filled(folder)
    assert len(cache.entries(folder)) == 3
