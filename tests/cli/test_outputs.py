"""What is at the place of a result already: every command with `--out`, and every thing that may be there."""

import json
import os
import re
import shlex
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import ornstein
from ornstein.cli import main
from ornstein.files.lock import hold
from ornstein.files.output import recipe_of

QUICK = ["--steps", "2", "--device", "cpu"]
REAL = ["--data", "digits:test", "--device", "cpu"]
PIXELS = ["--steps", "2", "--features", "pixels"]
# by name: the words of a command, the words that make it another recipe, and the ending of its output
COMMANDS: dict[str, tuple[list[str], list[str], str]] = {
    "sample a grid": (["sample", "RUN", "-n", "2", *QUICK], ["--seed", "1"], ".png"),
    "sample a jpeg": (["sample", "RUN", "-n", "2", *QUICK], ["--seed", "1"], ".jpg"),
    "sample an array": (["sample", "RUN", "-n", "2", *QUICK], ["-n", "3"], ".npz"),
    "sample a folder": (["sample", "RUN", "-n", "2", *QUICK], ["--label", "3"], ""),
    "edit": (["edit", "RUN", "IMAGE", "--strength", "0.5", *QUICK], ["--seed", "1"], ".png"),
    "edit a folder": (["edit", "RUN", "IMAGE", "--strength", "0.5", *QUICK], ["--strength", "0.6"], ""),
    "restore": (["restore", "RUN", "SMALL", "--method", "diffpir", *QUICK], ["--noise", "0.1"], ".npz"),
    "interpolate": (["interpolate", "RUN", "IMAGE", "IMAGE", "--frames", "2", *QUICK], ["--frames", "3"], ".png"),
    "interpolate a folder": (["interpolate", "RUN", "IMAGE", "IMAGE", "--frames", "2", *QUICK], ["--label", "1"], ""),
    "compare": (["compare", "RUN", "-n", "100", *PIXELS, *REAL], ["--seed", "1"], ".png"),
    "likelihood": (["likelihood", "RUN", "-n", "1", "--method", "elbo", "--steps", "2", *REAL], ["--seed", "1"], ".json"),
    "evaluate": (["evaluate", "RUN", "-n", "100", *PIXELS, "--metrics", "kid", *REAL], ["--seed", "1"], ".json"),
    "diagnose": (["diagnose", "RUN", "-n", "100", "--levels", "1", *REAL], ["--seed", "1"], ".json"),
    "tune": (["tune", "RUN", *QUICK, "--seconds", "0.2", "--starts", "48", "--teacher", "4"], ["--seed", "1"], ".json"),
}  # fmt: skip
FOLDERS = {name for name, (words, _, _) in COMMANDS.items() if words[0] in ("sample", "edit", "restore", "interpolate")}
MEASURED = {"likelihood", "evaluate", "diagnose", "tune"}  # which say how long it took
BESIDE = {
    "edit": "out-beside.png",
    "edit a folder": "out-beside.png",
    "restore": "out-beside.png",
    "compare": "out.json",
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run and images to work on."""
    root = tmp_path_factory.mktemp("outputs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(root / "cache"))
        words = ["train", "--data", "digits", "--out", str(root / "run"), "--preset", "tiny", "--batch-size", "4"]
        assert main([*words, *QUICK, "--samples", "0"]) == 0
    for name, side in (("image", 8), ("small", 4)):
        Image.fromarray(np.arange(side * side, dtype=np.uint8).reshape(side, side)).save(root / f"{name}.png")
    return root


@pytest.fixture(autouse=True)
def _cache(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(place / "cache"))


@pytest.fixture
def call(place: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Runs words in which RUN, IMAGE and SMALL stand for those of `place`: the exit code, and the sentence."""
    names = {"RUN": place / "run", "IMAGE": place / "image.png", "SMALL": place / "small.png"}

    def run(words: list[str], out: Path, *more: str) -> tuple[int, str]:
        capsys.readouterr()
        code = main([str(names.get(word, word)) for word in words] + ["--out", str(out), *more])
        lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("warning")]
        assert len(lines) == (code != 0), lines
        assert "unexpected" not in "".join(lines)
        return code, "".join(lines)

    return run


def tree(root: Path) -> dict[str, tuple[Any, ...]]:
    """All that is in a folder: kinds, modes, contents and targets of links."""
    found: dict[str, tuple[Any, ...]] = {}
    for path in sorted(root.rglob("*")):
        about = path.lstat()
        content: Any = os.readlink(path) if path.is_symlink() else None
        content = path.read_bytes() if stat.S_ISREG(about.st_mode) else content
        found[path.relative_to(root).as_posix()] = (about.st_mode, content)
    return found


