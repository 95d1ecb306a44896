"""Foreign models from anywhere (folders, pickles, graphs, configurations, tensors): nothing in them is run, one sentence each."""

import importlib.util
import json
import os
import pickle
import shutil
import struct
import zipfile
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

THERE = {name: importlib.util.find_spec(name) is not None for name in ("diffusers", "onnx", "onnxruntime")}
WEIGHTS = "diffusion_pytorch_model"
STRANGE: tuple[Any, ...] = (
    *(None, True, -1, 0, 1.5, 10**9, 10**30, float("nan"), float("inf"), "", "x", "../../x", "os.system", "9" * 400),
    *(
        [],
        {},
        [[]],
        [None],
        [1] * 1000,
        {"type": "os"},
        [10**12] * 3,
        ["DownBlock2D"] * 500,
        "/etc/passwd",
        "__import__('os')",
    ),
)
SCHEDULER = {
    "_class_name": "DDPMScheduler",
    "num_train_timesteps": 1000,
    "beta_schedule": "linear",
    "prediction_type": "epsilon",
}
Make = Callable[[Path, Random], list[str]]


class Trap:
    """What unpickling would run."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good folder of diffusers; without the library one of the same form."""
    place = tmp_path_factory.mktemp("theirs") / "unet"
    if THERE["diffusers"]:
        from diffusers import UNet2DModel

        blocks = {
            "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
            "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
        }
        sizes = {
            "sample_size": 8,
            "in_channels": 1,
            "out_channels": 1,
            "block_out_channels": (8, 8),
            "layers_per_block": 1,
        }
        UNet2DModel(**sizes, **blocks, norm_num_groups=4, attention_head_dim=4).save_pretrained(place)
    else:
        place.mkdir()
        (place / "config.json").write_text(
            json.dumps({"_class_name": "UNet2DModel", "in_channels": 1, "sample_size": 8})
        )
        save_file({"conv_in.weight": torch.zeros(8, 1, 3, 3)}, place / f"{WEIGHTS}.safetensors")
    (place / "scheduler").mkdir()
    (place / "scheduler" / "scheduler_config.json").write_text(json.dumps(SCHEDULER))
    return place


@pytest.fixture(scope="module")
def graph() -> Any:
    """Makes the bytes of a graph denoised = x·g(σ), of changed nodes and initializers; without the library, of no graph."""
    if not THERE["onnx"]:
        return lambda *_, **__: b"\x08\x08\x12\x07pytorch:\x00" * 20
    import onnx
    from onnx import TensorProto, helper

    def made(nodes: Any = None, initializers: Any = (), domains: Any = ("",)) -> bytes:
        nodes = nodes or [helper.make_node("Mul", ["x", "one"], ["y"])]
        one = helper.make_tensor("one", TensorProto.FLOAT, [1], [0.5])
        inputs = [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["b", 1, 4, 4]),
            helper.make_tensor_value_info("sigma", TensorProto.FLOAT, ["b"]),
        ]
        outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["b", 1, 4, 4])]
        about = helper.make_graph(nodes, "g", inputs, outputs, [one, *initializers])
        imports = [helper.make_opsetid(domain, 18) for domain in domains]
        return bytes(helper.make_model(about, opset_imports=imports, ir_version=9).SerializeToString())

    made.helper, made.kinds, made.onnx = helper, TensorProto, onnx  # type: ignore[attr-defined]
    return made


def spoiled(config: dict[str, Any], rng: Random) -> dict[str, Any]:
    """A configuration with some of its entries changed, gone or of another name."""
    config = deepcopy(config)
    for _ in range(rng.choice([1, 1, 2, 5])):
        key = rng.choice([*config, "_class_name", "extra"])
        match rng.randrange(5):
            case 0:
                config.pop(key, None)
            case 1:
                config[key] = [config.get(key)]
            case _:
                config[key] = deepcopy(rng.choice(STRANGE))
    return config


def damaged(content: bytes, rng: Random) -> bytes:
    """Bytes changed at the beginning, or anywhere, or cut."""
    changed = bytearray(content)
    for _ in range(rng.randrange(1, 9)):
        changed[rng.randrange(min(len(changed), rng.choice([64, 4000])))] = rng.randrange(256)
    return bytes(changed[: rng.randrange(len(changed))] if rng.random() < 0.3 else changed)


