"""`--profile`: where the time of steps went, and nothing written."""

import pytest
import torch

from ornstein import cli, data
from ornstein.settings import Settings
from ornstein.training.profile import profile
from ornstein.training.trainer import FolderTraining


def test_stages_and_parts_are_the_whole(tmp_path):
    settings = Settings(data="digits", out=str(tmp_path / "run"), preset="tiny", batch_size=4, steps=100)
    found = profile(FolderTraining(settings, data.open("digits")), 2)
    assert (found.steps, found.images) == (2, 4)
    assert sum(found.stages.values()) == pytest.approx(found.seconds)
    assert all(seconds > 0 for seconds in found.stages.values())
    assert {"stem", "down", "middle", "up", "head"} <= found.parts.keys()
    assert {"convolutions", "attention", "norms", "linear layers"} == found.kinds.keys()
    for times in (found.parts, found.kinds):
        assert sum(forward for forward, _ in times.values()) <= found.stages["network, forward"] * 1.01
        assert sum(backward for _, backward in times.values()) <= found.stages["backward"]
    assert found.peak > 1e8


def test_the_command_prints_and_writes_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    code = cli.main(["train", "--data", "digits", "--out", "run", "--profile", "1", "--batch-size", "4"])
    out = capsys.readouterr().out
    assert code == 0
    assert "GFLOP/s" in out
    assert "convolutions" in out
    assert not (tmp_path / "run").exists()
    assert torch.get_num_threads() == threads


def test_no_steps_are_refused(capsys):
    assert cli.main(["train", "--data", "digits", "--out", "run", "--profile", "0"]) == 2
    assert "1 or more" in capsys.readouterr().err
