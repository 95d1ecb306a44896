"""Several processes do what one does: the same batches, the same losses, checkpoints for each other, and one end for all."""

import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from ornstein import data
from ornstein.errors import UsageError
from ornstein.folder import checkpoints
from ornstein.processes import ALONE, Processes, current, environment
from ornstein.settings import Settings
from ornstein.training import shards
from ornstein.training.batch import BLOCK, Batches, Part, normals
from ornstein.training.choosing import choose
from ornstein.training.trainer import FolderTraining

DIGITS = data.open("digits")
BASE: dict[str, Any] = {
    "data": "digits",
    "steps": 6,
    "batch_size": 8,
    "samples": 0,
    "preset": "tiny",
    "precision": "float32",
    "device": "cpu",
}
LAUNCHED = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")

WORKER = """
import json, sys, torch
torch.set_num_threads(1)
from ornstein import data
from ornstein.data import Dataset
from ornstein.errors import OrnsteinError
from ornstein.processes import joined
from ornstein.training.trainer import FolderTraining
from ornstein.settings import Settings

class Poisoned(Dataset):
    def batch(self, indices, flip=None, wide=False):
        x, labels = super().batch(indices, flip, wide)
        return x * float("nan"), labels

digits = data.open("digits")
with joined() as processes:
    for job in json.loads(sys.argv[1]):
        dataset, stop, rank = digits, job.pop("stop_after", None), job.pop("poisoned", None)
        if rank == processes.rank:
            dataset = Poisoned(digits.items, digits.labels, digits.spec)
        seen, said = [], ""
        try:
            for event in FolderTraining(Settings(**job), dataset, tell=lambda text: None):
                seen.append((event.progress.loss, event.progress.skipped))
                if event.progress.step == stop:
                    break
        except OrnsteinError as error:
            said = f"{type(error).__name__}: {error}"
        print(json.dumps([seen, said]), flush=True)
"""


