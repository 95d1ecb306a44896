"""Model files from anywhere: nothing in them is run, no memory is taken that their weights do not fill, one sentence."""

import json
import os
import pickle
import shutil
import struct
import zipfile
from copy import deepcopy
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch

import ornstein
from ornstein.errors import OrnsteinError

STRANGE: tuple[Any, ...] = (
    *(
        None,
        True,
        -1,
        0,
        1.5,
        10**12,
        10**30,
        float("nan"),
        float("inf"),
        -0.0,
        "",
        "x",
        "9" * 400,
        [],
        {},
        [[]],
        [None],
    ),
    *(
        [1] * 1000,
        {"type": "os"},
        {"type": "Path"},
        {"type": "Linear"},
        {"type": "nn"},
        [1e308] * 3,
        ["a"],
        [10**12] * 3,
        2**31,
        -(2**63),
    ),
)


@pytest.fixture
def copy(trained: Path, tmp_path: Path) -> Path:
    """A run whose model may be broken."""
    shutil.copytree(trained / "model", tmp_path / "run" / "model")
    for name in ("config.yaml", "metrics.jsonl"):
        shutil.copyfile(trained / name, tmp_path / "run" / name)
    return tmp_path / "run"


class Trap:
    """What unpickling would run."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


def opened(folder: Path) -> ornstein.runs.Run | None:
    """The run and two of its samples; None where a sentence refused it."""
    try:
        run = ornstein.load(folder)
        run.sample(2, steps=2)
        return run
    except OrnsteinError:
        return None


def places(value: Any) -> list[tuple[Any, Any]]:
    """All (container, key) in nested lists and dictionaries."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else []
    return [(value, key) for key in keys] + [place for key in keys for place in places(value[key])]


def spoiled(config: dict[str, Any], rng: Random) -> dict[str, Any]:
    config = deepcopy(config)
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        where, key = rng.choice(places(config))
        match rng.randrange(6):
            case 0:
                del where[key]
            case 1:
                where[key] = [where[key]]
            case 2 if isinstance(where, dict):
                where[rng.choice(["type", "width", "extra", "", "__class__"])] = where.pop(key)
            case _:
                where[key] = deepcopy(rng.choice(STRANGE))
        if not places(config):
            break
    return config


def test_a_hostile_config(copy: Path, cases: Any, memory: Any, run: Any) -> None:
    file = copy / "model" / "config.json"
    good = json.loads(file.read_text())
    with memory(1 << 30):
        for number, rng in enumerate(cases(90, 9000)):
            file.write_text(json.dumps(spoiled(good, rng)))
            found = opened(copy)
            if number % 4 == 0:
                done = run(["info", str(copy)])
                assert done.code in (0, 1) if found is None else done.code == 0


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -0.5])
def test_a_dropout_that_is_no_probability(copy: Path, number: float) -> None:
    file = copy / "model" / "config.json"
    config = json.loads(file.read_text())
    config["network"]["dropout"] = number
    file.write_text(json.dumps(config))
    assert opened(copy) is None


@pytest.mark.parametrize("number", [10**30, 10**300, 10**400, -1])
@pytest.mark.parametrize("key", ["data_std", "low", "high"])
def test_whole_numbers_of_any_size(copy: Path, key: str, number: int) -> None:
    """Read as the numbers they are, or refused in a sentence."""
    file = copy / "model" / "config.json"
    config = json.loads(file.read_text())
    config["data"][key] = number
    file.write_text(json.dumps(config))
    refused = number > 1e100 or (key, number) in (("data_std", -1), ("low", 10**30))
    assert (opened(copy) is None) == refused


@pytest.mark.parametrize(
    "network",
    [
        {"type": "UNet", "channels": 3, "width": 10**6},
        {"type": "UNet", "channels": 3, "dims": 1, "width": 10**5, "fourier": 1.0},
        {"type": "UNet", "channels": 3, "dims": 1, "multipliers": [1] * 100_000},
        {"type": "UNet", "channels": 3, "dims": 1, "width": 8, "blocks": 100_000_000},
        {"type": "MLP", "dim": 3, "depth": 100_000},
        {"type": "MLP", "dim": 3, "width": 10**12},
        {"type": "MLP", "dim": 3, "classes": 10**11},
        {"type": "DiT", "channels": 3, "size": [], "width": 10**6, "depth": 10**9, "heads": 1, "patch": 1},
    ],
    ids=lambda network: f"{network['type']}-{list(network)[-1]}",
)
def test_a_network_of_a_trillion_parameters_takes_no_memory(copy: Path, memory: Any, network: dict[str, Any]) -> None:
    file = copy / "model" / "config.json"
    good = json.loads(file.read_text())
    if network["type"] == "UNet":
        good["data"] |= {
            "kind": "image",
            "shape": [3, 8, 8],
            "mean": [],
            "std": [],
            "dtype": "uint8",
            "low": 0.0,
            "high": 255.0,
        }
        network = {"dims": 2, **network}
    file.write_text(json.dumps({**good, "network": network}))
    with memory(256 << 20), pytest.raises(OrnsteinError, match=r"config\.json"):
        ornstein.load(copy)


