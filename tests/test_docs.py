"""The documentation holds together: names are documented, links lead somewhere, commands are commands, pictures have one."""

import ast
import doctest
import inspect
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
from tools.pages import api, figures, links

import ornstein
from ornstein.cli.options import COMMANDS
from ornstein.cli.parse import parse
from ornstein.errors import UsageError
from ornstein.extras import MissingExtra

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
LINK = re.compile(r"\]\(([^)\s]+)\)")


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def prose(page: Path) -> str:
    """A page without its code."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"`[^`\n]*`", lambda code: re.sub(r"[\[\]()]", " ", code[0]), text)


def anchors(page: Path) -> set[str]:
    """The anchors of the headings of a page, as a forge and the site make them."""
    heads = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.replace("`", "")).strip().lower().replace(" ", "-") for head in heads}


def test_every_public_name_is_documented() -> None:
    assert not api.undocumented()


def test_a_name_without_words_is_seen() -> None:
    class Silent:
        def method(self) -> None: ...

    assert not api.said(Silent)
    assert not api.said(Silent.method, "method", Silent)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    for link in LINK.findall(prose(page)):
        if re.match(r"[a-z]+:", link):
            continue
        file, _, anchor = link.partition("#")
        place = (page.parent / file).resolve() if file else page
        assert place.exists(), f"{name(page)}: {link}"
        assert not anchor or anchor in anchors(place), f"{name(page)}: {link}"


def test_every_page_can_be_reached_from_the_front_page() -> None:
    rows = re.findall(r"^\| \[.+?\]\((.+?\.md)\)", (DOCS / "index.md").read_text(encoding="utf-8"), re.MULTILINE)
    pages = {page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")} - {"index.md"}
    assert pages - {*rows} == set()
    assert len(rows) == len({*rows})


def test_twenty_questions_are_answered_within_two_clicks() -> None:
    """The front page leads to the questions, and each of them to its answer: a heading or a page that is there."""
    page = DOCS / "questions.md"
    assert "](questions.md)" in (DOCS / "index.md").read_text(encoding="utf-8")
    questions = re.split(r"^\d+\. ", page.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    assert len(questions) == 20
    for question in questions:
        assert re.match(r"\*\*.+\?\*\* ", question.replace("\n", " ")), question
        for link in LINK.findall(question):
            file, _, anchor = link.partition("#")
            assert not anchor or anchor in anchors(DOCS / file), link
        assert LINK.findall(question), question


def test_every_picture_is_in_the_gallery_with_its_command() -> None:
    gallery = (DOCS / "gallery.md").read_text(encoding="utf-8")
    shown = {(DOCS / link).resolve() for link in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", gallery)}
    made = [*(DOCS / "images").glob("*.png"), *(ROOT / "benchmarks" / "results").glob("*.png")]
    assert {picture.resolve() for picture in made} <= shown
    for part in re.split(r"\n\n(?=!\[)", gallery)[1:]:
        following = part if "\n    " in part else gallery[gallery.index(part) + len(part) :]
        assert re.search(r"\n    (make|ornstein|python) ", following), part


def test_the_page_of_figures_holds_every_file_of_results() -> None:
    page = figures.page(ROOT)
    for file in (ROOT / "benchmarks" / "results").glob("*.json"):
        section = page.split(f"\n## {file.stem}\n")[1].split("\n## ")[0]
        assert "| " in section, file.name
        assert "python -m benchmarks." in section, file.name


def test_numbers_become_tables() -> None:
    data = {"a": {"x": 1.23456, "y": {"value": 2.0, "low": 1.0, "high": 3.0}}, "b": {"x": 2.0, "y": [1, 2, 3, 4]}}
    (table,) = figures.tables(data)
    assert table.splitlines() == [
        "|  | x | y |",
        "|---|---|---|",
        "| a | 1.235 | 2 (1 to 3) |",
        "| b | 2 | 2.5 (median of 4) |",
    ]


def test_a_broken_link_of_the_site_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text('<a href="b.html#there">1</a><a href="b.html#gone">2</a><a href="c.html">3</a>')
    (tmp_path / "b.html").write_text('<h1 id="there"></h1><script src="https://cdn.example.org/x.js"></script>')
    assert links.broken(tmp_path) == [
        "a.html: b.html#gone leads nowhere",
        "a.html: c.html leads nowhere",
        "b.html: loads https://cdn.example.org/x.js",
    ]


def commands(page: Path) -> list[str]:
    """The lines of a page that begin with `ornstein COMMAND`, in blocks and between backticks."""
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"^(?:    )?(ornstein [a-z].*)$", text, re.MULTILINE)
    return [
        line
        for line in (*blocks, *re.findall(r"`(ornstein [a-z][^`]*)`", text))
        if "…" not in line and "..." not in line
    ]


def refusal(command: str, words: list[str]) -> str:
    """What is wrong with a command line; one such as `ornstein train --profile N` has all its flags."""
    try:
        parse(COMMANDS[command], command, words)
    except UsageError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_of_the_pages_have_these_flags(page: Path) -> None:
    for line in commands(page):
        first, *words = shlex.split(line.replace("\n", " "), comments=True)[1:]
        if first == "help":
            continue
        assert first in COMMANDS, f"{name(page)}: {line}"
        assert "there is no flag" not in refusal(first, words), f"{name(page)}: {line}"


FLAGS = {f"--{f.name.replace('_', '-')}" for flags in COMMANDS.values() for f in fields(flags)}
FLAGS |= {f.metadata["short"] for flags in COMMANDS.values() for f in fields(flags) if "short" in f.metadata}
FLAGS |= {flag.replace("--", "--no-", 1) for flag in FLAGS} | {"--help", "--debug", "--print-completion"}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_flags_and_files_that_pages_name_are_there(page: Path) -> None:
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S))
    assert {span.split()[0] for span in spans if re.match(r"--[a-z]", span)} <= FLAGS
    files = {span for span in spans if re.fullmatch(r"[\w./-]+/(?!NAME)\w+\.py", span)}
    places = (ROOT, ROOT / "src" / "ornstein", ROOT / "tests" / "faults")
    assert not {file for file in files if not any((place / file).is_file() for place in places)}


def code(page: Path) -> Iterator[ast.Module]:
    """The blocks of a page that are Python, those that no test runs included."""
    for block in re.findall(r"^```(?:python)?\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
        with suppress(SyntaxError):
            yield ast.parse(block)


def stale(page: Path) -> set[str]:
    """What the code of a page takes from this library that is not there: names, and keywords of calls."""
    nodes = [node for tree in code(page) for node in ast.walk(tree)]
    own = {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    own |= {n.arg for n in nodes if isinstance(n, ast.arg)}
    names: dict[str, object] = {"ornstein": ornstein}
    wrong = set()

    def member(owner: object, attr: str) -> object:
        """None where there is none; an object without members where its library is not installed."""
        try:
            return getattr(owner, attr, None)
        except MissingExtra:
            return object()

    def found(node: ast.expr) -> object:
        if isinstance(node, ast.Name):
            return None if node.id in own else names.get(node.id)
        return member(found(node.value), node.attr) if isinstance(node, ast.Attribute) else None

    for node in nodes:
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "ornstein":
            module = import_module(node.module or "")
            for name in node.names:
                names[name.asname or name.name] = member(module, name.name)
                if member(module, name.name) is None:
                    wrong.add(f"from {node.module} import {name.name}")
    for node in nodes:
        if isinstance(node, ast.Attribute) and isinstance(owner := found(node.value), ModuleType | type):
            if member(owner, node.attr) is None and node.attr not in getattr(owner, "__annotations__", ()):
                wrong.add(ast.unparse(node))
        elif isinstance(node, ast.Call) and callable(called := found(node.func)):
            keys = inspect.signature(called).parameters
            if not any(key.kind is key.VAR_KEYWORD for key in keys.values()):
                wrong |= {f"{ast.unparse(node.func)}({k.arg}=)" for k in node.keywords if k.arg and k.arg not in keys}
    return wrong


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_names_in_the_code_of_the_pages_are_there(page: Path) -> None:
    assert not stale(page)


def test_a_name_that_has_gone_is_seen(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("""```
from ornstein import path, solvers
from ornstein.guidance import Guide
path.Lineal()
solvers.DDIM(etta=1.0)
```
""")
    assert stale(page) == {"from ornstein.guidance import Guide", "path.Lineal", "solvers.DDIM(etta=)"}


@pytest.mark.slow
def test_the_site_is_built_without_a_warning() -> None:
    pytest.importorskip("furo")
    pytest.importorskip("myst_parser")
    done = subprocess.run([sys.executable, "-m", "tools.pages"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (ROOT / "build" / "site" / "index.html").is_file()


EXAMPLES = [
    file for file in sorted((ROOT / "src" / "ornstein").rglob("*.py")) if ">>> " in file.read_text(encoding="utf-8")
]


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.relative_to(ROOT / "src").as_posix())
def test_examples_of_docstrings_give_what_they_say(file: Path) -> None:
    module = import_module(".".join(file.relative_to(ROOT / "src").with_suffix("").parts))
    found = doctest.testmod(module)
    assert found.attempted
    assert not found.failed
