"""Flags, configuration files and help: what is said about mistakes, and that nothing heavy is imported to say it."""

import dataclasses
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ornstein.cli import main
from ornstein.cli.options import COMMANDS, EXAMPLES, Sample, Train
from ornstein.cli.parse import parse
from ornstein.errors import UsageError
from ornstein.folder import config
from ornstein.settings import Settings


def said(capsys: pytest.CaptureFixture[str], words: list[str], code: int) -> str:
    """The one sentence on stderr of a command line that fails."""
    assert main(words) == code
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "Traceback" not in err
    return err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["trian"], "there is no command 'trian'; did you mean `ornstein train`?"),
        (["train", "--bath-size", "3"], "there is no flag --bath-size in `ornstein train`; did you mean --batch-size?"),
        (["sample", "runs/x", "--sover=heun"], "there is no flag --sover in `ornstein sample`; did you mean --solver?"),
        (["train", "--batch-size", "many"], "--batch-size: 'many' is not a whole number"),
        (["train", "--steps", "2.5"], "--steps: '2.5' is not a whole number"),
        (["train", "--minutes", "soon"], "--minutes: 'soon' is not a number"),
        (["train", "--seed"], "--seed needs a value"),
        (["info", "runs/a", "runs/b"], "'runs/b' was not expected"),
        (["train"], "train needs --data"),
        (["train", "--data", "digits"], "train needs --out"),
        (["sample"], "sample needs a run folder"),
        (["info"], "info needs a run folder"),
        (["sample", "runs/x", "-n", "0"], "--count 0 is too small"),
        (["info", "/nowhere"], "/nowhere is no folder"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(
    capsys: pytest.CaptureFixture[str], words: list[str], says: str
) -> None:
    assert says in said(capsys, words, 2)


def test_flags_reach_their_fields() -> None:
    flags = ["--data", "digits", "--out", "a b", "--batch-size=8", "--flips", "--learning-rate", "1e-3", "--dry-run"]
    made = parse(Train, "train", flags)
    assert made == Train(data="digits", out="a b", batch_size=8, flips=True, learning_rate=1e-3, dry_run=True)
    assert parse(Sample, "sample", ["runs/x", "-n3", "--label", "7"]) == Sample(run="runs/x", count=3, label="7")


@given(
    st.fixed_dictionaries(
        {
            "batch_size": st.integers(1, 10**6),
            "learning_rate": st.floats(1e-9, 1e3),
            "path": st.text("abc-", min_size=1).filter(lambda s: not s.startswith("-")),
            "flips": st.booleans(),
            "save_every": st.integers(1, 10**6),
        }
    )
)
def test_any_value_survives_the_command_line(values: dict[str, Any]) -> None:
    words = [f"--{k.replace('_', '-')}={v}" for k, v in values.items() if k != "flips"] + ["--flips"] * values["flips"]
    assert parse(Train, "train", words) == Train(**values)


def test_flags_override_the_file_and_the_file_overrides_the_defaults() -> None:
    made = parse(Train, "train", ["--seed", "5"], defaults={"seed": 3, "batch_size": 16, "steps": None})
    assert made == Train(seed=5, batch_size=16)


def test_help_shows_every_flag_with_its_text_and_examples(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--help"]) == 0
    out = capsys.readouterr().out
    flags = [f.name.replace("_", "-") for f in dataclasses.fields(Settings)]
    assert all(f"--{flag}" in out or f"--no-{flag}" in out for flag in flags)
    assert "Optimiser steps (default: 2000" in out
    assert "{None}" not in out
    assert "(default: None)" not in out
    assert main([]) == 2
    out = capsys.readouterr().out
    assert all(lines[0] in out for lines in EXAMPLES.values())
    assert all(name in out for name in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_examples_of_the_help_are_understood(command: str) -> None:
    import shlex

    for line in EXAMPLES[command]:
        words = shlex.split(line)
        _, name, *words = words[words.index("ornstein") :]  # after torchrun's own words, where there are any
        parse(COMMANDS[name], name, words)


def test_help_and_mistakes_do_not_import_torch() -> None:
    script = """
import sys
from ornstein.cli import main
codes = [main(words) for words in (["--help"], ["train", "--help"], ["train", "--nonsense"], ["info", "/nowhere"])]
assert codes == [0, 0, 2, 2], codes
heavy = {"torch", "numpy", "PIL", "rich.progress", "typeguard", "asyncio"} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)


# Configuration files


def written(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "my.yaml"
    file.write_text(text)
    return file


def test_a_file_of_settings_is_read(tmp_path: Path) -> None:
    text = "version: 0.1.0\nbatch-size: 8\nlearning_rate: 1e-3\nminutes: 2\nflips: true\nsteps: null\n"
    values = config.read(written(tmp_path, text))
    assert values == {"batch_size": 8, "learning_rate": 1e-3, "minutes": 2.0, "flips": True, "steps": None}
    assert isinstance(values["minutes"], float)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("bath_size: 8", "there is no setting 'bath_size'; did you mean 'batch_size'?"),
        ("xyzzy: 8", "the keys are data, out"),
        ("batch_size: many", "batch_size is 'many' and must be a whole number"),
        ("batch_size: 2.5", "batch_size is 2.5 and must be a whole number"),
        ("batch_size: true", "batch_size is True and must be a whole number"),
        ("batch-size: many", "batch_size is 'many' and must be a whole number"),
        ("flips: 1", "flips is 1 and must be true or false"),
        ("warmup: soon", "warmup is 'soon' and must be a number"),
        ("seed: null", "seed is None and must be a whole number"),
        ("path: [1, 2]", "path is [1, 2] and must be a word"),
        ("- a\n- b", "holds no settings"),
        ("a: b: c", "is not YAML"),
        ("steps: 3\nminutes: 2", "give steps or minutes, not both"),
    ],
)
def test_a_wrong_file_is_named_with_its_key(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str, says: str
) -> None:
    file = written(tmp_path, text)
    sentence = said(capsys, ["train", "--config", str(file), "--data", "digits", "--out", str(tmp_path / "run")], 2)
    assert str(file) in sentence
    assert says in sentence
    assert not (tmp_path / "run").exists()


def test_a_missing_file_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert "none.yaml cannot be read" in said(capsys, ["train", "--config", str(tmp_path / "none.yaml")], 2)


def test_a_length_on_the_line_replaces_the_one_in_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ornstein.cli import train

    file = written(tmp_path, "minutes: 2\nseed: 4")
    assert train._options(["--config", str(file), "--steps", "7"]) == Train(config=str(file), steps=7, seed=4)
    assert train._options(["--config", str(file), "--minutes", "1"]).minutes == 1
    with pytest.raises(UsageError, match="there is no flag"):
        train._options(["--config", str(file), "--stops", "7"])


# Failures


class Fails:
    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __call__(self, words: object) -> int:
        raise self.error


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (
            ZeroDivisionError("division\nby zero"),
            1,
            "unexpected ZeroDivisionError: division by zero; run again with --debug",
        ),
        (KeyError(), 1, "unexpected KeyError: no message"),
        (MemoryError(), 1, "smaller --batch-size"),
        (RuntimeError("CUDA out of memory. Tried to allocate"), 1, "smaller --batch-size"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), 1, "smaller --batch-size"),
        (KeyboardInterrupt(), 130, "stopped"),
        (UsageError("a: b"), 2, "ornstein: a: b.\n"),
        (UsageError("did you mean c?"), 2, "ornstein: did you mean c?\n"),
    ],
)
def test_failures_are_one_sentence(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, says: str
) -> None:
    from ornstein.cli import info

    monkeypatch.setattr(info, "run", Fails(error))
    assert says in said(capsys, ["info"], code)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_a_library_makes_an_error_of(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    """As safetensors does when the signal comes while its compiled code calls Python."""
    from ornstein.cli import info

    if number == signal.SIGINT and signal.getsignal(number) == signal.SIG_IGN:
        pytest.skip("what started these tests ignores Ctrl-C")

    def run(words: object) -> int:
        try:
            os.kill(os.getpid(), number)
            return 0
        except KeyboardInterrupt:
            raise RuntimeError("could not determine the shape of object type") from None

    monkeypatch.setattr(info, "run", run)
    assert said(capsys, ["info"], 128 + number) == f"ornstein: stopped{'' if number == 2 else f' by {number.name}'}.\n"


def test_debug_anywhere_shows_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    from ornstein.cli import info

    monkeypatch.setattr(info, "run", Fails(ZeroDivisionError("x")))
    for words in (["--debug", "info"], ["info", "--debug"]):
        with pytest.raises(ZeroDivisionError):
            main(words)


def test_warnings_are_their_message_alone(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    import warnings

    from ornstein.cli import info

    def warns(words: object) -> int:
        warnings.warn_explicit("one file was skipped", UserWarning, "open.py", 1, module="ornstein.data")
        warnings.warn_explicit("an API will change", FutureWarning, "other.py", 1, module="other")
        return 0

    monkeypatch.setattr(info, "run", warns)
    assert main(["info"]) == 0
    assert capsys.readouterr().err == "warning: one file was skipped\n"
