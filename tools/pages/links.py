"""Follow every link of a built site: its own pages and anchors must be there, and nothing may be loaded from elsewhere."""

from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADED = {("script", "src"), ("img", "src"), ("link", "href"), ("iframe", "src"), ("source", "src")}


class Page(HTMLParser):
    """The anchors of a page, its links, and what it loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if value is None:
                continue
            if name == "id" or (tag == "a" and name == "name"):
                self.anchors.add(value)
            elif tag == "a" and name == "href":
                self.links.append(value)
            elif (tag, name) in LOADED:
                self.loaded.append(value)


@cache
def read(file: Path) -> Page:
    return Page(file.read_text(encoding="utf-8"))


def leads(file: Path, link: str) -> bool:
    """Whether a link of a page leads to a file, and to an anchor in it where it names one."""
    parts = urlsplit(link)
    if parts.scheme:
        return True
    place = (file.parent / unquote(parts.path)).resolve() if parts.path else file
    place = place / "index.html" if place.is_dir() else place
    if not place.is_file():
        return False
    return not parts.fragment or place.suffix != ".html" or unquote(parts.fragment) in read(place).anchors


def broken(site: Path) -> list[str]:
    """A line for every link that leads nowhere, and for everything that a page would load from another place."""
    wrong = []
    for file in sorted(site.rglob("*.html")):
        page, name = read(file), file.relative_to(site)
        wrong += [f"{name}: {link} leads nowhere" for link in page.links if not leads(file, link)]
        wrong += [f"{name}: {link} is not there" for link in page.loaded if not leads(file, link)]
        wrong += [f"{name}: loads {link}" for link in page.loaded if urlsplit(link).netloc]
    return wrong
