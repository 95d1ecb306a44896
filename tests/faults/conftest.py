"""What the fault tests share: how many cases there are, and what every refusal must look like.

`ORNSTEIN_FAULTS=full` (`make faults`) takes the large counts. Each case is a function of its number, which a failure names.
"""

import io
import os
import random
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from ornstein.cli import main

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
        assert "unexpected" not in done.err, done
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
