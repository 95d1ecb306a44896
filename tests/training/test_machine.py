"""Faster settings of the machine, and compiling: results stay as good, and what is not is refused."""

from pathlib import Path

import pytest
import torch
from torch import nn

from ornstein import data
from ornstein.training import compiled, machine
from ornstein.training.run import Run
from ornstein.training.settings import Settings


def test_float32_products_stay_accurate_and_the_setting_is_put_back():
    before = torch.backends.mkldnn.matmul.fp32_precision
    with machine.fast_products() as fast:
        assert machine.rounding() < 1e-5
        assert fast == (torch.backends.mkldnn.matmul.fp32_precision == "bf16")
    assert torch.backends.mkldnn.matmul.fp32_precision == before


def test_a_processor_that_would_round_to_bfloat16_is_left_alone(monkeypatch):
    monkeypatch.setattr(machine, "rounding", lambda: 2e-3)
    before = torch.backends.mkldnn.matmul.fp32_precision
    with machine.fast_products() as fast:
        assert not fast
        assert torch.backends.mkldnn.matmul.fp32_precision == before


def test_another_c_library_changes_nothing(monkeypatch):
    monkeypatch.setattr(machine.ctypes, "CDLL", lambda _: object())
    assert not machine.keep_memory()


def test_the_peak_is_a_speed():
    assert machine.peak(torch.device("cpu"), torch.float32, seconds=0.01) > 1e8


def test_gradients_that_differ_are_found():
    torch.manual_seed(0)
    right = [torch.randn(5), torch.randn(3, 3), torch.zeros(2)]
    assert compiled.differing(right, [g * 1.01 for g in right]) == []
    assert compiled.differing(right, [right[0], right[1].T, right[2]]) == [1]
    assert compiled.differing(right, [right[0], right[1], torch.full((2,), torch.nan)]) == [2]
    assert compiled.differing(right, [right[0], right[1], torch.ones(2)]) == [2]


def trial(tmp_path, monkeypatch, compile_):
    monkeypatch.setattr(nn.Module, "compile", compile_)
    told = []
    settings = Settings(data="digits", out=str(tmp_path / "run"), compile=True, network="unet", preset="tiny", steps=5)
    run = Run(settings, data.open("digits"), tell=told.append)
    before = {k: v.clone() for k, v in run.model.network.state_dict().items()}
    run.ready()
    assert all(torch.equal(v, before[k]) for k, v in run.model.network.state_dict().items())
    return run.model.network, told


def test_a_wrong_compiler_is_refused(tmp_path, monkeypatch):
    def wrong(network, dynamic=None):
        network._compiled_call_impl = lambda *args: 1.5 * network._call_impl(*args)

    network, told = trial(tmp_path, monkeypatch, wrong)
    assert network._compiled_call_impl is None
    assert any("compiled gradients" in line and "without compiling" in line for line in told)


def test_a_missing_compiler_is_told(tmp_path, monkeypatch):
    def missing(network, dynamic=None):
        def fail(*args):
            raise RuntimeError("no C++ compiler\nlong story")

        network._compiled_call_impl = fail

    network, told = trial(tmp_path, monkeypatch, missing)
    assert network._compiled_call_impl is None
    assert any("could not be compiled (no C++ compiler)" in line for line in told)


def test_a_right_compiler_is_kept(tmp_path, monkeypatch):
    def right(network, dynamic=None):
        network._compiled_call_impl = lambda *args: network._call_impl(*args)

    network, told = trial(tmp_path, monkeypatch, right)
    assert network._compiled_call_impl is not None
    assert not any("Warning" in line for line in told)


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/cpu.max": "max 100000\n"}, None),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/cpu.max": "150000 100000\n"}, 1.5),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/cpu.max": "50000 100000\n"}, 0.5),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "200000 100000\n"}, 2.0),
        (
            {
                "proc/self/cgroup": "4:memory:/a\n3:cpu,cpuacct:/a\n",
                "sys/fs/cgroup/cpu/a/cpu.cfs_quota_us": "100000\n",
                "sys/fs/cgroup/cpu/a/cpu.cfs_period_us": "100000\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            1.0,
        ),
        ({"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/cpu.max": "something else"}, None),
        ({}, None),
    ],
)
def test_quotas_of_control_groups(files: dict[str, str], limit: float | None, tmp_path: Path) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    assert machine.quota(tmp_path) == limit


@pytest.mark.parametrize(("limit", "threads"), [(None, 3), (0.3, 1), (1.0, 1), (1.4, 1), (1.6, 2), (64.0, 3)])
def test_no_more_threads_than_the_quota_has_cpus(
    limit: float | None, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "quota", lambda: limit)
    with machine.threads(3):
        assert machine.usable_threads() == threads
