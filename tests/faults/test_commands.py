"""Every command that writes × kills at each change of a file, signals, full disks, closed folders, umasks, several at once.

The same command again goes on or starts anew, ends well, and leaves no litter; results that cannot be written are printed.
"""

import json
import os
import shutil
import signal
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file

TINY = ["--preset", "tiny", "--batch-size", "4", "--samples", "0", "--device", "cpu"]
CPU = ["--device", "cpu"]
ELBO = ["-n", "100", "--method", "elbo", "--steps", "2", *CPU]
TUNE = ["--steps", "2", "--seconds", "0.2", "--starts", "48", "--teacher", "4", *CPU]
MEASURE = ["-n", "100", "--steps", "2", "--metrics", "mmd", *CPU]


def real(p: Path) -> list[str]:
    return ["--data", f"{p}/points.npy"]


COMMANDS: dict[str, Callable[[Path], list[str]]] = {
    "train": lambda p: ["train", "--data", f"{p}/points.npy", "--out", f"{p}/run", *TINY, "--steps", "14"],
    "sample": lambda p: ["sample", f"{p}/run", "-n", "6", "--steps", "2", "--batch-size", "2", "--out", f"{p}/x.npz"],
    "sample into a folder": lambda p: [
        *("sample", f"{p}/run", "-n", "6", "--steps", "2", "--batch-size", "2", "--out", f"{p}/x"),
    ],
    "edit": lambda p: ["edit", f"{p}/run", f"{p}/item.npy", "--strength", "0.5", "--steps", "2", *CPU],
    "tune": lambda p: ["tune", f"{p}/run", *TUNE],
    "tune into a file": lambda p: ["tune", f"{p}/run", *TUNE, "--out", f"{p}/found-tune.json"],
    "ema": lambda p: ["ema", f"{p}/run", "--length", "0.08"],
    "ema into a folder": lambda p: ["ema", f"{p}/run", "--length", "0.08", "--out", f"{p}/other"],
    "clean": lambda p: ["clean", f"{p}/run"],
    "evaluate": lambda p: ["evaluate", f"{p}/run", *real(p), *MEASURE],
    "evaluate into a file": lambda p: ["evaluate", f"{p}/run", *real(p), *MEASURE, "--out", f"{p}/found-evaluate.json"],
    "compare": lambda p: [
        *(
            "compare",
            f"{p}/run",
            *real(p),
            "--steps",
            "1,2",
            "-n",
            "100",
            "--metrics",
            "mmd",
            "--out",
            f"{p}/c.png",
            *CPU,
        ),
    ],
    "diagnose": lambda p: ["diagnose", f"{p}/run", *real(p), "-n", "100", "--levels", "2", *CPU],
    "likelihood": lambda p: ["likelihood", f"{p}/run", *real(p), *ELBO],
    "likelihood into a file": lambda p: [
        "likelihood",
        f"{p}/run",
        *real(p),
        *ELBO,
        "--out",
        f"{p}/found-likelihood.json",
    ],
}
MEASURES = {
    "tune": "table",
    "evaluate": "scores",
    "diagnose": "levels",
    "likelihood": "nats",
}  # and a key of what they find
SAID = {"tune": "Mean error", "evaluate": "MMD", "diagnose": "calibration", "likelihood": "bound on"}
VARYING = {"seconds", "stamp"}  # keys of what is never the same twice
every = pytest.mark.parametrize("name", COMMANDS)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, forked: Any) -> Path:
    """A folder with a run, its data, and an item to edit; not to be written to."""
    place = tmp_path_factory.mktemp("commands")
    np.save(place / "points.npy", np.random.default_rng(0).normal(size=(240, 3)).astype(np.float32))
    np.save(place / "item.npy", np.zeros((1, 3), dtype=np.float32))
    words = ["--data", str(place / "points.npy"), "--out", str(place / "run"), "--steps", "12", *TINY]
    assert forked((["train", *words], {})).code == 0
    return place


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all of it takes place: some files say where they are."""
    return tmp_path_factory.mktemp("place") / "here"


@pytest.fixture
def fresh(base: Path, place: Path) -> Callable[[], Path]:
    """The folder as it is before a command."""

    def copy(place: Path = place) -> Path:
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(base, place)
        file = place / "run" / "config.yaml"
        file.write_text(file.read_text().replace(str(base), str(place)))
        return place

    return copy


def contents(place: Path) -> dict[str, Any]:
    """All files and folders, and what is in those that are the same whenever a command has come to its end."""

    def still(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: still(entry) for key, entry in value.items() if key not in VARYING}
        return value

    found: dict[str, Any] = {}
    for path in sorted(place.rglob("*")):
        name = path.relative_to(place).as_posix()
        if path.is_dir() or "checkpoints" in name or "tuned" in name or path.suffix in (".html", ".png", ".jsonl"):
            found[name] = None
        elif path.suffix == ".json" and "table" not in (value := json.loads(path.read_text())):
            found[name] = still(value)
        elif path.suffix == ".npz":
            with np.load(path) as arrays:
                found[name] = {key: arrays[key].tobytes() for key in arrays}
        elif path.suffix != ".json":
            found[name] = path.read_bytes()
        else:
            found[name] = None
    return found


def ends_well(name: str, place: Path, whole: dict[str, Any], forked: Any) -> None:
    """The same command again: what it writes, and nothing else, is there."""
    end = forked((COMMANDS[name](place), {}))
    assert (end.code, end.err) == (0, ""), end
    found = contents(place)
    assert found.keys() == whole.keys(), found.keys() ^ whole.keys()
    assert [key for key in whole if found[key] != whole[key]] == []


def sentence(end: Any) -> str:
    """Why it failed, in one sentence."""
    lines = [line for line in end.err.splitlines() if line and not line.startswith("warning: ")]
    assert len(lines) == 1, end
    return str(lines[0])


def result(name: str, place: Path) -> dict[str, Any] | None:
    """What a command has written of what it measured."""
    folder = place if "file" in name else place / "run" / ("tuned" if name == "tune" else "evaluation")
    files = [file for file in folder.glob("*.json") if file.parent == folder]
    return json.loads(files[0].read_text()) if files else None


@every
def test_killed_stopped_refused(name: str, fresh: Callable[[], Path], forked: Any, full: bool) -> None:
    """At changes of files, in the middle of writes, at any moment."""
    rng, kind = Random(name), name.split()[0]
    place = fresh()
    unbroken = forked((COMMANDS[name](place), {"within": str(place)}))
    assert (unbroken.code, unbroken.err) == (0, ""), unbroken
    whole = contents(place)
    assert not [key for key in whole if "/." in f"/{key}"]
    kills: list[dict[str, Any]] = [{"within": str(place), "at": number} for number in range(1, unbroken.changes + 1)]
    others: list[dict[str, Any]] = []
    for _ in range(15):
        kinds = (signal.SIGTERM, signal.SIGHUP)
        others += [{"after": rng.random() * unbroken.seconds, "signal": int(number)} for number in kinds]
        others += [{"largest": rng.choice([rng.randrange(4000, 40_000), rng.randrange(4000, 1_500_000)])}]
    for fate in [*kills, *others] if full else [rng.choice(rng.choice([kills, others]))]:
        print(fate)
        place = fresh()
        end = forked((COMMANDS[name](place), fate))
        if "at" in fate:
            assert end.code == -9, end
        elif "after" in fate:
            assert end.code in (0, 128 + fate["signal"], -fate["signal"]), end
        elif end.code:
            assert end.code == 1, end
            assert "could not be written" in sentence(end) or "room for" in sentence(end), end
        if kind in MEASURES and SAID[kind] in end.out:
            assert MEASURES[kind] in (result(name, place) or {}), end
        ends_well(name, place, whole, forked)


@every
def test_closed_folders(name: str, fresh: Callable[[], Path], forked: Any) -> None:
    """Nothing can be written anywhere: one sentence, and all that was measured on the screen."""
    place = fresh()
    folders = [place, *(path for path in place.rglob("*") if path.is_dir())]
    before = contents(place)
    for folder in folders:
        folder.chmod(0o555)
    try:
        end = forked((COMMANDS[name](place), {"bound": True}))
        assert end.code == 1, end
        assert str(place) in sentence(end), end
        assert contents(place) == before
    finally:
        for folder in folders:
            folder.chmod(0o755)
    if name in MEASURES:
        assert MEASURES[name] in json.loads(next(line for line in end.out.splitlines() if line.startswith("{")))
        assert SAID[name] in end.out
    ended = forked((COMMANDS[name](place), {}))
    assert (ended.code, ended.err) == (0, ""), ended


def test_a_full_disk(base: Path, disk: Path, fresh: Any, forked: Any, full: bool) -> None:
    """No room for anything at all, then room again."""
    subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
    for name in COMMANDS if full else ["tune", "ema into a folder", "evaluate", "likelihood into a file"]:
        place, kind = fresh(disk / "here"), name.split()[0]
        unbroken = forked((COMMANDS[name](place), {}))
        assert unbroken.code == 0, unbroken
        whole = contents(place)
        place = fresh(disk / "here")
        with (disk / "filler").open("wb", 0) as filler:
            try:
                while True:
                    filler.write(bytes(4096))
            except OSError:
                pass
        end = forked((COMMANDS[name](place), {}))
        (disk / "filler").unlink()
        assert end.code == 1, end
        assert "No space left" in sentence(end) or "room for" in sentence(end), end
        if kind in MEASURES:
            line = next(line for line in end.out.splitlines() if line.startswith("{"))
            assert MEASURES[kind] in json.loads(line)
        ends_well(name, place, whole, forked)


@pytest.mark.slow
@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077])
def test_permissions_are_those_of_the_umask(
    umask: int, fresh: Callable[[], Path], forked: Any, full: bool, tmp_path: Path
) -> None:
    """Of all that any command writes, and keeps: also of what it replaces, and of the cache."""
    place = fresh()
    shutil.rmtree(place / "run")
    cache = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    before = {path: path.stat().st_mode for path in place.rglob("*")}
    others = [name for name in COMMANDS if name not in ("train", "clean")]  # what that removes, others need
    first = Random(umask).sample(others, 13 if full else 3)
    for name in ("train", "train", "ema", *first):
        end = forked((COMMANDS[name](place), {"umask": umask, "env": cache}))
        assert end.code == 0, end
    made = {path: path.stat().st_mode for path in (*place.rglob("*"), *(tmp_path / "cache").rglob("*"))}
    for path, mode in made.items():
        usual = 0o777 if stat.S_ISDIR(mode) else 0o666
        assert stat.S_IMODE(mode) == (stat.S_IMODE(before[path]) if path in before else usual & ~umask), path
    for path in place.rglob("*.safetensors"):  # those of a file that is replaced stay
        path.chmod(0o640)
    assert forked((COMMANDS["ema"](place), {"umask": umask})).code == 0
    assert stat.S_IMODE((place / "run" / "model" / "model.safetensors").stat().st_mode) == 0o640


def told_to_wait(end: Any) -> bool:
    reasons = ("wait for it", "is not empty", "holds a result of other flags", "made otherwise", "meanwhile")
    return any(reason in sentence(end) for reason in reasons)


def test_several_at_once(fresh: Callable[[], Path], forked: Any, full: bool) -> None:
    """One writes, the others are told to wait, or come when it is done; what is there is what one would have written."""
    some = ["sample into a folder", "edit", "tune", "ema", "ema into a folder", "likelihood"]
    for number, name in enumerate(COMMANDS if full else some):
        print(name)
        place = fresh()
        assert forked((COMMANDS[name](place), {})).code == 0
        whole = contents(place)
        for count in (2, 4) if full else [2 + 2 * (number % 2)]:
            place = fresh()
            ends = forked(*[(COMMANDS[name](place), {}) for _ in range(count)])
            assert min(end.code for end in ends) == 0, ends
            assert all(end.code == 0 or told_to_wait(end) for end in ends), ends
            assert contents(place) == whole


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("sample", ["--seed", "1"]),
        ("sample into a folder", ["--seed", "1"]),
        ("ema", ["--length", "0.12"]),
        ("ema into a folder", ["--length", "0.12"]),
        ("evaluate into a file", ["--seed", "1"]),
        ("likelihood into a file", ["--seed", "1"]),
    ],
)
def test_two_recipes_for_one_place_at_once(
    name: str, more: list[str], fresh: Callable[[], Path], forked: Any, full: bool
) -> None:
    """What is there in the end is of one of them, whole."""
    recipes, alone = [[], more], []
    for recipe in recipes:
        place = fresh()
        assert forked(([*COMMANDS[name](place), *recipe], {})).code == 0
        alone.append(contents(place))
    assert alone[0] != alone[1]
    for _ in range(10 if full else 1):
        place = fresh()
        ends = forked(*[([*COMMANDS[name](place), *recipe], {}) for recipe in recipes * 2])
        assert min(end.code for end in ends) == 0, ends
        assert all(end.code == 0 or told_to_wait(end) for end in ends), ends
        assert contents(place) in alone


def test_an_average_that_began_before_a_training_ended(fresh: Callable[[], Path], forked: Any) -> None:
    """In any order, the model in the end is of the newest checkpoint."""
    place = fresh()
    more = [*COMMANDS["train"](place)[:-1], "40", "--save-every", "2"]
    ends = forked((more, {}), (COMMANDS["ema"](place), {}))
    assert sorted(end.code for end in ends) in ([0, 0], [0, 1]), ends
    if ends[0].code:
        assert "is being averaged by process" in sentence(ends[0])
        ends = [forked((more, {})), ends[1]]
    elif ends[1].code:
        assert "is being trained by process" in sentence(ends[1])
    newest = load_file(place / "run" / "checkpoints" / "step-00000040" / "average.safetensors")
    model = load_file(place / "run" / "model" / "model.safetensors")
    assert all(bool((newest[name] == model[name]).all()) for name in newest)
    assert os.listdir(place / "run" / "model") != []
