"""Runs that refer to another library's model: all that a run does, refused where a foreign file has changed.

The graph is an exact Gaussian for each class, in numpy behind onnxruntime's interface; tests/peers has the real ones.
"""

import io
import json
import os
import pickle
import sys
from contextlib import redirect_stderr, redirect_stdout
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import ornstein
from ornstein import interop
from ornstein.cli import main
from ornstein.errors import OrnsteinError, UsageError
from ornstein.learn import start_from
from ornstein.runs.imported import Choices, take

SPREAD, MEANS = 0.15, np.array([-0.6, 0.0, 0.6, 0.0], np.float32)  # of the data, whose last class is none of the three


class Session:
    """Three classes of images, each a Gaussian; `gain` multiplies what is answered."""

    def __init__(self, content: bytes, *_: Any, **__: Any) -> None:
        if not content.startswith(b"graph"):
            raise RuntimeError("[ONNXRuntimeError] : 7 : INVALID_PROTOBUF")

    def get_inputs(self) -> list[SimpleNamespace]:
        kinds = {"noisy": ["batch", 1, 4, 4], "sigma": ["batch"], "label": ["batch"], "gain": ["batch"]}
        types = {name: "tensor(int64)" if name == "label" else "tensor(float)" for name in kinds}
        return [SimpleNamespace(name=name, type=types[name], shape=shape) for name, shape in kinds.items()]

    def run(self, _: None, feed: dict[str, Any]) -> list[Any]:
        if feed["noisy"].shape[1:] != (1, 4, 4):
            raise RuntimeError("[ONNXRuntimeError] : 2 : INVALID_ARGUMENT : Got invalid dimensions for input: noisy")
        sigma, mean, gain = (
            value.reshape(-1, 1, 1, 1) for value in (feed["sigma"], MEANS[feed["label"]], feed["gain"])
        )
        share = SPREAD**2 / (SPREAD**2 + sigma**2)
        return [(gain * (mean + share * (feed["noisy"] - mean))).astype(np.float32)]


class Options(SimpleNamespace):
    def add_session_config_entry(self, *_: str) -> None: ...


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    runtime = ModuleType("onnxruntime")
    runtime.__spec__ = ModuleSpec("onnxruntime", None)
    runtime.__dict__.update(InferenceSession=Session, SessionOptions=Options)
    monkeypatch.setitem(sys.modules, "onnxruntime", runtime)
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "theirs.onnx"
    file.write_bytes(b"graph of three classes")
    return file


