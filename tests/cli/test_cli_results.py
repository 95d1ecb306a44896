"""`tune`, `evaluate`, `diagnose`, `likelihood`: results are written first, or printed whole; --out; one at a time."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

import ornstein
from ornstein.cli import main
from ornstein.cli import results as module
from ornstein.errors import OrnsteinError
from ornstein.files.lock import hold

COMMANDS = {
    "tune": ["--steps", "2", "--seconds", "1", "--starts", "48", "--teacher", "8"],
    "evaluate": ["-n", "100", "--steps", "2"],
    "diagnose": ["-n", "100", "--levels", "2"],
    "likelihood": ["-n", "100", "--method", "elbo", "--steps", "2"],
}
FOLDERS = {"tune": "tuned"}
KEYS = {"tune": "table", "evaluate": "scores", "diagnose": "levels", "likelihood": "nats"}


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("runs")
    np.save(place / "points.npy", np.random.default_rng(0).normal(size=(240, 3)).astype(np.float32))
    words = ["--data", str(place / "points.npy"), "--out", str(place / "run"), "--steps", "3", "--preset", "tiny"]
    assert main(["train", *words, "--samples", "0", "--batch-size", "4", "--device", "cpu"]) == 0
    shutil.copyfile(place / "points.npy", place / "run" / "points.npy")
    return place / "run"


@pytest.fixture
def copied(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


def words(command: str, run: Path, *more: str) -> list[str]:
    data = [] if command == "tune" else ["--data", str(run / "points.npy")]
    return [command, str(run), *data, *COMMANDS[command], "--device", "cpu", *more]


def printed(out: str) -> dict[str, Any]:
    """The one line of JSON in what was printed."""
    (line,) = (line for line in out.splitlines() if line.startswith("{"))
    return dict(json.loads(line))


@pytest.mark.parametrize("command", COMMANDS)
def test_what_cannot_be_written_is_printed_whole(
    copied: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    """Where the folder is a file: no permission stops root."""
    (copied / FOLDERS.get(command, "evaluation")).write_text("mine")
    assert main(words(command, copied)) != 0
    out, err = capsys.readouterr()
    assert KEYS[command] in printed(out)
    assert f"{copied / 'evaluation'}/" not in out
    assert "the results will be printed in any case" in err
    assert "could not be written" in err.splitlines()[-1]
    assert (copied / FOLDERS.get(command, "evaluation")).read_text() == "mine"
    if command == "tune":
        assert "Use it" in out


@pytest.mark.parametrize("command", COMMANDS)
def test_a_file_of_the_users(copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str) -> None:
    """It is written, and nothing in the run; the same command writes it again, another one does not."""
    before = {path: path.stat().st_mtime_ns for path in copied.rglob("*")}
    file = tmp_path / "found.json"
    for _ in range(2):
        assert main(words(command, copied, "--out", str(file))) == 0
    assert {path: path.stat().st_mtime_ns for path in copied.rglob("*")} == before
    assert KEYS[command] in json.loads(file.read_text())
    content = file.read_bytes()
    assert main(words(command, copied, "--out", str(file), "--seed", "7")) == 2
    assert "holds a result of other flags" in capsys.readouterr().err
    assert file.read_bytes() == content
    file.write_text("{}")
    assert main(words(command, copied, "--out", str(file))) == 2
    assert file.read_text() == "{}"
    assert main(words(command, copied, "--out", str(file), "--force")) == 0
    assert main(words(command, copied, "--out", str(tmp_path / "found.txt"))) == 2
    assert "is no .json file" in capsys.readouterr().err


def test_a_solver_in_a_file(copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "solver.json"
    assert main(words("tune", copied, "--out", str(file))) == 0
    assert f"--solver tuned:{file} --steps 2" in capsys.readouterr().out
    flags = [str(copied), "--solver", f"tuned:{file}", "--steps", "2", "--device", "cpu"]
    assert main(["sample", *flags, "-n", "4", "--out", str(tmp_path / "x.npz")]) == 0
    run = ornstein.load(copied)
    solver = run.tuned(2, file=file)
    np.testing.assert_array_equal(np.load(tmp_path / "x.npz")["samples"], run.sample(4, solver=solver, steps=2))
    assert main(["sample", *flags, "-n", "4"]) == 0
    assert main(["evaluate", *flags, "-n", "100", "--data", str(copied / "points.npy")]) == 0
    assert len(list((copied / "evaluation").glob("*.json"))) == 1
    capsys.readouterr()
    assert main(["sample", str(copied), "--solver", f"tuned:{tmp_path / 'none.json'}", "--steps", "2"]) == 2
    assert f"none.json is missing; make it with `ornstein tune {copied} --steps 2 --out" in capsys.readouterr().err
    assert main(["sample", str(copied), "--solver", f"tuned:{file}", "--steps", "3"]) == 1
    assert "it holds 2 steps" in capsys.readouterr().err


@pytest.mark.parametrize("command", COMMANDS)
def test_one_at_a_time_beside_a_training(copied: Path, capsys: pytest.CaptureFixture[str], command: str) -> None:
    folder = copied / FOLDERS.get(command, "evaluation")
    with hold(folder, "written"):
        assert main(words(command, copied)) == 1
        assert f"{folder} is being written by process" in capsys.readouterr().err
        assert [path.name for path in folder.iterdir()] == [".lock"]
    with hold(copied):
        assert main(words(command, copied)) == 0
    assert not (folder / ".lock").exists()


@pytest.mark.parametrize("command", COMMANDS)
def test_a_model_that_changes_meanwhile(
    copied: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """Results name the weights that they belong to, and the command says that the run has others by now."""
    own = ornstein.load(copied).weights_hash
    enter = module.Results.__enter__

    def change(self: module.Results) -> module.Results:
        file = copied / "model" / "model.safetensors"
        save_file({name: tensor + 1 for name, tensor in load_file(file).items()}, file)
        return enter(self)

    monkeypatch.setattr(module.Results, "__enter__", change)
    assert main(words(command, copied)) == 0
    out = capsys.readouterr().out
    assert f"{copied} holds another model by now; this belongs to the one before" in out
    assert own in out
    (file,) = (copied / FOLDERS.get(command, "evaluation")).glob("*.json")
    assert own in file.read_text()


@pytest.mark.parametrize("command", COMMANDS)
def test_a_reader_that_goes_away_has_not_taken_the_result(
    copied: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """Whatever is printed after the measuring: the JSON is there by then."""
    measured = list[bool]()
    for name in ("evaluate", "diagnose", "likelihood", "tune"):
        say = __import__(f"ornstein.cli.{name}", fromlist=["say"]).say

        def closed(*lines: Any, say: Any = say) -> None:
            if measured:
                raise BrokenPipeError
            say(*lines)

        monkeypatch.setattr(f"ornstein.cli.{name}.say", closed)
    write = module.Results.write

    def writing(self: module.Results, *arguments: Any) -> None:
        write(self, *arguments)
        measured.append(True)

    monkeypatch.setattr(module.Results, "write", writing)
    monkeypatch.setattr("os.dup2", lambda *_: 0)
    assert main(words(command, copied)) == 1
    (file,) = (copied / FOLDERS.get(command, "evaluation")).glob("*.json")
    assert KEYS[command] in json.loads(file.read_text())


def test_one_tunes_at_a_time(copied: Path) -> None:
    with hold(copied / "tuned", "tuned"), pytest.raises(OrnsteinError, match="is being tuned by process"):
        ornstein.load(copied).tune(2, seconds=1.0)


@pytest.mark.parametrize("command", ["evaluate", "diagnose"])
def test_a_file_of_somebody_else_in_the_place_of_a_result_stays(copied: Path, command: str) -> None:
    assert main(words(command, copied)) == 0
    (result,) = (copied / "evaluation").glob("*.json")
    before = json.loads(result.read_text())[KEYS[command]]
    assert main(words(command, copied)) == 0  # an earlier result makes room
    assert json.loads(result.read_text())[KEYS[command]] == before
    result.write_text("mine")
    assert main(words(command, copied)) == 0
    assert result.read_text() == "mine"
    (other,) = (copied / "evaluation").glob(f"{result.stem}-*.json")
    assert KEYS[command] in json.loads(other.read_text())
