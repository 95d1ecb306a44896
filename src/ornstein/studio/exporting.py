"""One HTML file that works without a server: the page with its modules in it, and what was recorded for it."""

import json
import re
from base64 import b64encode
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from ornstein._version import __version__
from ornstein.errors import OrnsteinError, UsageError
from ornstein.files.atomic import new_file
from ornstein.names import GUIDANCE, PATHS
from ornstein.studio import mixtures, views
from ornstein.studio.fields import Fields
from ornstein.studio.pages import page_files
from ornstein.studio.shelf import Shelf
from ornstein.studio.state import Studio
from ornstein.studio.views import measure

MODULES = ("api", "ui", "draw", "chart", "player", "views/common")
"""Before the views and `main`: each imports none that comes later."""
SIZE = 2 << 20  # bytes of one recording of samples, about
SEEDS = 3
TIMES = 20  # steps of t in the plane
PLANE = {"cells": 40, "arrows": 15}
RECORDED_MIXTURES, RECORDED_PATHS = ("ring", "moons"), ("linear", "vp")
CLIENT = "export"


def write(place: Path, folders: Sequence[Path], device: str, force: bool = False) -> Path:
    """Write the page of these runs. Raises UsageError for a file that is there already, unless `force`."""
    if place.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"--export {place} has another ending than .html; give such as studio.html")
    if place.is_dir() or (place.exists() and not force):
        raise UsageError(f"--export {place} is there already; give another name, or --force to replace it")
    studio = Studio(Shelf(folders, device))
    try:
        content = page(recorded(studio))
    finally:
        studio.jobs.close()
    with new_file(place) as file:
        file.write_text(content, encoding="utf-8")
    return place


def recorded(studio: Studio) -> dict[str, Any]:
    """Answers to what the page asks for, by its names."""
    runs = [place.described() for place in studio.shelf.places.values()]
    for run in runs:
        if not run["ready"]:
            raise OrnsteinError(f"{run['folder']} cannot be shown: {run['why']}")
    jobs: dict[str, list[dict[str, Any]]] = {}
    calls: dict[str, dict[str, Any]] = {}
    asks: dict[str, list[dict[str, Any]]] = {"watch": [], "particles": [], "field": []}
    for run in runs:
        for title, ask in _samples(run):
            jobs[key("watch", ask)] = _events(studio, "watch", ask)
            asks["watch"].append({"title": title, "ask": ask})
    for mixture in RECORDED_MIXTURES:
        for path in RECORDED_PATHS:
            plane = {"mixture": mixture, "path": path}
            asks["field"].append(plane)
            for i in range(TIMES + 1):
                ask = {**plane, **PLANE, "t": _short(i / TIMES)}
                calls[key("field", ask)] = views.CALLS["field"](studio, CLIENT, Fields(ask))()
            for dynamics in ("ode", "sde"):
                ask = {**plane, "dynamics": dynamics, "count": 400, "steps": 40}
                jobs[key("particles", ask)] = _events(studio, "particles", ask)
                asks["particles"].append({"ask": ask})
    for path in RECORDED_PATHS:
        calls[key("path", {"path": path})] = views.CALLS["path"](studio, CLIENT, Fields({"path": path}))()
    pages = {f"curves/{place.id}?after=-1": measure.curves(place) for place in studio.shelf.places.values()}
    about = {
        "version": __version__,
        "runs": runs,
        "mixtures": {name: (make.__doc__ or "").rstrip(".") for name, make in mixtures.ALL.items()},
        "paths": list(PATHS),
        "guidance": list(GUIDANCE),
    }
    return {"about": about, "jobs": jobs, "calls": calls, "pages": pages, "asks": asks}


def key(name: str, ask: dict[str, Any]) -> str:
    """The name of an answer, as `key` of api.js makes it."""
    return f"{name} {json.dumps(sorted(ask.items()), separators=(',', ':'), ensure_ascii=False)}"


def _short(t: float) -> float | int:
    return int(t) if t == int(t) else t


def _samples(run: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """What is recorded of a run: seeds, and classes in turn where there are some; as many samples as fit."""
    numbers = (run["cell"][0] * run["cell"][1] * 3) if run["drawn"] else 8 * run["shape"][0]
    most = max(1, SIZE // (4 * numbers * (run["steps"] + 1)))
    count = min(16 if run["drawn"] else 600, most)
    label = {"label": -2} if run["classes"] else {}
    for seed in range(SEEDS):
        yield f"{count} {run['plural']}, seed {seed}", {"run": run["id"], "count": count, "seed": seed, **label}


def _events(studio: Studio, view: str, ask: dict[str, Any]) -> list[dict[str, Any]]:
    return list(views.JOBS[view](studio, CLIENT, Fields(ask)))


def page(content: dict[str, Any]) -> str:
    """The HTML, whose policy runs and loads nothing but what is in it."""
    files = {name: text.decode() for name, text in page_files().items()}
    script, style = bundle(files), files["studio.css"]
    policy = (
        f"default-src 'none'; script-src '{_digest(script)}'; style-src '{_digest(style)}'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )
    html = files["index.html"]
    icon = b64encode(files["icon.svg"].encode()).decode()
    html = html.replace('href="icon.svg"', f'href="data:image/svg+xml;base64,{icon}"')
    html = html.replace('<link rel="stylesheet" href="studio.css">', f"<style>{style}</style>")
    html = html.replace('<script type="module" src="main.js"></script>\n', "")
    head = f'<meta charset="utf-8">\n<meta http-equiv="Content-Security-Policy" content="{policy}">'
    html = html.replace('<meta charset="utf-8">', head, 1)
    values = json.dumps(content, separators=(",", ":"), ensure_ascii=True).replace("<", "\\u003c")
    tail = f'<script type="application/json" id="recorded">{values}</script>\n<script>{script}</script>\n</body>'
    return html.replace("</body>", tail, 1)


def _digest(text: str) -> str:
    return f"sha256-{b64encode(sha256(text.encode()).digest()).decode()}"


EXPORTED = re.compile(r"^export (?=(?:async )?(?:function\*?|const|class) (\w+))", re.MULTILINE)
IMPORTED = re.compile(
    r'^import (?:\* as (?P<whole>\w+)|(?P<names>\{[^}]*\})) from "(?P<file>[./\w]+)\.js";$', re.MULTILINE
)


def bundle(files: dict[str, str]) -> str:
    """All modules as one script: each a function that returns what it exports, called in the order of their imports."""
    ordered = [*MODULES, *sorted(n[:-3] for n in files if n.startswith("views/") and n[:-3] not in MODULES), "main"]
    parts = ['"use strict";']
    for name in ordered:
        source = files[f"{name}.js"]
        names = EXPORTED.findall(source)
        source = IMPORTED.sub(_required, EXPORTED.sub("", source))
        returned = f"return {{ {', '.join(names)} }};"
        parts.append(f"const {_variable(name)} = (() => {{\n{source}\n{returned}\n}})();")
    return "\n".join(parts)


def _required(match: re.Match[str]) -> str:
    module = _variable(match["file"])
    return f"const {match['whole'] or match['names'].replace(' as ', ': ')} = {module};"


def _variable(name: str) -> str:
    return f"module_{name.rpartition('/')[2]}"
