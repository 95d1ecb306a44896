"""The documentation holds together: names are documented, links lead somewhere, commands are commands, pictures have one."""

import doctest
import re
import shlex
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from tools.pages import api, figures, links

from ornstein.cli.options import COMMANDS
from ornstein.cli.parse import parse
from ornstein.errors import UsageError

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
