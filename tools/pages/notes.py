"""What is made of the notes: the pictures that their own code draws, and a notebook of each."""

import json
import os
import re
import shutil
import sys
from contextlib import chdir, redirect_stdout
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

BLOCK = re.compile(r"^```python\n(.*?)^```\n?", re.MULTILINE | re.DOTALL)
PICTURE = re.compile(r"^!\[[^\]]*\]\(((?:\.\./)?images/notes/([\w-]+\.png))\)", re.MULTILINE)
HEADER = '%pip install --quiet "ornstein[plots]"  # in Colab and other places that do not have it yet'


def blocks(page: Path) -> list[str]:
    """The Python blocks of a page. Line numbers of tracebacks are those of the page."""
    text = page.read_text(encoding="utf-8")
    return ["\n" * text.count("\n", 0, found.start(1)) + found[1] for found in BLOCK.finditer(text)]


def pictures(page: Path) -> list[str]:
    """The names of the pictures that a page draws: those it shows from images/notes."""
    return [name for _, name in PICTURE.findall(page.read_text(encoding="utf-8"))]


def run(page: Path, folder: Path) -> None:
    """Run the blocks of a page in order, in a namespace of its own; what they write goes to a folder."""
    os.environ.setdefault("MPLBACKEND", "Agg")
    namespace: dict[str, Any] = {"__name__": page.stem}
    with chdir(folder):
        for block in blocks(page):
            exec(compile(block, str(page), "exec"), namespace)
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


def draw(page: Path, images: Path) -> None:
    """Run a page, and put the pictures that it draws among the images; what else it writes is gone."""
    import torch

    torch.manual_seed(0)
    images.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as folder:
        run(page, Path(folder))
        for name in pictures(page):
            shutil.copy(Path(folder) / name, images / name)


def prepare(docs: Path) -> None:
    """Draw the pictures of the notes anew in a copy of docs/, write the notebooks, and link each from its page."""
    (docs / "notebooks").mkdir()
    for page in sorted((docs / "notes").glob("*.md")):
        if pictures(page):
            with redirect_stdout(StringIO()):
                draw(page, docs / "images" / "notes")
        text = page.read_text(encoding="utf-8")
        book = docs / "notebooks" / f"{page.stem}.ipynb"
        book.write_text(json.dumps(notebook(text), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        page.write_text(
            f"{text}\n---\nThis page as a {{download}}`notebook <../notebooks/{book.name}>`.\n", encoding="utf-8"
        )


def notebook(text: str) -> dict[str, Any]:
    """A page as a Jupyter notebook: text and code in order, with the line that installs the library at its head."""
    cells, at = [code(HEADER)], 0
    for found in BLOCK.finditer(text):
        cells += [markdown(text[at : found.start()]), code(found[1])]
        at = found.end()
    cells.append(markdown(text[at:]))
    cells = [cell | {"id": f"cell-{i}"} for i, cell in enumerate(cells) if cell["source"]]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    metadata = {"colab": {"provenance": []}, "kernelspec": kernel, "language_info": {"name": "python"}}
    return {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}


def markdown(text: str) -> dict[str, Any]:
    """A cell of text; pictures that the code beside it draws are not shown twice, and links to pages lose their target."""
    text = re.sub(r"\[([^\]]+)\]\((?!http)[^)]*\)", r"\1", PICTURE.sub("", text)).strip()
    return {"cell_type": "markdown", "metadata": {}, "source": text.splitlines(keepends=True)}


def code(text: str) -> dict[str, Any]:
    lines = text.strip().splitlines(keepends=True)
    return {"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": [], "source": lines}


if __name__ == "__main__":  # `python -m tools.pages.notes [PAGE …]`: draw the pictures of docs/images/notes anew
    docs = Path(__file__).resolve().parents[2] / "docs"
    for page in [Path(name).resolve() for name in sys.argv[1:]] or sorted((docs / "notes").glob("*.md")):
        if pictures(page):
            draw(page, docs / "images" / "notes")