def launch(count: int, jobs: list[dict[str, Any]]) -> list[list[tuple[list[tuple[float, int]], str]]]:
    """What each of `count` processes saw in each job: (loss, skipped) of every step, and the error, if any."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    workers = []
    for rank in range(count):
        told = dict(zip(LAUNCHED, map(str, (rank, count, rank, count, "127.0.0.1", port)), strict=True))
        words = [sys.executable, "-c", WORKER, json.dumps(jobs)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        workers.append(subprocess.Popen(words, env={**os.environ, **told}, **pipes))  # type: ignore[call-overload]
    try:
        outputs = [worker.communicate(timeout=500) for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    ended = [f"{worker.returncode}: {out}{err}" for worker, (out, err) in zip(workers, outputs, strict=True)]
    assert not any(worker.returncode for worker in workers), "\n".join(ended)
    return [[json.loads(line) for line in out.splitlines() if line.startswith("[")] for out, _ in outputs]


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    place = next(checkpoints.checkpoints(folder / "checkpoints"))
    files = sorted(place.glob("*.safetensors"))
    found = {f"{file.stem}.{name}": value for file in files for name, value in load_file(file).items()}
    if (place / checkpoints.SHARDS).is_dir():
        stored = shards.shapes(place / checkpoints.SHARDS)
        parts = {name: torch.full(shape, torch.nan) for name, shape in stored.items()}
        shards.load(place / checkpoints.SHARDS, parts)
        found |= parts
    return found


def alone(out: Path, **changes: object) -> list[float]:
    settings = Settings(**{**BASE, "out": str(out), **changes})
    return [event.progress.loss for event in FolderTraining(settings, DIGITS, tell=lambda text: None)]


def close(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> bool:
    """Weights and averages alike: Adam turns the rounding of a gradient that is zero but for rounding into a step."""
    assert ours.keys() == theirs.keys()
    return all(torch.allclose(ours[k].float(), theirs[k].float(), atol=2e-3) for k in ours)


def sharded_files(folder: Path) -> None:
    """Each process has written its half of what is learned; a fault in any file is found."""
    place = next(checkpoints.checkpoints(folder / "checkpoints"))
    assert not any((place / name).exists() for name in checkpoints.LEARNED)
    files = sorted((place / checkpoints.SHARDS).iterdir())
    sizes = [file.stat().st_size for file in files]
    assert len(sizes) == 2
    assert max(sizes) < 1.2 * min(sizes)
    assert checkpoints.damage(place) is None
    for file in files:
        good = file.read_bytes()
        for bad in (good[:-1], good[:-1] + bytes([good[-1] ^ 1]), b""):
            file.write_bytes(bad)
            assert checkpoints.damage(place) == f"{checkpoints.SHARDS}/{file.name} does not have its sha256"
        file.write_bytes(good)
        file.rename(place / "away")
        assert "is missing" in str(checkpoints.damage(place))
        (place / "away").rename(file)
    stray = place / checkpoints.SHARDS / "other.safetensors"  # would be read with the others
    stray.write_bytes(good)
    assert "other.safetensors is missing, or its sum is" in str(checkpoints.damage(place))
    stray.unlink()
    assert checkpoints.damage(place) is None


def parts(count: int, accumulate: int, step: int = 3) -> list[Part]:
    settings = Settings(**{**BASE, "batch_size": 12, "flips": True, "accumulate": accumulate})
    recipe = choose(settings, DIGITS)
    found = []
    for rank in range(count):
        batches = Batches(dataclasses.replace(recipe, device=torch.device("cpu"), processes=Processes(rank, count)))
        found += list(batches.parts(step))
    return found


@pytest.mark.parametrize(("count", "accumulate"), [(1, 3), (2, 1), (2, 3), (4, 1)])
def test_every_row_of_a_batch_is_the_same_however_it_is_cut(count: int, accumulate: int) -> None:
    (whole,) = parts(1, 1)
    cut = parts(count, accumulate)
    assert len(cut) == count * accumulate
    for key in ("x", "labels", "u", "noise", "condition"):
        assert torch.equal(getattr(whole, key), torch.cat([getattr(part, key) for part in cut])), key
    assert len({part.seed for part in cut}) == len(cut)
    other = parts(1, 1, step=4)[0]
    assert not torch.equal(whole.noise, other.noise)
    assert not torch.equal(whole.u, other.u)


def test_noise_is_normal_and_a_function_of_its_row() -> None:
    shape, total = (3, 40, 40), 64  # blocks of 13 rows
    assert 1 < BLOCK // (3 * 40 * 40) < 20
    whole = normals(shape, range(total), total, 5, torch.device("cpu"))
    assert abs(whole.mean()) < 0.01
    assert abs(whole.std() - 1) < 0.01
    assert len(torch.unique(whole[:, 0, 0, 0])) == total
    for rows in (range(1), range(12, 14), range(30, 60), range(63, 64)):
        assert torch.equal(normals(shape, rows, total, 5, torch.device("cpu")), whole[rows.start : rows.stop])


def test_two_processes_train_as_one_and_read_each_others_checkpoints(tmp_path: Path) -> None:
    kinds: dict[str, dict[str, Any]] = {
        "copied": {},
        "sharded": {"shard": True},
        "in parts": {"accumulate": 2, "flips": True},
    }
    jobs = [{**BASE, "out": str(tmp_path / kind), **changes} for kind, changes in kinds.items()]
    jobs += [
        {**BASE, "out": str(tmp_path / "stopped"), "save_every": 3, "stop_after": 3, "shard": True},
        {**BASE, "out": str(tmp_path / "stopped"), "save_every": 3, "stop_after": 5, "shard": True},
        {**BASE, "out": str(tmp_path / "stopped")},  # what was sharded goes on as copies
        {**BASE, "out": str(tmp_path / "poisoned"), "steps": 20, "poisoned": 1},
        {**BASE, "out": str(tmp_path / "uneven"), "batch_size": 9},
        {**BASE, "out": str(tmp_path / "taken")},
    ]
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "letter.txt").write_text("mine")
    first, second = launch(2, jobs)
    assert [losses for losses, _ in first] == [losses for losses, _ in second]
    for (kind, changes), (seen, said) in zip(kinds.items(), first[:3], strict=True):
        mine = alone(tmp_path / f"alone {kind}", **{**changes, "shard": False})
        assert said == ""
        assert np.abs(np.array(mine) - [loss for loss, _ in seen]).max() <= 1e-6, kind
        assert close(tensors(tmp_path / kind), tensors(tmp_path / f"alone {kind}"))
    unbroken = [loss for loss, _ in first[0][0]]
    broken = [loss for loss, _ in first[3][0] + first[5][0]]
    assert np.abs(np.array(unbroken) - broken).max() <= 1e-6
    assert first[4][0] == first[1][0][3:5]  # bit for bit where it stays sharded
    sharded_files(tmp_path / "sharded")
    assert len(alone(tmp_path / "sharded", steps=7)) == 1  # gone on with by one

    poisoned, told = first[6][1], second[6][1]  # one process alone saw what is not finite
    assert "10 steps in a row" in poisoned
    assert poisoned.startswith("Diverged")
    assert told.startswith("Reported")
    assert [skipped for _, skipped in first[6][0]] == list(range(1, 11))

    assert first[7][1].startswith("UsageError")
    assert "--batch-size 8" in first[7][1]

    assert "holds no run" in first[8][1]
    assert second[8][1] == first[8][1]

    two = tmp_path / "copied"  # a checkpoint of two, gone on with by one
    assert len(alone(two, steps=7)) == 1


@pytest.mark.slow
@pytest.mark.parametrize("shard", [False, True], ids=["copied", "sharded"])
def test_a_checkpoint_of_two_processes_goes_on_in_one_and_in_four(tmp_path: Path, shard: bool) -> None:
    whole = alone(tmp_path / "whole", steps=9)
    job = {**BASE, "out": str(tmp_path / "run"), "steps": 9, "save_every": 3}
    seen = [loss for loss, _ in launch(2, [{**job, "stop_after": 3, "shard": shard}])[0][0][0]]
    seen += [loss for loss, _ in launch(4, [{**job, "stop_after": 6, "shard": shard}])[0][0][0]]
    seen += alone(tmp_path / "run", steps=9, save_every=3)
    assert len(seen) == 9
    assert np.abs(np.array(whole) - seen).max() <= 2e-6
    assert close(tensors(tmp_path / "whole"), tensors(tmp_path / "run"))


@pytest.mark.slow
def test_a_flow_map_in_two_processes_is_that_of_one(tmp_path: Path) -> None:
    few = {"few_steps": "progressive", "steps": 4}
    whole = alone(tmp_path / "whole", **few)
    seen = launch(2, [{**BASE, **few, "out": str(tmp_path / "run")}])
    for losses, said in (rank[0] for rank in seen):
        assert said == ""
        assert np.abs(np.array(whole) - [loss for loss, _ in losses]).max() <= 2e-6
    assert close(tensors(tmp_path / "whole"), tensors(tmp_path / "run"))


@pytest.mark.slow
def test_sigterm_to_torchrun_saves_once_and_the_command_goes_on(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "ornstein", "train"]
    words += [
        "--data",
        "digits",
        "--out",
        str(tmp_path / "run"),
        "--preset",
        "tiny",
        "--batch-size",
        "4",
        "--samples",
        "0",
    ]
    with subprocess.Popen(
        [*words, "--steps", "100000"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "step" in line and "loss" in line:
                break
        process.send_signal(signal.SIGTERM)
        rest = process.stdout.read()
        assert process.wait(timeout=60) != 0
    assert rest.count("Saved at step") == 1, rest
    assert rest.count("Stopping after this step") == 1
    saved = [place.name for place in checkpoints.checkpoints(tmp_path / "run" / "checkpoints")]
    assert len(saved) == 1
    steps = int(saved[0].removeprefix("step-"))
    out = subprocess.run([*words, "--steps", str(steps + 2)], capture_output=True, text=True, timeout=500)
    assert out.returncode == 0, out.stderr
    assert f"Going on from step {steps:,}" in out.stdout
    assert out.stdout.count("The report page") == 1


@pytest.mark.parametrize(
    ("told", "says"),
    [
        ({"RANK": "0"}, "not WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT"),
        ({"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "x", "MASTER_PORT": "1"}, "not LOCAL_RANK"),
        (dict(zip(LAUNCHED, ("2", "2", "0", "2", "x", "1"), strict=True)), "RANK = 2 in the environment is not below"),
        (dict(zip(LAUNCHED, ("one", "2", "0", "2", "x", "1"), strict=True)), "RANK = 'one'"),
    ],
)
def test_an_environment_that_makes_no_sense_is_told(
    monkeypatch: pytest.MonkeyPatch, told: dict[str, str], says: str
) -> None:
    for name in LAUNCHED:
        monkeypatch.delenv(name, raising=False)
    assert environment() == ALONE
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=says):
        environment()


def test_a_process_that_has_not_joined_the_others_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in zip(LAUNCHED, ("1", "2", "1", "2", "x", "1"), strict=True):
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=r"within `with ornstein.processes.joined\(\):`"):
        current()


@pytest.mark.parametrize(
    ("count", "changes", "says"),
    [
        (1, {"shard": True}, "torchrun --nproc-per-node"),
        (3, {"batch_size": 8}, "--batch-size 9"),
        (2, {"batch_size": 8, "accumulate": 3}, "--batch-size 6"),
        (2, {"shard": True, "compile": True}, "not compiled"),
        (2, {"device": "mps"}, "one device for 2 processes"),
        (2, {"device": "cuda"}, "2 processes on a machine with"),
    ],
)
def test_settings_that_several_processes_cannot_have(count: int, changes: dict[str, Any], says: str) -> None:
    settings = dataclasses.replace(Settings(**BASE), **changes)
    if changes.get("device") == "cuda" and torch.cuda.device_count() >= 2:
        pytest.skip("there are GPUs for both")
    with pytest.raises(UsageError, match=says):
        choose(settings, DIGITS, Processes(0, count, 0, count))
