"""The python blocks of the documentation run: those of a page in order, in one fresh namespace."""

import re
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).parent.parent / "docs"
PAGES = sorted([*DOCS.glob("*.md"), *DOCS.glob("notes/*.md")])
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_the_blocks_of_a_page_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # what a block writes stays out of the project
    text = page.read_text(encoding="utf-8")
    namespace: dict[str, Any] = {"__name__": page.stem}
    for block in BLOCK.finditer(text):
        line = text.count("\n", 0, block.start(1))
        # blank lines before the block make tracebacks point at the page's own lines
        exec(compile("\n" * line + block[1], str(page), "exec"), namespace)


def test_every_note_shows_something_that_runs() -> None:
    silent = [page.name for page in DOCS.glob("notes/*.md") if not BLOCK.search(page.read_text(encoding="utf-8"))]
    assert not silent
