"""`ornstein export`: a run leaves as a file that is used without it, and what cannot leave is refused in a sentence."""

import json
from pathlib import Path

import pytest
from safetensors import safe_open

from ornstein.cli import main


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("export") / "moons"
    assert main(["train", "--data", "moons", "--out", str(place), "--steps", "2", "--batch-size", "8"]) == 0
    return place


def test_a_file_of_weights_with_its_sampler(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "moons.safetensors"
    words = ["export", str(run), "--to", "safetensors", "--out", str(file), "--guidance", "2", "--steps", "7"]
    assert main(words) == 0
    assert str(file) in capsys.readouterr().out
    with safe_open(file, "pt") as stream:
        loop = json.loads(stream.metadata()["loop"])
    assert loop["calls"]["scale"] == [2.0] * 7
    assert loop["inputs"][0]["classes"] == ["upper", "lower"] or len(loop["inputs"][0]["classes"]) == 2
    assert main(words) == 0
    assert main([*words, "--solver", "heun"]) == 2
    assert "other flags" in capsys.readouterr().err
    assert main([*words, "--solver", "heun", "--force"]) == 0


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--to", "onx", "--out", "a.onnx"], "did you mean 'onnx'"),
        (["--to", "onnx"], "needs a place to write to"),
        (["--to", "onnx", "--out", "a.pt"], "is a .onnx file"),
        (["--to", "diffusers", "--out", "a"], "pipelines of diffusers make images"),
        (["--to", "torch", "--out", "a.pt2", "--solver", "ode"], "is no table"),
        (["--to", "torch", "--out", "a.pt2", "--solver", "jump"], "few-step runs"),
        (["--to", "torch", "--out", "a.pt2", "--guidance", "2", "--guidance-method", "apg"], "needs more"),
        (["--to", "torch", "--out", "a.pt2", "--steps", "0"], "too small"),
    ],
)
def test_what_cannot_leave(run: Path, words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(run), *words]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert sentence in line
