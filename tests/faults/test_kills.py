"""SIGKILL at each change of a file, in the middle of files, at any moment: the run goes on and ends bit for bit as unbroken."""

import json
import re
import shutil
import socket
from pathlib import Path
from random import Random
from typing import Any

import pytest

import ornstein
from ornstein.folder import checkpoints

LENGTH = ["--steps", "9", "--save-every", "3", "--keep", "2", "--snapshots", "2", "--samples", "2"]
SMALL = ["--preset", "tiny", "--batch-size", "4", "--device", "cpu"]


def train(points: Path, out: Path) -> list[str]:
    return ["train", "--data", str(points), "--out", str(out), *LENGTH, *SMALL]


def changing(key: str) -> bool:
    """Whether it is the key of the time that a run took, or of the sum of a file with the time, or with a header in any order."""
    return key in ("seconds", "drawing", "state.json") or key.startswith(f"{checkpoints.SHARDS}/")


def contents(out: Path) -> dict[str, Any]:
    """All files and folders of a run, and what is in them but for what is `changing`."""
    found: dict[str, Any] = {}
    for place in sorted(out.rglob("*")):
        name = place.relative_to(out).as_posix()
        if place.is_dir() or place.name == "report.html":
            found[name] = None
        elif place.suffix in (".json", ".jsonl"):
            lines = place.read_text().splitlines() if place.suffix == ".jsonl" else [place.read_text()]
            found[name] = [{k: v for k, v in json.loads(line).items() if not changing(k)} for line in lines]
        elif place.parent.name == checkpoints.SHARDS:
            length, content = int.from_bytes(place.read_bytes()[:8], "little"), place.read_bytes()[8:]
            found[name] = json.loads(content[:length]), content[length:]
        else:
            found[name] = place.read_bytes()
    return found


def sound(out: Path) -> None:
    """What a kill may leave: whole checkpoints, and a model that can be used as soon as there has been a second one."""
    places = list(checkpoints.checkpoints(out / "checkpoints"))
    assert [checkpoints.damage(place) for place in places] == [None] * len(places)
    if len(places) > 1:
        ornstein.load(out)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all runs of this file take place, one after the other: some of their files say where they are."""
    return tmp_path_factory.mktemp("kills") / "run"


@pytest.fixture(autouse=True)
def nothing_left(out: Path) -> None:
    """Of a test that failed, for the next one."""
    shutil.rmtree(out, ignore_errors=True)


@pytest.fixture(scope="module")
def unbroken(points: Path, out: Path, forked: Any) -> tuple[dict[str, Any], int]:
    """A run that nothing happened to, and how often it changed a file."""
    end = forked((train(points, out), {"within": str(out)}))
    assert end.code == 0, end
    assert end.changes > 100
    found = contents(out)
    shutil.rmtree(out)
    return found, end.changes


def same(out: Path, whole: dict[str, Any]) -> None:
    """The files of a run are those of another, every one, and no others."""
    found = contents(out)
    assert found.keys() == whole.keys()
    assert [name for name in whole if found[name] != whole[name]] == []
    shutil.rmtree(out)


def goes_on(words: list[str], out: Path, whole: dict[str, Any], forked: Any) -> None:
    sound(out)
    end = forked((words, {}))
    assert (end.code, end.err) == (0, ""), end
    same(out, whole)


def test_killed_at_each_change_of_a_file(
    points: Path, out: Path, unbroken: tuple[dict[str, Any], int], forked: Any, full: bool
) -> None:
    whole, changes = unbroken
    for at in range(1, changes + 1, 1 if full else changes // 11):
        print("change", at)
        end = forked((train(points, out), {"within": str(out), "at": at}))
        assert end.code == -9, end
        goes_on(train(points, out), out, whole, forked)


def test_a_flow_map_that_was_killed_goes_on(points: Path, out: Path, forked: Any) -> None:
    words = [*train(points, out), "--few-steps", "progressive"]
    words[words.index("--samples") + 1] = "0"  # which sheets are drawn is a matter of time
    end = forked((words, {"within": str(out)}))
    assert end.code == 0, end
    whole = contents(out)
    shutil.rmtree(out)
    assert forked((words, {"within": str(out), "at": end.changes // 2})).code == -9
    goes_on(words, out, whole, forked)


def fate(rng: Random, out: Path, changes: int, seconds: float) -> dict[str, Any]:
    """A death at random: half way through a file, in a write, or at any moment."""
    match rng.randrange(3):
        case 0:
            return {"within": str(out), "at": rng.randrange(1, changes + 1), "torn": rng.random()}
        case 1:
            return {"largest": rng.choice([rng.randrange(3000), rng.randrange(6_000_000)]), "dies": True}
        case _:
            return {"after": rng.random() * seconds}


@pytest.mark.slow
def test_killed_at_random(
    points: Path, out: Path, unbroken: tuple[dict[str, Any], int], forked: Any, cases: Any
) -> None:
    """As often as the dice say before the run may end."""
    whole, changes = unbroken
    for rng in cases(4, 50):
        while True:
            end = forked((train(points, out), fate(rng, out, changes, 3.0)))
            assert end.code in (0, -9, -25), end
            if rng.random() < 0.7 or end.code == 0:
                break
        goes_on(train(points, out), out, whole, forked)


def together(
    points: Path, out: Path, flags: list[str], *fates: dict[str, Any]
) -> list[tuple[list[str], dict[str, Any]]]:
    """Two processes of one run."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    told = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return [
        (train(points, out) + flags, {"env": {**told, "RANK": str(rank), "LOCAL_RANK": str(rank)}, **fate})
        for rank, fate in enumerate(fates)
    ]


