"""What the fault tests share: how many cases there are, and what every refusal must look like.

`ORNSTEIN_FAULTS=full` (`make faults`) takes the large counts. Each case is a function of its number, which a failure names.
"""

import importlib.util
import io
import json
import os
import random
import re
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from ornstein.cli import main

UNFORESEEN = re.compile(r"^ornstein( \(process \d+\))?: unexpected", re.MULTILINE)
FULL = os.environ.get("ORNSTEIN_FAULTS") == "full"
TINY = ["--batch-size", "4", "--samples", "0", "--device", "cpu", "--snapshots", "0"]


@dataclass(frozen=True)
class Outcome:
    """What a command line gave."""

    words: list[str]
    code: int
    out: str
    err: str

    @property
    def sentence(self) -> str:
        """What was said about a failure: one line, and no warning."""
        lines = [line for line in self.err.splitlines() if line and not line.startswith("warning: ")]
        assert len(lines) == (self.code != 0), self
        return "".join(lines)


@pytest.fixture(scope="session")
def full() -> bool:
    """Whether the large counts are asked for."""
    return FULL


@pytest.fixture(scope="session")
def cases() -> Callable[[int, int], Iterator[random.Random]]:
    """`cases(few, many)`: a generator of random choices for each case; one that fails says which it was."""

    def generate(few: int, many: int) -> Iterator[random.Random]:
        for number in range(many if FULL else few):
            try:
                yield random.Random(number)
            except GeneratorExit:
                print(f"case {number}")
                raise

    return generate


@pytest.fixture(scope="session")
def run() -> Callable[..., Outcome]:
    """Runs a command line in this process: never a traceback, never an error that nobody foresaw."""

    def command(words: list[str]) -> Outcome:
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            code = main(words)
        done = Outcome(words, code, out.getvalue(), err.getvalue())
        assert "Traceback" not in done.out + done.err, done
        assert not UNFORESEEN.search(done.err), done
        assert done.sentence is not None
        return done

    return command


@pytest.fixture(scope="session")
def points(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small set of vectors, which a small network learns in no time."""
    file = tmp_path_factory.mktemp("points") / "points.npy"
    np.save(file, np.random.default_rng(0).normal(size=(64, 3)).astype(np.float32))
    return file


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, run: Callable[..., Outcome], points: Path) -> Path:
    """A run on vectors with checkpoints at steps 2 and 3; not to be written to."""
    out = tmp_path_factory.mktemp("runs") / "points"
    words = ["train", "--data", str(points), "--out", str(out), "--steps", "3", "--save-every", "1", "--preset", "tiny"]
    assert run([*words, *TINY]).code == 0
    return out


@pytest.fixture(scope="session")
def forks() -> ModuleType:
    """The module of that name beside this file."""
    spec = importlib.util.spec_from_file_location("forks", Path(__file__).with_name("forks.py"))
    assert spec is not None
    assert spec.loader is not None
    sys.modules["forks"] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def forked(forks: ModuleType) -> Iterator[Callable[..., Any]]:
    """`forked([WORDS, {FATE}], ...)` runs command lines side by side, each in a process of its own, and gives their ends."""
    if not hasattr(os, "fork") or not Path("/proc/self/fd").exists():
        pytest.skip("processes are forked and watched as Linux does")
    command = [sys.executable, str(Path(__file__).with_name("forks.py"))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin is not None
        assert server.stdout is not None

        def children(*jobs: tuple[list[str], dict[str, Any]]) -> Any:
            assert server.stdin is not None
            assert server.stdout is not None
            told = [asdict(forks.Child(words, **fate)) for words, fate in jobs]
            print(json.dumps(told), file=server.stdin, flush=True)
            ends = [forks.End(**end) for end in json.loads(server.stdout.readline())]
            for end in ends:
                assert not end.hung, end
                assert "Traceback" not in end.out + end.err, end
                assert not UNFORESEEN.search(end.err), end
            return ends if len(ends) > 1 else ends[0]

        yield children
        server.stdin.close()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own, whose size can be changed."""
    place = tmp_path / "disk"
    place.mkdir()
    try:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place], check=True, capture_output=True)
    except (OSError, subprocess.SubprocessError):
        pytest.skip("no file system may be mounted here")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)


@contextmanager
def _limited(room: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + room, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.fixture(scope="session")
def memory() -> Callable[[int], object]:
    """`with memory(BYTES):` no more than this can be taken within; where the system cannot say, all can."""
    from contextlib import nullcontext

    return _limited if Path("/proc/self/statm").exists() else lambda room: nullcontext()


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))
