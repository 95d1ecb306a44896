"""Build the wheel and the sdist and prove them: `make dist`. What it needs comes into environments below build/.

Two builds must be equal byte for byte, `twine check` must be content, package data must be inside, every extra must resolve, and
in a fresh environment, away from the checkout, the wheel must train the demo and answer each command of `ornstein`.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BUILD, DIST = ROOT / "build", ROOT / "dist"
EPOCH = "1577836800"  # 2020-01-01: the date of every file in both
DATA = (
    *("ornstein/py.typed", "ornstein/data/digits.npz", "ornstein/data/DIGITS-LICENSE", "dist-info/licenses/LICENSE"),
    "ornstein/studio/static/views/watch.js",
)
SMOKE: dict[str, str] = {
    "demo": "demo --minutes 0.2 --out runs/demo",
    "train": "train --data moons --steps 20 --samples 0 --out runs/moons",
    "sample": "sample runs/demo -n 2 --steps 5 --out drawn",
    "edit": "edit runs/demo a.png --strength 0.5 --steps 5 -n 2 --out edited.png",
    "interpolate": "interpolate runs/demo a.png b.png --frames 3 --steps 5 --out between.png",
    "predict": "predict runs/people people.csv --column age --draws 4 --steps 3 --out predicted.csv",
    "impute": "impute runs/given holes.npy --draws 2 --out filled.npy",
    "restore": "restore runs/demo a.png --operator blur --width 1 --steps 5 -n 2 --out restored.png",
    "tune": "tune runs/moons --steps 4 --teacher 20 --seconds 60",
    "distil": "distil runs/moons --steps 10 --out runs/few",
    "ema": "ema runs/demo --list",
    "evaluate": "evaluate runs/moons --data moons:test -n 200",
    "compare": "compare runs/moons --steps 2,4 -n 200 --data moons:test --out compare.png",
    "diagnose": "diagnose runs/moons --data moons:test -n 100 --levels 3",
    "likelihood": "likelihood runs/moons --data moons:test -n 8",
    "calibrate": "calibrate runs/given --data moons:test -n 20 --draws 10",
    "info": "info runs/demo",
    "clean": "clean runs/demo --dry-run",
    "data": "data people.csv",
    "verify": "verify --solver heun --path linear",
    "reflow": "reflow runs/moons --pairs 200 --solver-steps 4 --steps 10 --out runs/straight",
    "studio": "studio --export studio.html",
    "export": "export runs/moons --to onnx --out exported.onnx",
    "import": "import exported.onnx --convention sit --classes 2+1 --range -3,3 --out runs/imported",
}
"""A line for each command that needs one; the others are tried by name alone. What needs a run comes after what makes it."""


def main() -> int:
    shutil.rmtree(DIST, ignore_errors=True)
    tools = environment(BUILD / "dist-tools")
    pip(tools, "build", "twine", "hatchling")
    wheel, sdist = (same_twice(tools, name) for name in ("wheel", "sdist"))
    run(tools, "-m", "twine", "check", "--strict", str(wheel), str(sdist))
    holds(wheel, sdist)
    fresh = environment(BUILD / "dist-fresh", clear=True)
    pip(fresh, f"{wheel}[onnx]")
    with tempfile.TemporaryDirectory() as away:
        smoke(fresh, Path(away))
        for extra in answer(fresh, Path(away), EXTRAS).split():
            say(f"resolves: ornstein[{extra}]")
            pip(fresh, "--dry-run", f"{wheel}[{extra}]")
    say(f"ready to upload: {wheel.relative_to(ROOT)}, {sdist.relative_to(ROOT)}")
    return 0


def environment(place: Path, clear: bool = False) -> Path:
    """The Python of a virtual environment."""
    python = place / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    if clear or not python.exists():
        say(f"making {place.relative_to(ROOT)}")
        venv.EnvBuilder(with_pip=True, clear=place.exists()).create(place)
    return python


def pip(python: Path, *what: str) -> None:
    quiet = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    run(python, *quiet, "--constraint", str(ROOT / "constraints.txt"), *what)


def run(python: Path, *words: str, cwd: Path = ROOT, stdout: int | None = None, ends: int = 0) -> str:
    """What a command says to a pipe; the end of everything where it fails. The checkout is not on its path."""
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        [str(python), *words], cwd=cwd, env=clean | {"SOURCE_DATE_EPOCH": EPOCH}, stdout=stdout, text=True
    )
    if done.returncode != ends:
        sys.exit(f"make dist: this ended with {done.returncode}: {' '.join(words)}")
    return done.stdout or ""


def answer(python: Path, away: Path, code: str) -> str:
    return run(python, "-I", "-c", code, cwd=away, stdout=subprocess.PIPE)


def same_twice(tools: Path, kind: str) -> Path:
    """The file that two builds agree on, in dist/."""
    places = [BUILD / f"dist-{name}" for name in ("first", "second")]
    for place in places:
        shutil.rmtree(place, ignore_errors=True)
        # the isolated environment of a build would be made anew each time; hatchling is beside it already
        run(tools, "-m", "build", f"--{kind}", "--no-isolation", "--outdir", str(place), stdout=subprocess.DEVNULL)
    first, second = (next(place.iterdir()) for place in places)
    hashes = [hashlib.sha256(file.read_bytes()).hexdigest() for file in (first, second)]
    if hashes[0] != hashes[1] or first.name != second.name:
        sys.exit(f"make dist: two builds of {first.name} differ: {hashes[0]} and {hashes[1]}")
    say(f"{first.name}: twice {hashes[0]}")
    DIST.mkdir(exist_ok=True)
    return Path(shutil.copy(first, DIST))


def holds(wheel: Path, sdist: Path) -> None:
    """Package data and licences are in both, and nothing but the package is in the wheel."""
    with zipfile.ZipFile(wheel) as opened:
        inside = opened.namelist()
    with tarfile.open(sdist) as archive:
        sources = archive.getnames()
    lacking = [name for name in DATA if not any(file.endswith(name) for file in inside)]
    lacking += [n for n in ("LICENSE", "src/ornstein/data/digits.npz") if not any(s.endswith("/" + n) for s in sources)]
    strange = [name for name in inside if not name.startswith(("ornstein/", "ornstein-"))]
    if lacking or strange:
        sys.exit(f"make dist: the packages lack {lacking} and hold {strange}")


EXTRAS = "from importlib.metadata import metadata; print(*metadata('ornstein').get_all('Provides-Extra'))"
COMMANDS = "import ornstein; from ornstein.cli.options import COMMANDS; print(ornstein.__file__, *COMMANDS)"
IMAGES = r"""
from PIL import Image
from ornstein import data
for name, item in zip("ab", data.open("digits").items[:2]):
    Image.fromarray(item.reshape(8, 8)).save(f"{name}.png")
with open("people.csv", "w") as file:
    file.write("age,city\n" + "".join(f"{20 + i % 50},{'AB'[i % 2]}\n" for i in range(100)))
import numpy
import ornstein
numpy.save("holes.npy", numpy.array([[0.5, float("nan")], [float("nan"), 0.2]], "float32"))
ornstein.train("moons", given="any", steps=20, out="runs/given")
ornstein.train("people.csv", given="any", steps=20, out="runs/people")
"""


def smoke(python: Path, away: Path) -> None:
    """Each command of the installed package does its work, in a folder far from the checkout."""
    where, *commands = answer(python, away, COMMANDS).split()
    if not Path(where).resolve().is_relative_to(python.parents[1].resolve()):
        sys.exit(f"make dist: not the wheel but {where} was imported")
    answer(python, away, IMAGES)
    lines = {**SMOKE, **{name: name for name in commands if name not in SMOKE}}
    for line in (line for name, line in lines.items() if name in commands):
        say(f"ornstein {line}")
        run(python, "-I", "-m", "ornstein", *line.split(), cwd=away, stdout=subprocess.DEVNULL)


def say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
