"""Build the documentation into build/site: `make docs`, or `python -m tools.pages`. Nothing is fetched.

The pages of docs/ are copied to build/site-source, where others are made beside them: the reference of the library from its
docstrings, figures from benchmarks/results, the changelog, and a notebook of each note with the pictures that it draws. Sphinx
makes the site of them; a warning is an error. Then every link of every page is followed.
"""

import re
import shutil
import sys
import time
from importlib.util import find_spec
from pathlib import Path

from tools.pages import api, figures, links, notes

ROOT = Path(__file__).resolve().parents[2]
SOURCE, SITE = ROOT / "build" / "site-source", ROOT / "build" / "site"
NEEDED = ("sphinx", "furo", "myst_parser")


def main() -> int:
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        print(
            f"The site needs {', '.join(missing)}; run `make docs`, or `pip install 'ornstein[docs]'`.", file=sys.stderr
        )
        return 1
    from sphinx.cmd.build import build_main

    began = time.perf_counter()
    if silent := api.undocumented():
        print(f"These public names have no docstring: {', '.join(silent)}.", file=sys.stderr)
        return 1
    pages = stage()
    shutil.rmtree(SITE, ignore_errors=True)
    if build_main(["-W", "--keep-going", "-q", "-b", "html", str(pages), str(SITE)]):
        return 1
    shutil.rmtree(SITE / ".doctrees", ignore_errors=True)
    wrong = links.broken(SITE)
    for line in wrong:
        print(line, file=sys.stderr)
    if wrong:
        print(f"{len(wrong)} links lead nowhere.", file=sys.stderr)
        return 1
    count = len(list(SITE.rglob("*.html")))
    print(f"{count} pages in {time.perf_counter() - began:.0f} s; open build/site/index.html")
    return 0


def stage() -> Path:
    """The folder of all that Sphinx reads: docs/ with what is made for it."""
    shutil.rmtree(SOURCE, ignore_errors=True)
    pages = SOURCE / "docs"
    shutil.copytree(ROOT / "docs", pages)
    for folder in ("benchmarks/results", "examples"):  # what pages show or link to beside docs/
        shutil.copytree(ROOT / folder, SOURCE / folder)
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    (pages / "changelog.md").write_text(changes.replace("](docs/", "]("), encoding="utf-8")
    (pages / "figures.md").write_text(figures.page(ROOT), encoding="utf-8")
    api.write(pages / "api")
    notes.prepare(pages)
    for page in pages.rglob("*.md"):
        page.write_text(
            moved(page.read_text(encoding="utf-8"), "../" * (len(page.relative_to(pages).parts) - 1)), "utf-8"
        )
    index = pages / "index.md"
    index.write_text(with_contents(index.read_text(encoding="utf-8")), encoding="utf-8")
    return pages


def moved(text: str, up: str) -> str:
    """A page whose links to what lies beside docs/ lead to the pages that are made of it."""
    text = re.sub(r"\]\((\.\./)+src/ornstein\)", f"]({up}api/index.md)", text)
    text = re.sub(r"\]\((\.\./)+benchmarks/results\)", f"]({up}figures.md)", text)
    text = re.sub(r"\]\((\.\./)+benchmarks/results/([\w-]+)\.md\)", rf"]({up}figures.md#\2)", text)
    return re.sub(r"\]\((\.\./)+CHANGELOG\.md\)", f"]({up}changelog.md)", text)


def with_contents(index: str) -> str:
    """The front page with the contents that Sphinx reads: below each heading, the pages that its table links to."""
    parts = re.split(r"^(?=## )", index, flags=re.MULTILINE)
    for i, part in enumerate(parts[1:], 1):
        pages = [f"{title} <{page}>" for title, page in re.findall(r"^\| \[(.+?)\]\((.+?)\.md\)", part, re.MULTILINE)]
        caption = part.splitlines()[0].removeprefix("## ")
        parts[i] += "\n".join(["\n```{toctree}", ":hidden:", f":caption: {caption}", "", *pages, "```", "", ""])
    return "".join(parts)


if __name__ == "__main__":
    sys.exit(main())
