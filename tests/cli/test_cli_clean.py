"""`ornstein clean`: what sampling does not need goes, what is not provably ours stays, and no kill in the middle breaks a run."""

import os
import shutil
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

import ornstein
from ornstein.cli import main
from ornstein.files.lock import hold
from ornstein.files.owner import Temporary
from ornstein.folder import cleaning, posthoc

WORDS = [
    "--data",
    "digits",
    "--steps",
    "12",
    "--samples",
    "4",
    "--preset",
    "tiny",
    "--batch-size",
    "4",
    "--device",
    "cpu",
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "digits"
    assert main(["train", *WORDS, "--save-every", "6", "--out", str(out)]) == 0
    return out


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file() and not f.is_symlink()}


def surplus(name: str) -> bool:
    return name.startswith(("checkpoints/", "averages/"))


def test_what_sampling_does_not_need_goes_and_all_else_stays(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, samples = contents(run), ornstein.load(run).sample(4)
    assert main(["info", str(run)]) == 0
    assert f"`ornstein clean {run}` removes" in capsys.readouterr().out
    assert main(["clean", str(run), "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert contents(run) == before
    assert "step-00000012 (would go)" in said
    assert "nothing was removed" in said
    assert main(["clean", str(run)]) == 0
    said = capsys.readouterr().out
    assert "step-00000006, step-00000012 (gone)" in said
    assert "update-00000008.safetensors" in said
    assert "the training cannot go on" in said
    assert contents(run) == {name: content for name, content in before.items() if not surplus(name)}
    np.testing.assert_array_equal(ornstein.load(run).sample(4), samples)
    assert main(["info", str(run)]) == 0
    assert "ornstein clean" not in capsys.readouterr().out
    assert main(["clean", str(run)]) == 0
    assert "There is nothing in" in capsys.readouterr().out


def test_a_cleaned_run_is_not_trained_anew_over_its_model(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["clean", str(run)]) == 0
    before = contents(run)
    assert main(["train", *WORDS, "--save-every", "6", "--out", str(run)]) == 2
    assert "holds a model and no checkpoint" in capsys.readouterr().err
    assert contents(run) == before
    more = ["train", *WORDS, "--from", str(run), "--out", str(run.with_name("more"))]
    assert main(more) == 0


def test_a_run_at_work_or_without_a_model_is_not_cleaned(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(run)
    with hold(run):
        assert main(["clean", str(run)]) == 1
    assert "is being trained by process" in capsys.readouterr().err
    assert contents(run) == before
    weights = run / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    assert main(["clean", str(run)]) == 1
    assert "its checkpoints are all it has" in capsys.readouterr().err
    shutil.rmtree(run / "model")
    assert main(["clean", str(run)]) == 1
    assert contents(run).keys() == {name for name in before if not name.startswith("model/")}
    assert main(["clean", str(run.with_name("nothing"))]) == 2


def test_what_is_not_provably_ours_stays_and_is_named(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Strangers' files with our names, links, a file more in a checkpoint, a damaged snapshot, folders of living processes."""
    newest, older = run / "checkpoints" / "step-00000012", run / "checkpoints" / "step-00000006"
    elsewhere = Path(shutil.copytree(newest, tmp_path / "elsewhere"))
    theirs = {
        newest / "notes.txt": b"mine",
        run / "checkpoints" / "step-00000099" / "weights.safetensors": b"mine",
        run / "checkpoints" / "step-00000098.damaged" / "state.json": b"{}",
        run / "averages" / "update-00000099.safetensors": b"mine",
        run / "averages" / "update-of-mine.txt": b"mine",
        run / "notes.txt": b"mine",
        run / ".ornstein-0123456789abcdef" / "mine": b"mine",
    }
    for file, content in theirs.items():
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(content)
    (run / "checkpoints" / "step-00000050").symlink_to(elsewhere)
    snapshot = posthoc.snapshots(run / "averages")[0]
    (run / "averages" / "update-00000097.safetensors").symlink_to(snapshot.resolve())
    living = Temporary(run)
    living.make()
    untouched = contents(elsewhere)
    assert main(["clean", str(run)]) == 0
    said = capsys.readouterr().out
    assert all(file.read_bytes() == content for file, content in theirs.items())
    assert newest.is_dir()
    assert not older.exists()
    assert living.folder.is_dir()
    assert contents(elsewhere) == untouched
    for name in ("step-00000012", "step-00000050", "step-00000099", "update-00000099.safetensors"):
        assert f"{name}" in said
    assert "it holds notes.txt, which is no part of a checkpoint" in said
    living.remove()


@pytest.mark.parametrize("room", ["checkpoints", "averages"])
def test_a_linked_room_is_not_entered(run: Path, tmp_path: Path, room: str) -> None:
    shutil.move(run / room, tmp_path / "room")
    (run / room).symlink_to(tmp_path / "room")
    before = contents(tmp_path / "room")
    assert main(["clean", str(run)]) == 0
    assert contents(tmp_path / "room") == before


def test_a_kill_in_the_middle_leaves_what_the_next_call_removes(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before each removal: the rest is whole, so that a training could still go on from the newest checkpoint."""

    class Killed(BaseException):
        pass

    calls, last = 0, 0
    names = ("unlink", "rename", "rmdir")
    real = {name: getattr(os, name) for name in names}

    def struck(name: str):  # type: ignore[no-untyped-def]
        def call(*arguments, **named):  # type: ignore[no-untyped-def]
            nonlocal calls
            calls += 1
            if calls == last:
                raise Killed
            return real[name](*arguments, **named)

        return call

    for last in range(1, 9):
        copy, calls = Path(shutil.copytree(run, run.with_name(f"copy-{last}"))), 0
        with monkeypatch.context() as patched:
            for name in names:
                patched.setattr(os, name, struck(name))
            with pytest.raises(Killed) if last < 6 else suppress(Killed):
                cleaning.clean(copy)
        assert ornstein.load(copy).sample(1).shape == (1, 8, 8, 1)
        assert main(["clean", str(copy)]) == 0
        assert not any(surplus(name) or ".ornstein" in name for name in contents(copy))
