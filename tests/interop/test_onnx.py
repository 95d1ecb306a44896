"""ONNX files as networks: hostile ones are refused in a sentence, and a published model answers as by onnxruntime alone."""

import pickle
import random
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ornstein import interop, path, sample, target
from ornstein.errors import OrnsteinError, UsageError
from ornstein.interop.convention import Convention, NoiseClock
from ornstein.interop.onnx import ONNXNetwork

TERRAIN = "weights/terrain_consistency_unet_difficulty100.onnx"


class Entry:
    def __init__(self, name: str, kind: str = "tensor(float)") -> None:
        self.name, self.type = name, kind


class Session:
    """The interface of onnxruntime's session, around numpy."""

    def __init__(self, *inputs: Entry) -> None:
        self.inputs, self.seen = inputs, dict[str, Any]()

    def get_inputs(self) -> list[Entry]:
        return list(self.inputs)

    def run(self, _: None, feed: dict[str, Any]) -> list[Any]:
        self.seen = feed
        return [0.5 * feed["noisy"]]


CONVENTION = Convention(path.EDM(), target.Clean(), NoiseClock())


def test_inputs_go_by_name_in_the_types_of_the_graph() -> None:
    session = Session(Entry("noisy"), Entry("sigma"), Entry("label", "tensor(int64)"))
    model = interop.onnx.denoiser(session, CONVENTION)
    x = torch.randn(3, 2, dtype=torch.float64)
    clean = model.given({"label": torch.tensor([1, 2, 0])})(x, 1.0).clean
    assert clean.dtype == torch.float64
    assert torch.allclose(clean, 0.5 * x, atol=1e-6)
    assert session.seen["noisy"].dtype == np.float32
    assert session.seen["label"].dtype == np.int64
    assert (session.seen["sigma"] == 80).all()
    with pytest.raises(ValueError, match="also takes label"):
        model(x, 1.0)
    with pytest.raises(ValueError, match="and not class"):
        model.given({"label": torch.tensor([1, 2, 0]), "class": x})(x, 1.0)
    with pytest.raises(UsageError, match="no network of x and a time"):
        ONNXNetwork(Session(Entry("x")))
    with pytest.raises(UsageError, match=r"tensor\(string\)"):
        ONNXNetwork(Session(Entry("x"), Entry("t", "tensor(string)")))


class Bomb:
    """Marks that it was run."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return (Path.touch, (self.file,))


@pytest.mark.parametrize("ending", [".pkl", ".pt", ".ckpt", ".bin", ".pth", ".zip", ".onnx"])
def test_what_may_hold_code_is_never_run(ending: str, tmp_path: Path) -> None:
    file, mark = tmp_path / f"model{ending}", tmp_path / "ran"
    file.write_bytes(pickle.dumps(Bomb(mark)))
    with pytest.raises(OrnsteinError) as error:
        interop.onnx.denoiser(file, CONVENTION)
    assert "\n" not in str(error.value)
    assert not mark.exists()


def sentence_of(file: Path) -> str | None:
    """What a file is refused with; None where it is read."""
    try:
        interop.onnx.denoiser(file, CONVENTION)
    except OrnsteinError as error:
        return str(error)
    return None


@pytest.mark.parametrize("cases", [20, pytest.param(500, marks=pytest.mark.slow)])
def test_damaged_files_are_refused_in_a_sentence(cases: int, tmp_path: Path) -> None:
    onnx, runtime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    made = onnx.helper.make_model(
        onnx.helper.make_graph(
            [onnx.helper.make_node("Add", ["x", "t"], ["y"])],
            "g",
            [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, ["b"]) for n in ("x", "t")],
            [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["b"])],
        ),
        opset_imports=[onnx.helper.make_opsetid("", 18)],
        ir_version=9,
    ).SerializeToString()
    assert runtime.InferenceSession(made).get_inputs()
    file, draw, refused = tmp_path / "damaged.onnx", random.Random(0), 0
    for _ in range(cases):
        content = bytearray(made)
        for _ in range(draw.randint(1, 8)):
            content[draw.randrange(len(content))] = draw.randrange(256)
        file.write_bytes(bytes(content[: draw.randint(0, len(content))]))
        said = sentence_of(file)
        refused += said is not None
        assert said is None or "\n" not in said
    assert refused > cases / 2


def test_a_published_few_step_model_answers_as_by_onnxruntime_alone() -> None:
    pytest.importorskip("terrain_diffusion")
    runtime = pytest.importorskip("onnxruntime")
    file = Path(str(files("terrain_diffusion").joinpath(TERRAIN)))
    x, level = 80 * torch.randn(1, 1, 128, 128), torch.tensor([0.5])
    model = interop.onnx.denoiser(file, CONVENTION).given({"difficulty": level})
    feed = {"noisy": x.numpy(), "sigma": np.array([80.0], np.float32), "difficulty": level.numpy()}
    (plain,) = runtime.InferenceSession(str(file)).run(None, feed)
    assert torch.equal(model(x, 1.0).clean, torch.from_numpy(plain))
    assert torch.equal(sample(model, start=x, solver="ddim", steps=1), torch.from_numpy(plain))