@pytest.mark.parametrize("flags", [[], ["--shard"]], ids=["copied", "sharded"])
@pytest.mark.slow
def test_one_of_two_processes_is_killed(points: Path, out: Path, forked: Any, cases: Any, flags: list[str]) -> None:
    """The other one ends, soon and with a sentence; together they go on bit for bit."""
    ends = forked(*together(points, out, flags, {"within": str(out)}, {"within": str(out)}))
    assert [end.code for end in ends] == [0, 0], ends
    whole = contents(out)
    shutil.rmtree(out)
    for number, rng in enumerate(cases(4, 40)):
        rank = number % 4 == 0  # three times of four the one that writes
        changes = ends[rank].changes
        at, after = rng.randrange(1, changes + 1) if changes else None, rng.random() * ends[0].seconds
        fate = {"within": str(out), "at": at} if number % 2 else {"after": after}
        killed = forked(*together(points, out, flags, {} if rank else fate, fate if rank else {}))
        dead, left = killed[rank], killed[not rank]
        assert dead.code in (0, -9), killed
        if dead.code:
            assert left.code in (0, 1), killed
            assert left.seconds - dead.seconds < 120, killed  # a process waits 30 minutes for one that is only slow
            if left.code:
                assert re.search("another process has ended|could not join", left.err), killed
        sound(out)
        again = forked(*together(points, out, flags, {}, {}))
        assert [(end.code, end.err) for end in again] == [(0, "")] * 2, again
        same(out, whole)


def test_the_disk_of_one_of_two_processes_is_full(points: Path, out: Path, forked: Any) -> None:
    """Each writes its own shards; where one cannot, both end with its sentence and nothing is half written."""
    for rank in range(2):
        fate = {"largest": 200_000}
        ends = forked(*together(points, out, ["--shard"], {} if rank else fate, fate if rank else {}))
        assert [end.code for end in ends] == [1, 1], ends
        assert re.search(r"/step-00000003 could not be written \(File too large\)", ends[0].err), ends
        assert len(ends[0].err.splitlines()) == 1, ends
        assert list((out / "checkpoints").iterdir()) == []
