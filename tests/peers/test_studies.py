"""The same study of two moons with four libraries: each runs where it is installed, and the note states their lengths."""

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import ornstein

DOCS = Path(__file__).parents[2] / "docs"
STUDIES = sorted((DOCS / "studies").glob("with_*.py"))


def library(study: Path) -> str:
    return study.stem.removeprefix("with_")


def run(study: Path, folder: Path) -> list[float]:
    """The mean distances of its six sets of samples to the moons."""
    source = Path(ornstein.__file__).parents[1]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(source), *filter(None, [os.environ.get("PYTHONPATH")])])}
    done = subprocess.run(
        [sys.executable, study], cwd=folder, env=env, capture_output=True, text=True, encoding="utf-8"
    )
    assert done.returncode == 0, done.stderr
    assert len(re.findall(r"nats$", done.stdout, re.MULTILINE)) == 2
    assert (folder / "moons.png").stat().st_size > 1000
    return [float(number) for number in re.findall(r"moons ([\d.]+)$", done.stdout, re.MULTILINE)]


@pytest.mark.slow
def test_our_study_runs(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    distances = run(DOCS / "studies" / "with_ornstein.py", tmp_path)
    assert len(distances) == 6
    assert max(distances) < 0.2


@pytest.mark.peers
@pytest.mark.parametrize("study", [study for study in STUDIES if library(study) != "ornstein"], ids=library)
def test_the_others_run_where_they_are_installed(study: Path, tmp_path: Path) -> None:
    if not find_spec(library(study)):
        pytest.skip(f"{library(study)} is not installed")
    distances = run(study, tmp_path)
    assert len(distances) == 6
    assert max(distances) < 0.3


def test_the_note_states_the_lines_of_each() -> None:
    lengths = {
        library(study): sum(
            bool(re.match(r"\s*[^\s#]", line)) for line in study.read_text(encoding="utf-8").splitlines()
        )
        for study in STUDIES
    }
    stated = dict(re.findall(r"^\| \[(\w+)\]\(\.\./studies/\S+\) \| (\d+) \|$", _note(), re.MULTILINE))
    assert {name: int(count) for name, count in stated.items()} == lengths
    assert lengths["ornstein"] == min(lengths.values()) <= 40


def _note() -> str:
    return (DOCS / "notes" / "python.md").read_text(encoding="utf-8")
