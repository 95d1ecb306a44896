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

MODULES = ("api", "ui", "draw", "chart", "player", "easel", "given", "views/common")
"""Before the views and `main`: each imports none that comes later."""
SIZE = 2 << 20  # bytes of one recording of samples, about
SEEDS = 3
TIMES = 20  # steps of t in the plane
PLANE = {"cells": 40, "arrows": 15}
DENSE = 24  # cells along a side of the density of a run
RACES, SCALES = (4, 8, 16), (0, 1.5, 2, 3, 5, 8)  # calls of the races, scales of the guidance
EDITING = 20  # steps of the edits
RECORDED_MIXTURES, RECORDED_PATHS = ("ring", "moons"), ("linear", "vp")
CLIENT = "export"


def write(place: Path, folders: Sequence[Path], device: str, force: bool = False, data: str | None = None) -> Path:
    """Write the page of these runs. Raises UsageError for a file that is there already, unless `force`."""
    if place.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"--export {place} has another ending than .html; give such as studio.html")
    if place.is_dir() or (place.exists() and not force):
        raise UsageError(f"--export {place} is there already; give another name, or --force to replace it")
    studio = Studio(Shelf(folders, device), data)
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
    made = Recordings(studio)
    for run in runs:
        for title, ask in _samples(run):
            made.job("watch", "watch", ask, title=title)
        for title, ask in _races(run):
            made.job("race", "race", ask, title=title)
        for title, ask, base in _guided(run):
            made.job("guide", "watch", ask, title=title, base=base)
            made.jobs[key("watch", base)] = made.events("watch", base)
        for title, ask in _edits(made, run):
            made.job("edit", "edit", ask, title=title)
    flat = [{"run": run["id"]} for run in runs if run["shape"] == [2]]
    exact = [{"mixture": mixture, "path": path} for mixture in RECORDED_MIXTURES for path in RECORDED_PATHS]
    for plane in [*exact, *flat]:
        made.asks["field"].append(plane)
        for i in range(TIMES + 1):
            t = _short(i / TIMES)
            made.call("field", {**plane, **PLANE, "t": t})
            if plane in flat:
                made.job("density", "density", {**plane, "cells": DENSE, "t": t})
        for dynamics in ("ode", "sde"):
            made.job("particles", "particles", {**plane, "dynamics": dynamics, "count": 400, "steps": 40})
    for ask in [*({"path": path} for path in RECORDED_PATHS), *flat]:
        made.call("path", ask)
    pages = {f"curves/{place.id}?after=-1": measure.curves(place) for place in studio.shelf.places.values()}
    about = {
        "version": __version__,
        "runs": runs,
        "mixtures": {name: (make.__doc__ or "").rstrip(".") for name, make in mixtures.ALL.items()},
        "paths": list(PATHS),
        "guidance": list(GUIDANCE),
        "animations": [],
    }
    return {"about": about, "jobs": made.jobs, "calls": made.calls, "pages": pages, "asks": made.asks}


class Recordings:
    """Answers by the page's names for them, and what can be asked for in each view."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        self.jobs: dict[str, list[dict[str, Any]]] = {}
        self.calls: dict[str, dict[str, Any]] = {}
        self.asks: dict[str, list[dict[str, Any]]] = {
            name: [] for name in ("watch", "race", "guide", "edit", "particles", "density", "field")
        }

    def events(self, job: str, ask: dict[str, Any]) -> list[dict[str, Any]]:
        """All events of a job."""
        return list(views.JOBS[job](self.studio, CLIENT, Fields(ask)))

    def job(self, view: str, job: str, ask: dict[str, Any], **more: Any) -> None:
        """Record a job for a view; what the run has not the means for is left out."""
        try:
            self.jobs[key(job, ask)] = self.events(job, ask)
        except UsageError:
            return
        self.asks[view].append({**more, "ask": ask})

    def call(self, name: str, ask: dict[str, Any]) -> None:
        """Record a short answer."""
        self.calls[key(name, ask)] = views.CALLS[name](self.studio, CLIENT, Fields(ask))()


def key(name: str, ask: dict[str, Any]) -> str:
    """The name of an answer, as `key` of api.js makes it."""
    return f"{name} {json.dumps(sorted(ask.items()), separators=(',', ':'), ensure_ascii=False)}"


def _short(t: float) -> float | int:
    return int(t) if t == int(t) else t


def _count(run: dict[str, Any], sheets: int, most: int = 16) -> int:
    """As many samples as fit where so many sheets of them are shown."""
    numbers = (run["cell"][0] * run["cell"][1] * 3) if run["drawn"] else 8 * run["shape"][0]
    return min(most if run["drawn"] else 600, max(1, SIZE // (4 * numbers * sheets)))


def _common(run: dict[str, Any], sheets: int, most: int = 16) -> dict[str, Any]:
    label = {"label": -2} if run["classes"] else {}
    return {"run": run["id"], "count": _count(run, sheets, most), **label}


def _samples(run: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """What is recorded of samples: seeds, and classes in turn where there are some."""
    ask = _common(run, run["steps"] + 1)
    for seed in range(SEEDS):
        yield f"{ask['count']} {run['plural']}, seed {seed}", {**ask, "seed": seed}


def _races(run: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Races of the usual solvers at a few numbers of calls."""
    solvers = [name for name in ("abm", "heun", "ddim") if name in run["solvers"]["ode"]]
    for calls in RACES:
        ask = {**_common(run, len(solvers) * calls, 9), "seed": 0, "solvers": solvers, "calls": calls}
        yield f"{', '.join(solvers)} at {calls} calls", ask


def _guided(run: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Scales of guidance, of runs with classes, and the same samples without it."""
    if not (run["guided"] and run["classes"]):
        return
    base = {**_common(run, 26), "seed": 0, "steps": 12}
    for scale in SCALES:
        yield f"scale {scale}", {**base, "scale": scale, "method": "cfg"}, base


def _edits(made: Recordings, run: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Edits of samples of a run that is drawn."""
    if not run["drawn"]:
        return
    samples = made.events("items", {"run": run["id"], "count": 2, **({"label": -2} if run["classes"] else {})})
    first, other = next(event["uploads"] for event in samples if event["type"] == "items")
    ask = {"run": run["id"], "upload": first, "count": 4, "seed": 0, "steps": EDITING}
    if run["pixels"]:
        height, width = run["cell"]
        mask = "".join("1" if 2 * column >= width else "0" for _ in range(height) for column in range(width))
        yield "inpaint the right half", {**ask, "task": "inpaint", "mask": mask}
    for strength in (0.3, 0.6):
        yield f"vary, strength {strength}", {**ask, "task": "vary", "strength": strength}
    yield "interpolate between two", {**ask, "task": "interpolate", "other": other, "frames": 8}
    if run["pixels"]:
        yield "restore from blur", {**ask, "task": "blur", "width": 1}
        yield "restore from coarse pixels", {**ask, "task": "coarse", "factor": 2}


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
