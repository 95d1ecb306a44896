"""Whole files, permissions, whose a temporary folder is, one writer at a time, hostile files refused at once."""

import json
import os
import platform
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ornstein.errors import OrnsteinError
from ornstein.files.atomic import discard, new_file, new_files, new_folder, scratch
from ornstein.files.lock import hold, is_lock
from ornstein.files.owner import FORM, MARKER, Temporary, sweep
from ornstein.files.reading import must_be_inside, read_bytes, read_json, read_lines, read_yaml

LOOKALIKES = (
    *(".git", ".ssh", ".venv", ".backup.20240101", ".model.abcd1234", ".items.a1b2c3d4", ".ornstein", ".ornstein-0123"),
    *(".ornstein-0123456789abcdef", ".ornstein-0123456789ABCDEF", "ornstein-0123456789abcdef", ".unpacked.abcdefgh"),
)


def tree(folder: Path) -> dict[str, bytes | None]:
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}


def killed_while(folder: Path, work: str) -> None:
    """A process that is killed in the middle of writing in `folder`."""
    code = f"""
import os, signal
from pathlib import Path
from ornstein.files.atomic import new_file, new_files, new_folder, scratch
from ornstein.files.lock import hold
with {work.format(folder=f"Path({str(folder)!r})")}:
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == -signal.SIGKILL


def test_only_what_is_provably_its_own_is_swept(tmp_path: Path) -> None:
    for name in LOOKALIKES:
        (tmp_path / name / "inner").mkdir(parents=True)
        (tmp_path / name / "inner" / "file").write_text("mine")
    other = {"made_by": "ornstein", "process": 1, "host": "elsewhere", "time": 0}
    for number, marker in enumerate(
        ["", "[]", "{}", json.dumps(other), json.dumps({**other, "made_by": "me", "host": platform.node()})]
    ):
        place = tmp_path / f".ornstein-{number:016x}"
        place.mkdir()
        (place / MARKER).write_text(marker)
        (place / "file").write_text("mine")
    (tmp_path / ".ornstein-aaaaaaaaaaaaaaaa").symlink_to(tmp_path / ".git")
    for path in tmp_path.rglob("*"):
        os.utime(path, (0, 0), follow_symlinks=False)
    before = tree(tmp_path)
    sweep(tmp_path)
    assert tree(tmp_path) == before
    with new_file(tmp_path / "file") as file:
        file.write_text("1")
    assert tree(tmp_path) == {**before, "file": b"1"}


@pytest.mark.parametrize(
    "work", ["new_file({folder} / 'a')", "new_folder({folder} / 'a')", "new_files({folder})", "scratch({folder})"]
)
def test_what_a_killed_process_left_is_swept_by_the_next_writer(tmp_path: Path, work: str) -> None:
    killed_while(tmp_path, work)
    (left,) = tmp_path.iterdir()
    assert FORM.fullmatch(left.name)
    with new_file(tmp_path / "b") as file:
        file.write_text("1")
    assert [p.name for p in tmp_path.iterdir()] == ["b"]


def test_what_a_living_process_writes_is_left(tmp_path: Path) -> None:
    alive = Temporary(tmp_path)
    alive.make()
    os.utime(alive.folder, (0, 0))
    sweep(tmp_path)
    assert alive.folder.is_dir()
    alive.remove()
    assert list(tmp_path.iterdir()) == []


def test_an_unmarked_folder_goes_only_when_it_is_empty(tmp_path: Path) -> None:
    empty, begun, full = (tmp_path / f".ornstein-{c * 16}" for c in "012")
    for place in (empty, begun, full):
        place.mkdir()
    (begun / MARKER).touch()
    (full / "file").write_text("mine")
    sweep(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == [full.name]


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_permissions_are_those_of_the_umask_or_of_what_is_there(tmp_path: Path, umask: int) -> None:
    def modes() -> set[int]:
        return {p.stat().st_mode & 0o777 for p in tmp_path.rglob("*") if p.is_file()}

    before = os.umask(umask)
    try:
        with new_file(tmp_path / "a") as file:
            os.close(os.open(file, os.O_CREAT | os.O_WRONLY, 0o600))  # as other writers do
        with new_folder(tmp_path / "b") as folder:
            os.close(os.open(folder / "c", os.O_CREAT | os.O_WRONLY, 0o600))
        with new_files(tmp_path / "d") as folder:
            os.close(os.open(folder / "e", os.O_CREAT | os.O_WRONLY, 0o600))
        assert modes() == {0o666 & ~umask}
        (tmp_path / "a").chmod(0o640)
        with new_file(tmp_path / "a") as file:
            file.write_text("1")
        assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640
    finally:
        os.umask(before)


def test_a_link_is_replaced_and_its_target_left(tmp_path: Path) -> None:
    (tmp_path / "private").write_text("mine")
    (tmp_path / "a").symlink_to(tmp_path / "private")
    with new_file(tmp_path / "a") as file:
        file.write_text("1")
    assert (tmp_path / "private").read_text() == "mine"
    assert (tmp_path / "a").read_text() == "1"


def test_discard_and_scratch_leave_nothing(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    discard(tmp_path / "a")
    with scratch(tmp_path / "new") as place:
        (place / "file").write_text("1")
    assert tree(tmp_path) == {"new": None}


# One writer


def test_a_second_writer_is_told_who_has_the_folder(tmp_path: Path) -> None:
    with hold(tmp_path / "run", "tuned"):
        assert is_lock(tmp_path / "run" / ".lock")
        who = f"is being tuned by process {os.getpid()} on .*; wait for it, or stop it"
        with pytest.raises(OrnsteinError, match=who), hold(tmp_path / "run"):
            pass
    assert list((tmp_path / "run").iterdir()) == []
    with hold(tmp_path / "run"):
        pass


def test_a_killed_holder_lets_go(tmp_path: Path) -> None:
    killed_while(tmp_path, "hold({folder})")
    assert is_lock(tmp_path / ".lock")
    with hold(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_lock_is_never_somebody_s_own_file(tmp_path: Path) -> None:
    private = tmp_path / "private"
    private.write_text("mine")
    lock = tmp_path / "run" / ".lock"
    lock.parent.mkdir()
    for make in (
        lock.symlink_to,
        lock.hardlink_to,
        lambda _: lock.write_text("mine"),
        lambda _: os.mkfifo(lock),
        lambda _: lock.mkdir(),
    ):
        make(private)
        assert not is_lock(lock)
        with pytest.raises(OrnsteinError, match="lock"), hold(lock.parent):
            pass
        assert private.read_text() == "mine"
        assert lock.is_dir() or lock.is_fifo() or lock.read_text() == "mine"
        lock.rmdir() if lock.is_dir() else lock.unlink()
    lock.symlink_to(tmp_path / "nothing")
    with pytest.raises(OrnsteinError, match="link"), hold(lock.parent):
        pass
    assert not (tmp_path / "nothing").exists()


# Reading


def test_hostile_files_are_refused_at_once(tmp_path: Path) -> None:
    bomb = "a: &a [x]\n" + "".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join([f'*{chr(97 + i)}'] * 9)}]\n" for i in range(20)
    )
    for reader, cases in {
        read_yaml: (
            bomb,
            "[" * 5000,
            "- 1",
            "{a: !!python/object/apply:os.system [ls]}",
            "? [1, 2]\n: 3\n? {a: b}\n: c",
            "1: 2024-99-99",
            "\0",
            "a: " + "x" * (1 << 19),
        ),
        read_json: ("[" * 100_000, "[]", "{", '{"a":' * 80 + "1" + "}" * 80, '{"a": ' + "9" * 5000 + "}", "\xff"),
    }.items():
        for number, text in enumerate(cases):
            file = tmp_path / f"{reader.__name__}-{number}"
            file.write_text(text, "latin-1")
            with pytest.raises((ValueError, OSError)):
                reader(file)
    pipe, device = tmp_path / "pipe", Path("/dev/zero")
    os.mkfifo(pipe)
    for file in (pipe, device, tmp_path):
        for reader in (read_yaml, read_json, read_bytes):
            with pytest.raises(OSError):
                reader(file)
    assert read_lines(pipe, ("a",)) == read_lines(tmp_path / "none", ("a",)) == []
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "none")


def test_links_are_followed_only_outside_of_a_run(tmp_path: Path) -> None:
    root = tmp_path / "run"
    (root / "model").mkdir(parents=True)
    (tmp_path / "private.json").write_text('{"a": 1}')
    (root / "config.json").symlink_to(tmp_path / "private.json")
    (root / "inner").symlink_to(root / "model")
    (root / "model" / "a.json").write_text('{"a": 2}')
    assert read_json(root / "config.json") == {"a": 1}
    assert read_json(root / "model" / "a.json", root=root) == {"a": 2}
    for file in (root / "config.json", root / "inner" / "a.json", root / ".." / "private.json"):
        with pytest.raises(ValueError, match="link"):
            read_json(file, root=root)
        with pytest.raises(ValueError, match="link"):
            must_be_inside(file, root)


def test_lines_that_are_cut_or_strange_are_left_out(tmp_path: Path) -> None:
    file = tmp_path / "lines"
    file.write_text('{"a": 1}\n{"a": NaN}\n{"a": "1"}\n{"b": 1}\n[]\n{"a": true}\n{"a": 2.5}\n{"a":')
    assert read_lines(file, ("a",)) == [{"a": 1}, {"a": 2.5}]


@pytest.mark.parametrize("name", ["mkdir", "open", "write", "fsync", "listdir", "rmdir", "unlink"])
def test_a_signal_within_any_call_leaves_no_temporary_folder(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is raised when the call has been made, as Python does."""
    call, met = getattr(os, name), list[str]()

    def interrupted(*arguments: Any, **named: Any) -> Any:
        done = call(*arguments, **named)
        if not met:
            met.append(name)
            raise KeyboardInterrupt
        return done

    monkeypatch.setattr(os, name, interrupted)
    with pytest.raises(KeyboardInterrupt), new_file(tmp_path / "a") as file:
        file.write_text("new")
    assert met
    monkeypatch.undo()
    assert {path.name for path in tmp_path.iterdir()} <= {"a"}
