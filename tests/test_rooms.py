"""Imports go only downward: each room may import the rooms named before it, and no sibling of its own line."""

import ast
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import nn

import ornstein
from ornstein.cli.options import COMMANDS
from ornstein.runs.run import FUNCTIONS, Run

ROOT = Path(ornstein.__file__).parent
# From the bottom up. Modules on one line are siblings and do not import each other.
FLOORS = [
    {"errors", "spelling", "_version", "_lazy", "_declared"},
    {"files", "terminal", "settings", "extras", "caching"},
    {"path", "networks", "noise", "processes", "names", "cpu"},
    {"target", "estimate", "grid", "preconditioning", "device", "meter", "weights"},
    {"denoiser", "table"},
    {"exact", "sde", "chart", "flowmap", "objective", "coupling", "compiling", "variance", "known"},
    {"solvers", "guidance", "distillation"},
    {"arguments"},
    {"sampling"},
    {"tuning", "likelihood", "editing", "tilting", "data", "degradations", "masking"},
    {"verify", "metrics", "conditions", "interop"},
    {"model"},
    {"folder"},
    {"training", "runs"},
    {"report", "plots", "learn", "export", "studio"},
    {"inference"},
    {"cli"},
]
FLOOR = {room: height for height, rooms in enumerate(FLOORS) for room in rooms}


def names_imported(source: str, package: list[str]) -> set[str]:
    """Full names that a module in a package imports, at its head or inside its functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = [*base, *node.module.split(".")] if node.module else base
            found |= {".".join([*base, alias.name]) for alias in node.names}
    return found


def imported(file: Path) -> set[str]:
    """Full names that a file of the library imports."""
    return names_imported(file.read_text(), ["ornstein", *file.relative_to(ROOT).parent.parts])


def rooms_of(names: set[str]) -> set[str]:
    """The rooms of ornstein among names; `ornstein` itself for it, and for what is in no room but re-exported by it."""
    own = [name.split(".") for name in names if name.split(".")[0] == "ornstein"]
    return {parts[1] if len(parts) > 1 and parts[1] in FLOOR else "ornstein" for parts in own}


def rooms_imported(file: Path) -> set[str]:
    return rooms_of(imported(file))


def test_every_module_has_a_room() -> None:
    modules = {
        p.stem if p.is_file() else p.name for p in ROOT.iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()
    }
    assert modules - {"__init__", "__main__"} <= FLOOR.keys()


def test_the_page_of_the_architecture_names_every_room() -> None:
    page = (Path(__file__).parent.parent / "docs" / "architecture.md").read_text(encoding="utf-8")
    table = page[page.index("| room |") : page.index("## Decisions")]
    assert not [room for room in FLOOR if room[0] != "_" and f"`{room}`" not in table and f"`{room}/`" not in table]


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


def test_a_bare_import_of_the_library_is_seen() -> None:
    for source in (
        "import ornstein",
        "def f():\n    import ornstein",
        "from ornstein import load",
        "from . import sample",
    ):
        assert rooms_of(names_imported(source, ["ornstein"])) == {"ornstein"}
    assert rooms_of(names_imported("from ornstein import path\nfrom .solvers import ABM", ["ornstein"])) == {
        "path",
        "solvers",
    }


def test_commands_do_not_import_each_other() -> None:
    commands = {f"ornstein.cli.{name}" for name in COMMANDS}
    wrong = [
        f"{file.name} imports {name}"
        for file in (ROOT / "cli").glob("*.py")
        for name in imported(file)
        if any(name == command or name.startswith(f"{command}.") for command in commands)
    ]
    assert not wrong, "what commands share belongs into a module below them"


def test_networks_are_a_leaf() -> None:
    assert all(not rooms_imported(file) - {"networks"} for file in (ROOT / "networks").rglob("*.py"))


def modules_after(code: str) -> set[str]:
    """Modules of the library that another process has imported after some code."""
    code += "; import sys; print(*[m for m in sys.modules if m.startswith('ornstein.')])"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


def test_loading_imports_few_modules_and_none_of_training() -> None:
    sampling = modules_after("from ornstein import sample")
    for code in ("from ornstein.runs import load", "import ornstein; ornstein.load"):
        loading = modules_after(code)
        assert "ornstein.folder.config" in loading
        assert not [module for module in loading if module.startswith("ornstein.training")]
        assert len(loading - sampling) <= 54, sorted(loading - sampling)
    for room in ("likelihood", "tuning", "compiling", "exact", "editing", "metrics"):
        assert f"ornstein.{room}" not in loading


def test_a_run_has_about_ten_members_of_its_own() -> None:
    own = {name for name in vars(Run) if not name.startswith("_")} | set(Run.__dataclass_fields__)
    assert len(own) <= 11, sorted(own)
    for name in FUNCTIONS:
        assert callable(getattr(ornstein.runs, name))


class Watching(nn.Module):
    """A network that counts the frames of the library between its caller and itself, as do its copies."""

    frames: ClassVar[list[list[str]]] = []

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, x: torch.Tensor, t: torch.Tensor, condition: object = None) -> torch.Tensor:
        names, frame = [], sys._getframe(1)
        while frame is not None:
            if Path(frame.f_code.co_filename).is_relative_to(ROOT):
                names.append(f"{Path(frame.f_code.co_filename).name}:{frame.f_code.co_name}")
            frame = frame.f_back  # type: ignore[assignment]
        self.frames.append(names)
        return self.layer(torch.cat([x, t[:, None]], 1))


def test_the_way_to_the_network_is_short() -> None:
    """From a user's call, or step of a trainer, to the network there are six frames of the library at most."""
    Watching.frames.clear()
    trainer = ornstein.Trainer(Watching(), None, np.arange(80, dtype=np.float32).reshape(40, 2), steps=2)
    for _ in trainer:
        pass
    trained, run = list(Watching.frames), trainer.run()
    Watching.frames.clear()
    run.sample(4, steps=3)
    for way, frames in (("sampling", Watching.frames), ("training", trained)):
        assert frames, way
        assert max(map(len, frames)) <= 6, (way, max(frames, key=len))