def header(weights: bytes) -> tuple[dict[str, Any], bytes]:
    (length,) = struct.unpack("<Q", weights[:8])
    return json.loads(weights[8 : 8 + length]), weights[8 + length :]


def test_hostile_weights(copy: Path, cases: Any, memory: Any, run: Any) -> None:
    """Bytes and headers changed at random: read where they still hold the network, refused otherwise."""
    file = copy / "model" / "model.safetensors"
    good = file.read_bytes()
    about, data = header(good)
    with memory(1 << 30):
        for number, rng in enumerate(cases(80, 9000)):
            match rng.randrange(5):
                case 0:
                    content = bytearray(good)
                    for _ in range(rng.randrange(1, 9)):
                        content[rng.randrange(min(len(content), 4000))] = rng.randrange(256)
                case 1:
                    content = bytearray(good[: rng.randrange(len(good))])
                case 2:
                    content = bytearray(
                        struct.pack("<Q", rng.choice([0, 1, 2**63, 2**64 - 1, 10**9, len(good)])) + good[8:]
                    )
                case 3:
                    content = bytearray(rng.randbytes(rng.randrange(200)))
                case _:
                    changed = spoiled(about, rng)
                    text = json.dumps(changed).encode()
                    content = bytearray(struct.pack("<Q", len(text)) + text + data)
            file.write_bytes(content)
            opened(copy)
            if number % 4 == 0:
                assert run(["info", str(copy)]).code in (0, 1)


def test_hostile_solvers(copy: Path, cases: Any, memory: Any, run: Any) -> None:
    trained = ornstein.load(copy)
    trained.tune(2, seconds=0.01, starts=48, teacher=4)
    (file,) = (copy / "tuned").iterdir()
    good = json.loads(file.read_text())
    used = 0
    with memory(1 << 30):
        for rng in cases(30, 2000):
            file.write_text(json.dumps(spoiled(good, rng)))
            try:
                solver = trained.tuned(2)
            except OrnsteinError:
                continue
            assert np.isfinite(trained.sample(2, solver=solver, steps=2)).all()
            used += 1
    assert used  # what is not looked at may be anything
    file.write_text(json.dumps(good))
    shutil.copyfile(file, file.with_name("steps-3.json"))
    done = run(["sample", str(copy), "--solver", "tuned", "--steps", "3", "--out", str(copy / "x.npz")])
    assert done.code == 1
    assert "steps-3.json" in done.sentence


def test_nothing_is_unpickled(copy: Path, tmp_path: Path, run: Any) -> None:
    mark = tmp_path / "executed"
    weights, npz = copy / "model" / "model.safetensors", tmp_path / "x.npz"
    torch.save({"a": Trap(mark)}, weights)
    assert opened(copy) is None
    weights.write_bytes(pickle.dumps(Trap(mark)))
    assert opened(copy) is None
    (copy / "model" / "config.json").write_bytes(pickle.dumps(Trap(mark)))
    assert opened(copy) is None
    np.savez(npz, x=np.array([Trap(mark)], dtype=object))
    for source in (npz, tmp_path / "x.npy"):
        np.save(tmp_path / "x.npy", np.array([Trap(mark)], dtype=object))
        assert run(["train", "--data", str(source), "--out", str(tmp_path / "new"), "--dry-run"]).code in (1, 2)
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("a.png", pickle.dumps(Trap(mark)))
    assert run(["train", "--data", str(tmp_path / "x.zip"), "--out", str(tmp_path / "new"), "--dry-run"]).code == 1
    assert not mark.exists()
    pickle.loads(pickle.dumps(Trap(mark)))  # the trap works
    assert mark.exists()


ELSE = (
    *(b"", b"[", b"[" * 100_000, b"5", b"null", b'{"a":' * 50_000, b"\xff", b"{}", b"9" * 10_000),
    b" " * (65 << 20),
)


@pytest.mark.parametrize(
    "name",
    ["model/config.json", "model/model.safetensors", "tuned/steps-2.json", "config.yaml", "metrics.jsonl"],
)
def test_files_of_something_else(copy: Path, run: Any, memory: Any, name: str) -> None:
    (copy / name).parent.mkdir(exist_ok=True)
    for content in ELSE:
        (copy / name).write_bytes(content)
        with memory(1 << 30):
            assert run(["info", str(copy)]).code in (0, 1)
            done = run(["sample", str(copy), "--solver", "tuned", "--steps", "2", "--out", str(copy / "x.npz")])
        assert done.code in (1, 2)


def test_pipes_and_folders_in_the_place_of_files(copy: Path, run: Any) -> None:
    for name in ("model/config.json", "model/model.safetensors", "tuned/steps-2.json", "config.yaml"):
        kept = (copy / name).read_bytes() if (copy / name).exists() else None
        (copy / name).parent.mkdir(exist_ok=True)
        for make, remove in ((os.mkfifo, os.unlink), (os.mkdir, os.rmdir)):
            (copy / name).unlink(missing_ok=True)
            make(copy / name)
            assert run(["info", str(copy)]).code in (0, 1)
            assert run(["sample", str(copy), "--solver", "tuned", "--steps", "2"]).code in (1, 2)
            remove(copy / name)
        if kept is not None:
            (copy / name).write_bytes(kept)
