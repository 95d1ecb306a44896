"""Typical uses are typed: mypy, strict about what the package says of itself, takes them; and a wrong use it does not."""

import os
import re
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest

USES = Path(__file__).with_name("typed_usage.py")


def checked(file: Path, cache: Path) -> "subprocess.CompletedProcess[str]":
    """mypy of one file, as in a project of its own."""
    words = [sys.executable, "-m", "mypy", "--config-file=", "--warn-unused-ignores", "--ignore-missing-imports"]
    words += ["--follow-imports=silent", "--disallow-any-unimported", "--cache-dir", str(cache), str(file)]
    return subprocess.run(words, capture_output=True, text=True, cwd=cache, env={**os.environ})


def test_the_package_says_that_it_is_typed() -> None:
    assert (files("ornstein") / "py.typed").is_file()


def test_typical_uses_are_typed_and_wrong_ones_are_seen(tmp_path: Path) -> None:
    """The only errors are in the lines that are made wrong."""
    pytest.importorskip("mypy")
    wrong = tmp_path / "wrong.py"
    text = USES.read_text(encoding="utf-8")
    mistakes = {'seed=1, solver="heun"': "seed=1, solver=3", "strength=0.5": 'strength="half"', "label=3": "labels=3"}
    for right, mistake in mistakes.items():
        assert text.count(right) == 1
        text = text.replace(right, mistake)
    wrong.write_text(text, encoding="utf-8")
    lines = {int(number) for number in re.findall(r"wrong\.py:(\d+): error", checked(wrong, tmp_path).stdout)}
    expected = {i for i, line in enumerate(text.splitlines(), 1) if any(m in line for m in mistakes.values())}
    assert lines == expected
