"""Identifiers are made of the field's words: what a name holds, not what was done with it; a class name means one thing."""

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = ROOT / "src" / "ornstein"
WIDEST = 130
RETIRED = {"told", "asked", "given", "kept", "beside", "shown", "found", "picture", "pictures"}
STANDARD = {"FileNotFoundError", "ModuleNotFoundError", "PackageNotFoundError"}  # Python's own
PUBLIC = {"given"}  # `denoiser.given(condition)` is public, the word of a conditional probability
TWICE = {"EDM", "ELBO", "Score", "Uniform"}  # names of methods, each in a namespace of its own


def identifiers(tree: ast.AST) -> set[str]:
    """Names, attributes, arguments, keywords, functions, classes and imported names."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            names.add(node.id)
        elif isinstance(node, ast.Attribute):
            names.add(node.attr)
        elif isinstance(node, (ast.arg, ast.keyword)):
            names.add(node.arg or "")
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.alias):
            names |= {*node.name.split("."), node.asname or ""}
        elif isinstance(node, ast.ImportFrom):
            names |= set((node.module or "").split("."))
    return names


def retired(source: str) -> set[str]:
    """The identifiers of a source, retired words among their parts."""
    parts = {name: re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name) for name in identifiers(ast.parse(source))}
    allowed = STANDARD | PUBLIC
    return {name for name, some in parts.items() if name not in allowed and RETIRED & {p.lower() for p in some}}


FILES = sorted(SOURCES.rglob("*.py"), key=str)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(SOURCES).as_posix())
def test_identifiers_use_no_retired_words(file: Path) -> None:
    wrong = retired(file.read_text(encoding="utf-8")) | retired("_" + re.sub(r"\W", "_", file.stem))
    assert not wrong, f"{file}: name these by what they hold: {', '.join(sorted(wrong))}"


def test_a_class_name_means_one_thing() -> None:
    trees = [ast.parse(file.read_text(encoding="utf-8")) for file in FILES]
    counts = Counter(node.name for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef))
    twice = {name for name, count in counts.items() if count > 1 and not name.startswith("_")} - TWICE
    assert not twice


def test_retired_words_are_seen_wherever_a_name_stands() -> None:
    assert retired("def f(kept_rows): return self._told + g(found=1)") == {"kept_rows", "_told", "found"}
    assert retired("class Asked: shown: int") == {"Asked", "shown"}
    assert retired("from a.beside import b\nmodel.given(1)\nexcept_ = FileNotFoundError") == {"beside"}


@pytest.mark.parametrize(
    "page",
    [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))],
    ids=lambda page: page.name,
)
def test_lines_of_pages_are_short(page: Path) -> None:
    """Rows of tables alone cannot be broken."""
    lines = enumerate(page.read_text(encoding="utf-8").splitlines(), 1)
    wide = [number for number, line in lines if len(line) > WIDEST and not line.startswith("|")]
    assert not wide, f"lines beyond {WIDEST} characters: {wide}"