def said(*words: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main(list(words))
    assert "unexpected" not in err.getvalue()
    return code, out.getvalue(), err.getvalue()


IMPORT = (
    "import",
    "theirs.onnx",
    "--convention",
    "edm",
    "--classes",
    "a,b,c+1",
    "--bind",
    "gain=1",
    "--range",
    "0,255",
)


def imported() -> ornstein.runs.Run:
    code, _, err = said(*IMPORT, "--out", "run")
    assert (code, err) == (0, "")
    return ornstein.load("run")


def test_a_foreign_model_samples_like_a_run(model: Path) -> None:
    run = imported()
    assert (run.spec.shape, run.spec.dtype, run.spec.classes) == ((1, 4, 4), "uint8", ("a", "b", "c"))
    made = run.sample(400, label="c", steps=10)
    assert made.shape == (400, 4, 4, 1)
    assert made.dtype == np.uint8
    assert abs(made.mean() / 127.5 - 1 - 0.6) < 0.03
    assert abs(made.std() / 127.5 - SPREAD) < 0.08  # clipped at the ends
    network = {"label": torch.tensor([2, 2]), "gain": torch.ones(2)}
    plain = interop.onnx.denoiser(model, interop.edm.convention()).given(network)
    x = 80 * torch.randn(2, 1, 4, 4)
    assert torch.equal(plain(x, 1.0).clean, run.denoiser.given(network["label"])(x, 1.0).clean)


def test_every_command_takes_it(model: Path) -> None:
    imported()
    np.save("real.npy", np.random.default_rng(0).integers(0, 256, (300, 4, 4, 1), dtype=np.uint8))
    np.save("labels.npy", np.arange(300) % 3)
    np.savez("labelled.npz", images=np.load("real.npy"), labels=np.array(["a", "b", "c"])[np.load("labels.npy")])
    ornstein.load("run").sample(1)
    lines = (
        "info run",
        "sample run -n 4 --steps 4 --label b --guidance 2 --out s.npz",
        "sample run -n 3 --steps 4 --out grid.png",
        "edit run real.npy --strength 0.5 --steps 4 --label a --out edited.npz",
        "interpolate run one.npy two.npy --steps 4 --frames 3 --label a --out between.npz",
        "restore run one.npy --operator blur --method diffpir --steps 4 --label a --out restored.npz",
        "evaluate run --data labelled.npz -n 100 --metrics kid --steps 4",
        "compare run --data labelled.npz -n 256 --steps 2 --metrics frechet --out compare.png",
        "likelihood run --data labelled.npz -n 4 --method elbo",
        "clean run --dry-run",
    )
    np.save("one.npy", np.load("real.npy")[0])
    np.save("two.npy", np.load("real.npy")[1])
    for line in lines:
        code, _, err = said(*line.split())
        sentences = [part for part in err.splitlines() if part.startswith("ornstein:")]
        assert (code, sentences) == (0, []), line


def test_what_needs_derivatives_is_refused_in_a_sentence(model: Path) -> None:
    run = imported()
    items = run.sample(4, label="a", steps=4)
    with pytest.raises(UsageError, match="no derivatives"):
        run.log_prob(items, label="a", steps=8)
    with pytest.raises(UsageError, match="no derivatives"):
        run.tune(2, seconds=30)
    labels = np.array(["a", "b", "c"])[np.arange(100) % 3]
    np.savez("real.npz", images=run.sample(100, label=[*labels], steps=2), labels=labels)
    code, _, err = said("diagnose", "run", "--data", "real.npz", "-n", "100", "--levels", "3")
    assert (code, "no derivatives" in err) == (2, True), err


def test_a_foreign_file_that_changed_or_went_is_refused_in_one_sentence(model: Path) -> None:
    imported()
    old = model.read_bytes()
    model.write_bytes(old + b"!")
    code, out, err = said("sample", "run")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "has changed since it was imported" in err
    assert "has changed" in said("info", "run")[1]
    os.unlink(model)
    code, _, err = said("sample", "run")
    assert (code, err.count("\n")) == (1, 1)
    assert "is missing, which run refers to" in err
    assert "is missing" in said("info", "run")[1]
    model.write_bytes(old)
    assert said("sample", "run", "-n", "2", "--steps", "2", "--out", "s.npz")[0] == 0


def test_a_foreign_model_is_not_exported_or_trained_on(model: Path) -> None:
    run = imported()
    for words in (("onnx", "a.onnx"), ("torch", "a.pt2"), ("safetensors", "a.safetensors"), ("diffusers", "a")):
        code, _, err = said("export", "run", "--to", words[0], "--out", words[1])
        assert (code, "imported model, which is not exported" in err) == (2, True)
        assert not Path(words[1]).exists()
    with pytest.raises(UsageError, match="imported model, which is not trained"):
        start_from(run, run.model.network, print)


def test_the_same_import_again_changes_nothing_and_another_is_refused(model: Path) -> None:
    imported()
    before = {file: file.read_bytes() for file in Path("run").rglob("*") if file.is_file()}
    assert said(*IMPORT, "--out", "run")[0] == 0
    code, _, err = said(*IMPORT[:-1], "0,1", "--out", "run")
    assert code == 2
    assert "is not empty" in err
    assert {file: file.read_bytes() for file in Path("run").rglob("*") if file.is_file()} == before


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("theirs.onnx",), "import needs --out"),
        ((), "import needs a folder of diffusers or an .onnx file"),
        (("theirs.onnx", "--out", "r"), "nothing says how it is called and what it predicts"),
        (("theirs.onnx", "--out", "r", "--convention", "emd"), "did you mean 'edm'"),
        (("theirs.onnx", "--out", "r", "--convention", "edm:x"), "describes none"),
        (("theirs.onnx", "--out", "r", "--convention", "edm"), "also takes gain"),
        (("theirs.onnx", "--out", "r", "--convention", "edm", "--bind", "gain=1"), "give --classes"),
        ((*IMPORT[1:], "--out", "r", "--size", "8"), "cannot be called on items of shape"),
        ((*IMPORT[1:], "--out", "r", "--channels", "3"), "takes 1; leave it out"),
        ((*IMPORT[1:], "--out", "r", "--range", "5,5"), "must rise"),
        ((*IMPORT[1:], "--out", "r", "--bind", "gain"), "no NAME=NUMBER"),
        ((*IMPORT[1:], "--out", "r", "--bind", "gain=1,pain=2"), "has no input 'pain'"),
        ((*IMPORT[1:], "--out", "r", "--guidance", "2"), "give both, or neither"),
        (("nothing.onnx", "--out", "r"), "is not there"),
        (("theirs.pkl", "--out", "r"), "may hold code, which is not run here: load it in your own process"),
        (("folder", "--out", "r"), "is no folder of diffusers"),
        (("text.txt", "--out", "r"), "no .onnx file"),
    ],
)
def test_wrong_flags_are_a_sentence(words: tuple[str, ...], sentence: str, model: Path) -> None:
    Path("folder").mkdir()
    Path("text.txt").touch()
    Path("theirs.pkl").write_bytes(pickle.dumps({}))
    code, out, err = said("import", *words)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert sentence in err
    assert not Path("r").exists()


