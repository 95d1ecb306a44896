"""Benchmarks name parts of the library that are there: each can be imported, without the libraries that it compares with."""

from importlib import import_module
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.mark.parametrize("name", sorted(file.stem for file in BENCHMARKS.glob("[a-z]*.py")))
def test_it_can_be_imported(name: str) -> None:
    assert import_module(f"benchmarks.{name}").__doc__
