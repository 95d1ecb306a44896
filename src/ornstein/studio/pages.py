"""The files of the page, which lie in the package."""

from functools import cache
from importlib.resources import files


@cache
def page_files() -> dict[str, bytes]:
    """By name, such as `views/watch.js`. Nothing else can be served, whatever a client names."""
    root = files("ornstein.studio") / "static"
    there = {child.name: child.read_bytes() for child in root.iterdir() if child.is_file()}
    nested = root / "views"
    return there | {f"views/{child.name}": child.read_bytes() for child in nested.iterdir() if child.is_file()}