def test_a_run_that_is_not_trained_here_is_not_trained_on(model: Path) -> None:
    run = imported()
    lines = (
        "distil run --out few --steps 2",
        "reflow run --out few --steps 2",
        "export run --to safetensors --out a.safetensors",
    )
    for line in lines:
        code, _, err = said(*line.split())
        assert (code, err.count("\n")) == (2, 1)
    with pytest.raises(UsageError):
        run.push_to_hub("user/name", license="mit")


def test_files_that_say_something_else_are_refused(model: Path) -> None:
    imported()
    file = Path("run/model/config.json")
    good = json.loads(file.read_text())
    for key, value in (
        ("kind", "pickle"),
        ("place", 3),
        ("files", []),
        ("choices", {"shell": "rm"}),
        ("inputs", "0" * 64),
    ):
        changed = json.loads(json.dumps(good))
        changed["network"]["imported"][key] = value
        file.write_text(json.dumps(changed))
        with pytest.raises(OrnsteinError) as error:
            ornstein.load("run")
        assert "\n" not in str(error.value)


def test_in_python(model: Path) -> None:
    choices = Choices(convention="edm", classes=3, scale=(-1.0, 1.0), guidance=3.0)
    inputs = {"gain": torch.ones(1), "away.gain": torch.zeros(1)}
    run = take(model, "run", choices, inputs)
    x = torch.randn(2, 1, 4, 4)
    plain = take(model, "plain", Choices(convention="edm", classes=3, scale=(-1.0, 1.0)), {"gain": torch.ones(1)})
    label = torch.tensor([0, 1])
    assert torch.allclose(run.denoiser.given(label)(x, 0.1).clean, 3 * plain.denoiser.given(label)(x, 0.1).clean)
    assert run.sample(2, steps=2, label=1).dtype == np.float32
    with pytest.raises(UsageError, match="no place for none of them"):
        plain.denoiser(x, 0.1)
