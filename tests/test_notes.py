"""The python blocks of the documentation run, those of a page in one namespace; a note holds all that it should."""

import json
import re
from pathlib import Path

import pytest
from tools.pages import notes

DOCS = Path(__file__).parent.parent / "docs"
PAGES = sorted(page for page in DOCS.rglob("*.md") if notes.blocks(page))
CONCEPTS = (
    *(
        "ito",
        "paths",
        "targets",
        "posterior",
        "elbo",
        "score",
        "fokker-planck",
        "dynamics",
        "fields",
        "flow-matching",
        "steps",
    ),
    *("langevin", "guiding", "fourier", "time", "attention", "dit", "density", "couplings", "flow-maps"),
)
"""The notes of the field's concepts, in the order in which a learner meets them."""


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # matplotlib, of tensors
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_the_blocks_of_a_page_run(page: Path, tmp_path: Path) -> None:
    if any("matplotlib" in block for block in notes.blocks(page)):
        pytest.importorskip("matplotlib")
    notes.run(page, tmp_path)  # what a block writes stays out of the project
    for picture in notes.pictures(page):
        assert (tmp_path / picture).stat().st_size > 2000, f"{page.name} shows {picture} and does not draw it"


def test_every_note_shows_something_that_runs() -> None:
    assert not [page.name for page in DOCS.glob("notes/*.md") if not notes.blocks(page)]


@pytest.mark.parametrize("name", CONCEPTS)
def test_a_note_of_a_concept_holds_all_that_it_should(name: str) -> None:
    page = DOCS / "notes" / f"{name}.md"
    text = page.read_text(encoding="utf-8")
    head = re.search(r"## In other notations\n\n\| here.*? \| DDPM \| score-SDE \| flow matching.* \|\n", text)
    assert head, "a table of translations"
    assert notes.pictures(page), "a picture that the page draws"
    assert all((DOCS / "images" / "notes" / picture).is_file() for picture in notes.pictures(page))
    assert len(notes.blocks(page)[0].strip().splitlines()) <= 15, "a short snippet"
    assert text.index("## Slips") < text.index("## Exercise") < text.index("<details><summary>Answer</summary>")
    places = re.findall(r"`(?:src/ornstein/)?([\w/]+\.py)`", text[text.index("## In the code") :])
    assert places
    assert all(list((DOCS.parent / "src" / "ornstein").rglob(place)) for place in places), places


def test_concepts_stand_in_this_order_on_the_front_page() -> None:
    index = (DOCS / "index.md").read_text(encoding="utf-8")
    places = [index.index(f"](notes/{name}.md)") for name in CONCEPTS]
    assert places == sorted(places)


def test_a_notebook_is_the_page_in_order() -> None:
    text = (DOCS / "notes" / "ito.md").read_text(encoding="utf-8")
    book = json.loads(json.dumps(notes.notebook(text)))
    assert book["nbformat"] == 4
    assert book["cells"][0]["source"] == [notes.HEADER]
    code = ["".join(cell["source"]) for cell in book["cells"] if cell["cell_type"] == "code"]
    assert code[1:] == [block.strip() for block in notes.blocks(DOCS / "notes" / "ito.md")]
    assert len({cell["id"] for cell in book["cells"]}) == len(book["cells"])
