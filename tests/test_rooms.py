"""Imports go only downward: each room may import the rooms named before it, and no sibling of its own line."""

import ast
import subprocess
import sys
from pathlib import Path

import ornstein

ROOT = Path(ornstein.__file__).parent
# From the bottom up. Modules on one line are siblings and do not import each other.
FLOORS = [
    {"errors", "_version"},
    {"files", "terminal", "settings"},
    {"path", "networks", "noise", "processes", "names", "cpu"},
    {"target", "estimate", "grid", "preconditioning", "device"},
    {"denoiser", "table"},
    {"exact", "sde", "chart", "objective", "coupling", "compiling"},
    {"solvers", "guidance"},
    {"arguments"},
    {"sampling"},
    {"tuning", "likelihood", "editing", "tilting", "data", "degradations"},
    {"verify", "metrics", "conditions"},
    {"model"},
    {"folder"},
    {"training", "runs"},
    {"report", "plots", "learn"},
    {"cli"},
]
FLOOR = {room: height for height, rooms in enumerate(FLOORS) for room in rooms}


def rooms_imported(file: Path) -> set[str]:
    """Rooms of ornstein that a file imports, at its head or inside its functions."""
    found: set[str] = set()
    package = ["ornstein", *file.relative_to(ROOT).parent.parts]
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
            if "ornstein" in names:  # whatever is an attribute of it
                found.add("ornstein")
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = [*base, *(node.module or "").split(".")] if node.module else base
            names = [".".join([*base, alias.name]) for alias in node.names]
        else:
            continue
        found |= {name.split(".")[1] for name in names if name.startswith("ornstein.")}
    return found & {*FLOOR, "ornstein"}


def test_every_module_has_a_room() -> None:
    modules = {
        p.stem if p.is_file() else p.name for p in ROOT.iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()
    }
    assert modules - {"__init__", "__main__"} <= FLOOR.keys()


def test_imports_go_only_downward() -> None:
    wrong = []
    for file in ROOT.rglob("*.py"):
        room = file.relative_to(ROOT).parts[0].removesuffix(".py")
        if room in FLOOR:
            wrong += [
                f"{room} imports {other}"
                for other in rooms_imported(file) - {room}
                if FLOOR.get(other, len(FLOORS)) >= FLOOR[room]
            ]
    assert not wrong


def test_networks_are_a_leaf() -> None:
    assert all(not rooms_imported(file) - {"networks"} for file in (ROOT / "networks").rglob("*.py"))


def test_loading_and_sampling_import_nothing_of_training() -> None:
    code = "import sys; from ornstein.runs import load; print(*[m for m in sys.modules if m.startswith('ornstein.')])"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "ornstein.folder.config" in modules
    assert not [module for module in modules if module.startswith("ornstein.training")]
