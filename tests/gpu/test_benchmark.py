"""The benchmark of a GPU at tiny sizes on the CPU: every part writes its results, and where there is no GPU it says so."""

import importlib
import json
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(ROOT))
    return importlib.import_module("benchmarks.gpu")


@pytest.mark.parametrize("part", ["training", "sampling", "overhead", "evaluation"])
def test_each_part_runs_and_writes_its_results(gpu, part, tmp_path, capsys):
    with torch.compiler.set_stance("force_eager"):  # tracing takes seconds
        assert gpu.main([part, "--device", "cpu", "--tiny", "--out", str(tmp_path)]) == 0
    (file,) = tmp_path.iterdir()
    assert file.name == f"gpu-{part}.json"
    found = json.loads(file.read_text())
    assert found["torch"] == torch.__version__
    assert found["device"] == "cpu"
    for case in found["cases"].values():
        ours = [side for side in case["sides"] if not side.startswith("diffusers")]
        assert ours
        assert all(side.startswith("diffusers") for side in case["left out"]), case["left out"]
        assert all(side["median"] > 0 for side in case["sides"].values())
    assert f"{part}, " in capsys.readouterr().out


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_where_there_is_no_gpu_it_says_so_in_one_sentence(gpu, tmp_path, capsys):
    for words in ([], ["--there"]):
        assert gpu.main([*words, "--out", str(tmp_path)]) == 1
        said = capsys.readouterr().out
        assert said.startswith("There is no CUDA GPU here")
        assert said.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_an_unknown_part_is_named(gpu, capsys):
    with pytest.raises(SystemExit) as error:
        gpu.main(["trainng"])
    assert error.value.code == 2
    assert "'trainng' is none of training, sampling, overhead, evaluation" in capsys.readouterr().err
