"""A process that has imported all that the command needs, and forks for each job: imports take seconds, a fork none.

One job a line on standard input, one answer a line on standard output, both JSON. A job is a list of children that run side
by side, each a command line with its fate (`Child`); the answer says how each of them ended.
"""

import json
import os
import resource
import signal
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
CHANGES = {"os.link", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate"}


@dataclass(frozen=True)
class Child:
    """A command line, and its fate."""

    words: list[str]
    env: dict[str, str] = field(default_factory=dict)
    within: str | None = None
    """The folder whose changes are counted: for `at`, and for the answer."""
    at: int | None = None
    """Killed just before change number `at`."""
    torn: float | None = None
    """If that is a file's way to the disk, the file first loses what comes after this part: what a power cut leaves."""
    after: float | None = None
    """Sent `signal` after so many seconds."""
    signal: int = int(signal.SIGKILL)
    largest: int | None = None
    """Bytes that a file may have: what is written beyond is refused."""
    dies: bool = False
    """A write that is refused kills, in the middle of the file."""
    bound: bool = False
    """Permissions bind it, even if it is root's."""
    umask: int | None = None
    """Permissions that its new files do not have."""
    poisoned: list[int] = field(default_factory=list)
    """Items of the data that become NaN once the data have been measured."""
    patience: float = 300.0
    """Seconds after which it counts as one that hangs, and is killed."""


@dataclass(frozen=True)
class End:
    """How a child ended: `code` is its exit code, or minus the signal that killed it."""

    code: int
    seconds: float
    hung: bool
    out: str
    err: str
    changes: int


class Changes:
    """Counts the changes to files within a folder, and kills this process at one of them."""

    def __init__(self, folder: str, at: int | None, torn: float | None) -> None:
        self.count, self._folder, self._at, self._torn, self._fsync = 0, folder, at, torn, os.fsync
        os.fsync = self._flush  # type: ignore[assignment]
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        changes = event in CHANGES or (event == "open" and bool(arguments[2] & WRITES))
        if changes and isinstance(arguments[0], (str, Path)):
            path = str(arguments[0])  # `shutil.rmtree` gives bare names
            if path.startswith(self._folder) or not os.path.isabs(path):
                self._met()

    def _flush(self, handle: int) -> None:
        if self.count + 1 == self._at and self._torn is not None:
            file = os.readlink(f"/proc/self/fd/{handle}")
            if os.path.isfile(file):
                os.truncate(file, int(os.path.getsize(file) * self._torn))
        self._met()
        self._fsync(handle)

    def _met(self) -> None:
        self.count += 1
        if self.count == self._at:
            os.kill(os.getpid(), signal.SIGKILL)


def _live(child: Child, place: Path) -> int:
    """What a forked process does; its exit code."""
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(place / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    os.environ.update(child.env)
    if child.dies:
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if child.bound and os.geteuid() == 0:
        _bind()
    if child.umask is not None:
        os.umask(child.umask)
    if child.poisoned:
        _poison(child.poisoned)
    changes = Changes(child.within, child.at, child.torn) if child.within else None
    if child.largest is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (child.largest, resource.RLIM_INFINITY))
    from ornstein.cli import main

    code = main(child.words)
    if changes is not None:
        (place / "changes").write_text(str(changes.count))
    return code


def _bind() -> None:
    """Gives up the capabilities by which root reads and writes what its permissions forbid: see capabilities(7), capset(2)."""
    import ctypes

    libc, head = ctypes.CDLL(None, use_errno=True), (ctypes.c_uint32 * 2)(0x20080522, 0)
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable, twice
    if libc.capget(head, sets) == 0:
        for i in range(3):
            sets[i] &= ~0b1110  # DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER
        libc.capset(head, sets)


def _poison(items: list[int]) -> None:
    import dataclasses

    import numpy as np

    from ornstein import data

    opened = data.open

    def spoiled(*arguments: Any, **named: Any) -> data.Dataset:
        found = opened(*arguments, **named)
        values = np.array(found.items)
        values[items] = np.nan
        return dataclasses.replace(found, items=values)

    data.open = spoiled


def _born(child: Child, place: Path) -> int:
    """The number of a new process."""
    number = os.fork()
    if number:
        return number
    code = 70
    try:
        code = _live(child, place)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _done(children: list[Child]) -> list[End]:
    """Runs children side by side and tells how each ended."""
    with tempfile.TemporaryDirectory() as name:
        places = [Path(name, str(i)) for i in range(len(children))]
        for place in (Path(name), *places):
            place.mkdir(exist_ok=True)
            place.chmod(0o777)
        began = time.monotonic()
        alive = {_born(child, place): i for i, (child, place) in enumerate(zip(children, places, strict=True))}
        ends: dict[int, tuple[int, float]] = {}
        told, hung = set[int](), set[int]()
        while alive:
            number, status = os.waitpid(-1, os.WNOHANG)
            elapsed = time.monotonic() - began
            if number:
                ends[alive.pop(number)] = os.waitstatus_to_exitcode(status), elapsed
                continue
            for number, i in alive.items():
                after = children[i].after
                if after is not None and elapsed >= after and i not in told:
                    told.add(i)
                    os.kill(number, children[i].signal)
                if elapsed > children[i].patience and i not in hung:
                    hung.add(i)
                    os.kill(number, signal.SIGKILL)
            time.sleep(0.002)
        found = [{path.name: path.read_text(errors="replace") for path in place.iterdir()} for place in places]
        return [
            End(*ends[i], i in hung, said.get("out", ""), said.get("err", ""), int(said.get("changes", 0)))
            for i, said in enumerate(found)
        ]


def _serve() -> None:
    import matplotlib.figure  # noqa: F401
    import torch._dynamo
    import torch.distributed.fsdp
    import torch.distributed.tensor
    import torch.nn.parallel

    import ornstein.cli.compare
    import ornstein.cli.diagnose
    import ornstein.cli.edit
    import ornstein.cli.ema
    import ornstein.cli.likelihood
    import ornstein.cli.sample
    import ornstein.cli.train
    import ornstein.cli.tune
    import ornstein.plots
    import ornstein.report
    import ornstein.runs
    import ornstein.training.trainer

    torch.set_num_threads(1)
    ornstein.processes.JOINING = 0.5  # not minutes, for one whose partner was killed before it came
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        ends = _done([Child(**child) for child in json.loads(line)])
        print(json.dumps([asdict(end) for end in ends]), file=answers, flush=True)


if __name__ == "__main__":
    _serve()
