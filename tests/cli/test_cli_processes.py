"""Commands on several processes: one voice, the same files as one process makes, one end for all."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ornstein.cli import main

WORKER = "import json, sys; from ornstein.cli import main; print([main(words) for words in json.loads(sys.argv[1])])"


def on_two(commands: list[list[str]]) -> list[tuple[str, str]]:
    """What two processes print and complain about when each runs the commands in turn."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    workers = []
    for rank in ("0", "1"):
        told = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
        told |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
        workers.append(
            subprocess.Popen(
                [sys.executable, "-c", WORKER, json.dumps(commands)],
                env={**os.environ, **told},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    try:
        return [worker.communicate(timeout=300) for worker in workers]
    finally:
        for worker in workers:
            worker.kill()


def test_two_processes_sample_the_same_files_as_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = str(tmp_path / "run")
    train = ["train", "--data", "digits", "--out", run, "--steps", "2", "--samples", "0", "--preset", "tiny"]
    train += ["--batch-size", "4", "--device", "cpu"]
    assert main(train) == 0
    sample = ["sample", run, "-n", "11", "--steps", "2", "--batch-size", "2", "--device", "cpu", "--out"]
    assert main([*sample, str(tmp_path / "one")]) == 0
    capsys.readouterr()
    (said, wrong), (quiet, silent) = on_two(
        [
            [*sample, str(tmp_path / "two")],
            [*sample, str(tmp_path / "two.npz")],
            [*train, "--batch-size", "5"],
            ["train", "--dta", "digits"],
        ]
    )
    assert said.splitlines()[-1] == "[0, 0, 2, 2]", wrong
    assert quiet.splitlines()[-1] == "[0, 0, 1, 2]"  # told by the other
    assert len(quiet.splitlines()) == 1
    assert [line.partition(":")[0] for line in wrong.splitlines()] == ["ornstein", "ornstein"]
    assert "--batch-size 4" in wrong
    assert "did you mean --data?" in wrong
    assert not silent
    names = sorted(file.name for file in (tmp_path / "one").iterdir())
    assert len(names) == 12
    assert names == sorted(file.name for file in (tmp_path / "two").iterdir())
    assert all((tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes() for name in names)
    assert np.load(tmp_path / "two.npz")["samples"].shape == (11, 8, 8, 1)
