"""What a release is: one version, a line of smoke for every command, addresses in one place."""

import re
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

import ornstein
from ornstein.cli.options import COMMANDS
from ornstein.cli.parse import parse

ROOT = Path(__file__).parents[1]
PAGES = [p for p in ROOT.glob("**/*.md") if not {".venv", "build", "dist", "shared"} & {*p.relative_to(ROOT).parts}]


def smoke() -> dict[str, str]:
    lines: dict[str, str] = runpy.run_path(str(ROOT / "tools" / "dist.py"))["SMOKE"]
    return lines


def project() -> Any:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.mark.parametrize("command", COMMANDS)
def test_the_lines_of_smoke_are_understood(command: str) -> None:
    name, *words = smoke().get(command, command).split()
    assert name == command
    parse(COMMANDS[command], command, words)


def test_the_material_of_smoke_is_python() -> None:
    compile(runpy.run_path(str(ROOT / "tools" / "dist.py"))["IMAGES"], "material", "exec")


def test_the_material_is_made_before_the_lines_that_need_it(tmp_path: Path) -> None:
    smoke = runpy.run_path(str(ROOT / "tools" / "dist.py"))["smoke"]
    done: list[str] = []
    found = f"{tmp_path}/ornstein edit"
    answer = lambda python, away, code: done.append(code) or found  # noqa: E731
    smoke.__globals__.update(answer=answer, run=lambda python, *words, **others: done.append(words[3]), say=len)
    smoke(tmp_path / "bin" / "python", tmp_path)
    assert done.index(smoke.__globals__["IMAGES"]) < done.index("edit")


def test_the_version_is_written_once_and_the_changelog_begins_with_it() -> None:
    about = project()
    assert "version" in about["project"]["dynamic"]
    assert (ROOT / about["tool"]["hatch"]["version"]["path"]).is_file()
    versions = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert versions[0] == ornstein.__version__
    assert len(versions) == len(set(versions))


def test_addresses_of_the_project_are_placeholders_in_one_place() -> None:
    urls = project()["project"]["urls"]
    assert {"Homepage", "Documentation", "Source", "Changelog"} <= urls.keys()
    assert all(url.startswith("https://example.org/ornstein") for url in urls.values())
    assert not [page for page in PAGES if "example.org/ornstein" in page.read_text(encoding="utf-8")]


def test_package_data_lie_in_the_package() -> None:
    package = ROOT / "src" / "ornstein"
    for name in ("py.typed", "studio/static/views/watch.js", "data/digits.npz", "data/DIGITS-LICENSE"):
        assert (package / name).is_file()
    assert (ROOT / project()["project"]["license-files"][0]).is_file()


def test_the_module_is_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "ornstein", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"ornstein {ornstein.__version__}\n"
