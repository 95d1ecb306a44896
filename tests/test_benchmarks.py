"""Benchmarks name parts of the library that are there: each can be imported, without the libraries that it compares with."""

from importlib import import_module
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.mark.parametrize("name", sorted(file.stem for file in BENCHMARKS.glob("[a-z]*.py")))
def test_it_can_be_imported(name: str) -> None:
    assert import_module(f"benchmarks.{name}").__doc__


def test_a_seed_measured_anew_takes_the_place_of_itself_alone() -> None:
    with_seed = import_module("benchmarks.flowmaps").with_seed
    row = with_seed(with_seed({}, 1, {"8": 0.2, "steps": 20}), 0, {"8": 0.1, "steps": 10})
    assert row == {"seeds": [0, 1], "8": [0.1, 0.2], "steps": [10, 20]}
    assert with_seed(row, 1, {"8": 0.3, "steps": 30}) == {"seeds": [0, 1], "8": [0.1, 0.3], "steps": [10, 30]}