def users_file(out: Path) -> None:
    out.write_bytes(b"precious")
    out.chmod(0o640)


def users_folder(out: Path) -> None:
    """A data set as FFHQ names it."""
    out.mkdir()
    for number in range(3):
        Image.fromarray(np.full((8, 8), 7 * number, np.uint8)).save(out / f"{number:05d}.png")


def link_to_file(out: Path) -> None:
    users_file(out.parent / "target")
    out.symlink_to(out.parent / "target")


def link_to_folder(out: Path) -> None:
    users_folder(out.parent / "target")
    out.symlink_to(out.parent / "target")


def dangling_link(out: Path) -> None:
    out.symlink_to(out.parent / "target")


def run_folder(out: Path) -> None:
    (out / "model").mkdir(parents=True)
    (out / "config.yaml").write_text("data: digits\n")
    (out / "model" / "config.json").write_text("{}")


def data_folder(out: Path) -> None:
    for name in ("cats", "dogs"):
        (out / name).mkdir(parents=True)
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(out / name / "1.png")


def pipe(out: Path) -> None:
    os.mkfifo(out)


THINGS = [users_file, users_folder, link_to_file, link_to_folder, dangling_link, run_folder, data_folder, pipe]


@pytest.mark.parametrize("name", COMMANDS)
def test_what_is_there_stays_as_it_is(name: str, call: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    words, _, ending = COMMANDS[name]
    for thing in THINGS:
        root = tmp_path / thing.__name__
        root.mkdir()
        thing(root / f"out{ending}")
        before = tree(root)
        code, sentence = call(words, root / f"out{ending}")
        assert code == 2, (thing, sentence)
        assert str(root) in sentence
        assert "give" in sentence
        assert tree(root) == before, thing


@pytest.mark.parametrize("name", COMMANDS)
def test_force_replaces_files_of_the_name_and_nothing_else(
    name: str, call: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    words, _, ending = COMMANDS[name]
    for thing in THINGS:
        root = tmp_path / thing.__name__
        root.mkdir()
        out = root / f"out{ending}"
        thing(out)
        before = tree(root)
        code, sentence = call(words, out, "--force")
        folder, takes_folders = out.is_dir(), name in FOLDERS
        may = {
            users_file: bool(ending),
            link_to_file: bool(ending),
            dangling_link: True,
            users_folder: takes_folders,
            link_to_folder: takes_folders,
            data_folder: takes_folders,
        }
        assert code == (0 if may.get(thing) else 2), (thing, sentence)
        after = tree(root)
        if code:
            assert after == before, thing
        written = re.compile(
            rf"(out{re.escape(ending)}|target)/(0000[0-2]\.png|samples\.json)" if folder else r"out\..*|target"
        )
        for path, about in before.items():
            if not written.fullmatch(path):
                assert after[path] == about, (thing, path)
            elif code == 0 and stat.S_ISREG(about[0]) and thing in (users_file, link_to_file):
                assert after[path] != about, (thing, path)
                assert after[path][0] == about[0], "its permissions stay"
            elif stat.S_ISLNK(about[0]):
                assert after[path] == about, "the link stays"


@pytest.mark.parametrize("name", COMMANDS)
def test_only_the_same_recipe_goes_on(name: str, call: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    words, other, ending = COMMANDS[name]
    out = tmp_path / "new" / f"out{ending}"
    assert call(words, out) == (0, "")
    first = tree(tmp_path)
    assert not [path for path in first if Path(path).name.startswith(".")]
    assert call(words, out) == (0, "")
    again = tree(tmp_path)
    assert again.keys() == first.keys()
    if name not in MEASURED:
        assert again == first
    code, sentence = call([*words, *other], out)
    assert code == 2
    assert "give" in sentence
    assert tree(tmp_path) == again
    linked = tmp_path / f"link{ending}"
    linked.symlink_to(out)
    if name not in BESIDE:  # of which the second file has another name there
        assert call(words, linked) == (0, "")
        assert linked.is_symlink()


@pytest.mark.parametrize("name", COMMANDS)
def test_a_file_that_was_edited_since_is_the_users(
    name: str, call: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    words, _, ending = COMMANDS[name]
    out = tmp_path / f"out{ending}"
    assert call(words, out) == (0, "")
    if not ending:
        return
    content = bytearray(out.read_bytes())
    content[len(content) // 3] ^= 1
    out.write_bytes(content)
    before = tree(tmp_path)
    assert call(words, out)[0] == 2
    assert tree(tmp_path) == before


@pytest.mark.parametrize("name", BESIDE)
def test_a_second_file_is_looked_for_before_any_work(
    name: str, call: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    words, _, ending = COMMANDS[name]
    (tmp_path / BESIDE[name]).write_text('{"precious": true}')
    before = tree(tmp_path)
    code, sentence = call(words, tmp_path / f"out{ending}")
    assert code == 2
    assert BESIDE[name] in sentence
    assert tree(tmp_path) == before


def test_the_settings_of_a_run_are_no_result(call: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    run_folder(tmp_path / "run")
    before = tree(tmp_path)
    for name in ("compare", "likelihood"):
        words, _, ending = COMMANDS[name]
        assert call(words, tmp_path / "run" / "model" / f"config{ending}")[0] == 2
    assert tree(tmp_path) == before


def test_a_comparison_goes_on_and_loses_no_point(call: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    words, _, _ = COMMANDS["compare"]
    out = tmp_path / "out.png"
    assert call(words, out) == (0, "")
    assert call([*words, "--steps", "2,3"], out) == (0, "")
    before = tree(tmp_path)
    code, sentence = call([*words, "--steps", "3"], out)
    assert (code, "holds points of other runs, solvers or steps" in sentence) == (2, True)
    assert tree(tmp_path) == before


def test_defaults_go_beside_what_is_there(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = place / "run"
    words = ["sample", str(run), "-n", "2", *QUICK]
    assert main(words) == 0
    first = tree(run)
    assert main([*words, "-n", "3"]) == 0
    assert main([*words, "-n", "3"]) == 0
    second = tree(run)
    new = second.keys() - first.keys()
    assert len(new) == 1
    assert re.fullmatch(r"samples-seed-0-abm-2-[0-9a-f]{8}\.png", new.pop())
    assert {path: about for path, about in second.items() if path in first} == first


def test_what_file_managers_leave_is_no_hindrance(call: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    words, _, _ = COMMANDS["sample a folder"]
    out = tmp_path / "out"
    out.mkdir()
    for name in (".DS_Store", "Thumbs.db", "desktop.ini"):
        (out / name).write_text("x")
    (out / ".lock").write_text("filled with samples by process 1 on elsewhere")
    assert call(words, out) == (0, "")
    (out / "notes.txt").write_text("mine")
    code, sentence = call(words, out)
    assert (code, "other files, such as notes.txt" in sentence) == (2, True)


def test_a_first_batch_that_is_stopped_goes_on(
    call: Callable[..., tuple[int, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words, other, _ = COMMANDS["sample a folder"]
    batches = ornstein.runs.Run.batches

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ornstein.runs.Run, "batches", stop)
    code, sentence = call(words, tmp_path / "out")
    assert code == 130
    assert "holds 0 of the 2 samples, and the same command makes the others" in sentence
    assert os.listdir(tmp_path / "out") == ["samples.json"]
    monkeypatch.setattr(ornstein.runs.Run, "batches", batches)
    assert call([*words, *other], tmp_path / "out")[0] == 2
    assert call(words, tmp_path / "out") == (0, "")


def test_a_folder_is_held_while_it_is_filled(call: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    words, _, _ = COMMANDS["sample a folder"]
    with hold(tmp_path / "out", "filled with samples"):
        code, sentence = call(words, tmp_path / "out")
    assert code == 1
    assert re.search(r"is being filled with samples by process \d+ on .*; wait for it", sentence)
    assert call(words, tmp_path / "out") == (0, "")


def test_a_recipe_that_changes_meanwhile_ends_it(
    call: Callable[..., tuple[int, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words, _, _ = COMMANDS["sample a folder"]
    batches, out = ornstein.runs.Run.batches, tmp_path / "out"

    def late(*arguments: Any, **named: Any) -> Any:
        (out / "samples.json").write_text(json.dumps({"seed": 7}))
        return batches(*arguments, **named)

    monkeypatch.setattr(ornstein.runs.Run, "batches", late)
    code, sentence = call(words, out)
    assert (code, "was changed meanwhile" in sentence) == (1, True)
    assert sorted(os.listdir(out)) == ["samples.json"]


@pytest.mark.parametrize("name", [name for name, (_, _, ending) in COMMANDS.items() if ending])
def test_a_file_that_appears_meanwhile_stays(
    name: str, call: Callable[..., tuple[int, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words, _, ending = COMMANDS[name]
    out, link = tmp_path / f"out{ending}", os.link

    def late(old: Path, new: Path) -> None:
        if Path(new).name == out.name and not out.exists():
            out.write_text("precious")
        link(old, new)

    monkeypatch.setattr(os, "link", late)
    assert call(words, out)[0] == 2
    assert out.read_text() == "precious"


def test_counts_that_cannot_be(call: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    words = ["sample", "RUN", *QUICK, "-n", "100000000000"]
    for name, says in (("x.png", "too large"), ("x.npz", "there is room for"), ("x", "there is room for")):
        code, sentence = call(words, tmp_path / name)
        assert (code in (1, 2), says in sentence) == (True, True), sentence
        assert "100,000,000,000" in sentence or "GB" in sentence
    assert not tree(tmp_path)


def test_names_that_cannot_be(call: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for name, (words, _, ending) in COMMANDS.items():
        before = tree(tmp_path)
        for out in (tmp_path / "file" / f"x{ending}", tmp_path / f"{'x' * 300}{ending}"):
            code, sentence = call(words, out)
            assert code == 2, (name, out)
            assert "could not be written" in sentence
        assert tree(tmp_path) == before
        odd = Path(os.fsdecode(bytes(tmp_path) + b"/deep/\xff" + name.encode() + ending.encode()))
        assert call(words, odd) == (0, "")
        assert odd.exists()


def test_samples_that_are_not_finite(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of floating data: the first is named, what was finite before it stays, and the exit code is not 0."""
    np.save(tmp_path / "points.npy", np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32))
    words = ["train", "--data", str(tmp_path / "points.npy"), "--out", str(tmp_path / "run"), "--samples", "0"]
    assert main([*words, "--batch-size", "4", *QUICK]) == 0
    batches = ornstein.runs.Run.batches

    def spoiled(*arguments: Any, **named: Any) -> Any:
        for batch in batches(*arguments, **named):
            batch[5:] = np.nan
            yield batch

    monkeypatch.setattr(ornstein.runs.Run, "batches", spoiled)
    sample = ["sample", str(tmp_path / "run"), "-n", "8", "--first", "2", *QUICK, "--out"]
    for name in ("x.npz", "x"):
        capsys.readouterr()
        assert main([*sample, str(tmp_path / name)]) == 1
        assert "sample 7 holds NaN" in capsys.readouterr().err
    assert not (tmp_path / "x.npz").exists()
    assert sorted(os.listdir(tmp_path / "x")) == [*(f"{i:05d}.npy" for i in range(2, 7)), "samples.json"]
    monkeypatch.undo()
    edit = ["edit", str(tmp_path / "run"), str(tmp_path / "points.npy"), "--strength", "0.5", *QUICK]
    monkeypatch.setattr(ornstein.data.DataSpec, "from_model", lambda self, x: np.full((40, 3), np.inf, np.float32))
    assert main([*edit, "--out", str(tmp_path / "e.npz")]) == 1
    assert "result 0 holds NaN or infinite numbers" in capsys.readouterr().err
    assert not (tmp_path / "e.npz").exists()


def test_a_stamp_is_the_recipe(call: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    """The same in every format, and another for other flags."""
    words, _, _ = COMMANDS["sample a grid"]
    found = set()
    for ending in ("png", "jpg", "webp", "tif", "npz"):
        assert call(words, tmp_path / f"a.{ending}") == (0, "")
        found.add(recipe_of(tmp_path / f"a.{ending}"))
    assert len(found) == 1
    assert None not in found
    assert call([*words, "--seed", "1"], tmp_path / "b.png") == (0, "")
    assert recipe_of(tmp_path / "b.png") not in found
    assert call(words, tmp_path / "a.bmp") == (0, "")  # which has no place for it
    assert call(words, tmp_path / "a.bmp")[0] == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("redirected", [">&-", ">/dev/full", ">&- 2>&-"])
def test_standard_output_that_takes_nothing(redirected: str, place: Path, tmp_path: Path) -> None:
    """A sentence, where there is a place for it, and exit code 1; what is written is whole."""
    words = [sys.executable, "-m", "ornstein", "sample", str(place / "run"), "-n", "2", *QUICK, "--out"]
    command = f"{shlex.join([*words, str(tmp_path / 'x')])} {redirected}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert ("standard output" in done.stderr) == ("2>" not in redirected)
    assert len(done.stderr.splitlines()) <= 1
    assert done.stdout == ""
    assert not [path for path in tree(tmp_path) if Path(path).name.startswith(".")]
    assert main([*words[3:], str(tmp_path / "x")]) == 0
    assert sorted(os.listdir(tmp_path / "x")) == ["00000.png", "00001.png", "samples.json"]