def test_hostile_models(tmp_path: Path, cases: Any, run: Any, memory: Any, folder: Path, graph: Any) -> None:
    mark = tmp_path / "ran"
    secret = tmp_path / "secret"
    secret.write_text("password")
    run(["import", str(folder), "--out", str(tmp_path / "warm")])  # imports what there is, before memory is short
    (tmp_path / "warm.onnx").write_bytes(graph())
    run(["import", str(tmp_path / "warm.onnx"), "--convention", "edm", "--out", str(tmp_path / "warm-onnx")])
    if all(THERE.values()):
        assert (tmp_path / "warm" / "model" / "config.json").is_file()
        assert (tmp_path / "warm-onnx" / "model" / "config.json").is_file()

    def copied(place: Path) -> Path:
        shutil.copytree(folder, place / "unet")
        return place / "unet"

    def rewritten(file: Path, value: Any) -> None:
        file.write_text(json.dumps(value))

    def configuration(place: Path, rng: Random) -> list[str]:
        file = copied(place) / "config.json"
        rewritten(file, spoiled(json.loads(file.read_text()), rng))
        return [str(file.parent)]

    def scheduler(place: Path, rng: Random) -> list[str]:
        file = copied(place) / "scheduler" / "scheduler_config.json"
        rewritten(file, spoiled(SCHEDULER, rng))
        return [str(file.parents[1])]

    def text(place: Path, rng: Random) -> list[str]:
        at = copied(place)
        names = [
            "config.json",
            "model_index.json",
            f"{WEIGHTS}.safetensors.index.json",
            "scheduler/scheduler_config.json",
        ]
        content = rng.choice(
            [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000, b'{"weight_map": {"a": "../secret"}}', b'{"unet": 1}']
        )
        (at / rng.choice(names)).write_bytes(content)
        return [str(at)]

    def weights(place: Path, rng: Random) -> list[str]:
        file = copied(place) / f"{WEIGHTS}.safetensors"
        good = file.read_bytes()
        (length,) = struct.unpack("<Q", good[:8])
        head = json.loads(good[8 : 8 + length])
        match rng.randrange(3):
            case 0:
                file.write_bytes(damaged(good, rng))
            case 1:
                key = rng.choice([name for name in head if name != "__metadata__"])
                head[key][rng.choice(["shape", "dtype", "data_offsets"])] = deepcopy(rng.choice(STRANGE))
                new = json.dumps(head).encode()
                file.write_bytes(struct.pack("<Q", len(new)) + new + good[8 + length :])
            case _:
                file.write_bytes(struct.pack("<Q", rng.choice([0, 2**63, 2**64 - 1, 10**9])) + good[8:])
        return [str(file.parent)]

    def pickled(place: Path, rng: Random) -> list[str]:
        at = copied(place)
        (at / f"{WEIGHTS}.safetensors").unlink()
        trap = rng.choice([Trap(mark), {"conv_in.weight": Trap(mark)}, [Trap(mark)]])
        file = at / rng.choice([f"{WEIGHTS}.bin", f"{WEIGHTS}.safetensors", f"{WEIGHTS}.bin", "model.pkl"])
        match rng.randrange(4):
            case 0:
                file.write_bytes(pickle.dumps(trap))
            case 1:
                torch.save(trap, file)
            case 2:
                torch.save({"conv_in.weight": torch.zeros(10, 1).expand(10, 10**9)}, file)
            case _:
                with zipfile.ZipFile(file, "w", rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])) as archive:
                    archive.writestr("archive/data.pkl", pickle.dumps(trap, 2))
                    archive.writestr("archive/version", "3\n")
                    archive.writestr("archive/data/0", bytes(1 << 24))
        return [str(at)]

    def places(place: Path, rng: Random) -> list[str]:
        at = copied(place)
        file = at / rng.choice(["config.json", f"{WEIGHTS}.safetensors", "scheduler/scheduler_config.json"])
        file.unlink()
        match rng.randrange(4):
            case 0:
                file.symlink_to(secret)
            case 1:
                file.mkdir()
            case 2:
                os.mkfifo(file)
            case _:
                file.symlink_to("/dev/zero")
        return [str(at)]

    def single(place: Path, rng: Random) -> list[str]:
        file = (
            place
            / f"model{rng.choice(['.pkl', '.pt', '.pth', '.ckpt', '.bin', '.onnx', '.safetensors', '.zip', '.py', ''])}"
        )
        file.write_bytes(rng.choice([pickle.dumps(Trap(mark)), b"", b"import os; os.mkdir('ran')", rng.randbytes(99)]))
        return [
            str(file),
            "--convention",
            rng.choice(["edm", "sit", "edm:nan", "edm:0", "edm-raw:-1", "flow:1e400", "os", "edm:1,2,3"]),
        ]

    def operators(place: Path, rng: Random) -> list[str]:
        file = place / "model.onnx"
        if not THERE["onnx"] or rng.random() < 0.5:
            file.write_bytes(damaged(graph(), rng))
            return [str(file), "--convention", "edm"]
        helper, kinds = graph.helper, graph.kinds
        outside = kinds(name="w", data_type=kinds.FLOAT, dims=[4], data_location=kinds.EXTERNAL)
        outside.external_data.add(key="location", value=rng.choice(["../secret", "/etc/passwd", "w.bin"]))
        huge = helper.make_tensor("big", kinds.INT64, [4], [10**6] * 4)
        content = rng.choice(
            [
                graph([helper.make_node("Add", ["x", "w"], ["y"])], [outside]),
                graph([helper.make_node("Run", ["x"], ["y"], domain="evil")], (), ("", "evil")),
                graph(
                    [helper.make_node("ConstantOfShape", ["big"], ["c"]), helper.make_node("Add", ["x", "c"], ["y"])],
                    [huge],
                ),
                graph([helper.make_node("Log", ["m"], ["y"]), helper.make_node("Sub", ["one", "x"], ["m"])]),
                graph([helper.make_node("Shape", ["x"], ["y"])]),
                graph([helper.make_node("Mul", ["x", "one"], ["z"])]),
            ]
        )
        file.write_bytes(content)
        return [str(file), "--convention", "edm"]

    def inputs(place: Path, rng: Random) -> list[str]:
        file = place / "prompt.safetensors"
        file.write_bytes(rng.choice([pickle.dumps(Trap(mark)), b"", rng.randbytes(80)]))
        bind = rng.choice([str(file), "a=b", "=1", "sigma=1e999", "x=1", f"{secret}=1", "a" * 5000 + "=1", str(secret)])
        return [str(tmp_path / "warm.onnx"), "--convention", "edm", rng.choice(["--bind", "--away"]), bind]

    def flags(place: Path, rng: Random) -> list[str]:
        flag = rng.choice(["--range", "--size", "--channels", "--classes", "--scheduler", "--guidance"])
        value = rng.choice(
            ["0", "-1", "nan", "1,2", "2,1", "inf,1", "10000000000", "a,b", "+1", "1e9,2e9", str(secret), "/dev/zero"]
        )
        return [rng.choice([str(folder), str(tmp_path / "warm.onnx")]), f"{flag}={value}"]

    makers: list[Make] = [
        configuration, scheduler, text, weights, pickled, places, single, operators, inputs, flags, pickled, configuration,
    ]  # fmt: skip
    refused = 0
    with memory(2 << 30):
        for number, rng in enumerate(cases(60, 600)):
            place = tmp_path / f"case-{number}"
            place.mkdir()
            words = makers[number % len(makers)](place, rng)
            done = run(["import", *words, "--out", str(place / "run")])
            assert done.code in (0, 1, 2), done
            assert done.sentence.isprintable(), done
            assert not mark.exists(), done
            assert (place / "run").exists() == (done.code == 0), done
            refused += done.code != 0
            shutil.rmtree(place)
    assert refused > number / 2


def test_hostile_runs_that_refer_to_models(tmp_path: Path, cases: Any, run: Any, folder: Path) -> None:
    """RUN/model/config.json from anywhere, which names files."""
    good = {
        "format": 3,
        "network": {
            "type": "UNet2DModel",
            "imported": {"kind": "diffusers", "place": str(folder), "files": {}, "choices": {}, "inputs": None},
        },
        "data": {},
    }
    file = tmp_path / "run" / "model" / "config.json"
    file.parent.mkdir(parents=True)
    np.save(tmp_path / "x.npy", np.zeros((1, 8, 8), np.float32))
    for number, rng in enumerate(cases(8, 100)):
        changed = deepcopy(good)
        changed["network"]["imported"] = spoiled(good["network"]["imported"], rng)  # type: ignore[index]
        file.write_text(json.dumps(changed))
        done = run([("sample", "info", "likelihood", "clean")[number % 4], str(tmp_path / "run")])
        assert done.code in (0, 1, 2), done
