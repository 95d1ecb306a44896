"""What a CPU does faster when asked, and compiling: what is not as good is refused; quotas and work in pieces."""

import threading
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from ornstein import cpu, data
from ornstein.compiling import differing
from ornstein.device import peak
from ornstein.settings import Settings
from ornstein.training.trainer import FolderTraining


def test_float32_products_stay_accurate_and_the_setting_is_put_back():
    before = torch.backends.mkldnn.matmul.fp32_precision
    with cpu.fast_products() as fast:
        assert cpu.rounding() < 1e-5
        assert fast == (torch.backends.mkldnn.matmul.fp32_precision == "bf16")
    assert torch.backends.mkldnn.matmul.fp32_precision == before


def test_a_processor_that_would_round_to_bfloat16_is_left_alone(monkeypatch):
    monkeypatch.setattr(cpu, "rounding", lambda: 2e-3)
    before = torch.backends.mkldnn.matmul.fp32_precision
    with cpu.fast_products() as fast:
        assert not fast
        assert torch.backends.mkldnn.matmul.fp32_precision == before


def test_another_c_library_changes_nothing(monkeypatch):
    monkeypatch.setattr(cpu.ctypes, "CDLL", lambda _: object())
    assert not cpu.keep_memory()


def test_the_peak_is_a_speed():
    assert peak(torch.device("cpu"), torch.float32, seconds=0.01) > 1e8


def test_gradients_that_differ_are_found():
    torch.manual_seed(0)
    right = [torch.randn(5), torch.randn(3, 3), torch.zeros(2)]
    assert differing(right, [g * 1.01 for g in right], 0.05) == []
    assert differing(right, [right[0], right[1].T, right[2]], 0.05) == [1]
    assert differing(right, [right[0], right[1], torch.full((2,), torch.nan)], 0.05) == [2]
    assert differing(right, [right[0], right[1], torch.ones(2)], 0.05) == [2]


def trial(tmp_path, monkeypatch, compile_):
    monkeypatch.setattr(nn.Module, "compile", compile_)
    told = []
    settings = Settings(data="digits", out=str(tmp_path / "run"), compile=True, network="unet", preset="tiny", steps=5)
    run = FolderTraining(settings, data.open("digits"), tell=told.append)
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
    assert cpu.quota(tmp_path) == limit


@pytest.mark.parametrize(("limit", "threads"), [(None, 3), (0.3, 1), (1.0, 1), (1.4, 1), (1.6, 2), (64.0, 3)])
def test_no_more_threads_than_the_quota_has_cpus(
    limit: float | None, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu, "quota", lambda: limit)
    with cpu.threads(3):
        assert cpu.usable_threads() == threads


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_pieces_come_in_order_each_with_its_part_of_the_threads(workers: int) -> None:
    def work(piece: int) -> tuple[int, int, bool]:
        time.sleep(0.01 * (piece % 2 == 0))  # every other one is overtaken
        return piece, torch.get_num_threads(), threading.current_thread() is threading.main_thread()

    with cpu.threads(4):
        results = list(cpu.in_order(work, range(7), workers))
        assert torch.get_num_threads() == 4
    assert [piece for piece, _, _ in results] == list(range(7))
    assert {(count, alone) for _, count, alone in results} == {(4 // workers, workers == 1)}
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("pieces")]


def test_a_failure_in_a_piece_is_raised_in_its_place_and_ends_the_work() -> None:
    begun = list[int]()

    def work(piece: int) -> int:
        begun.append(piece)
        return 1 // (3 - piece)

    results = cpu.in_order(work, range(1000), 2)
    assert [next(results) for _ in range(3)] == [0, 0, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert len(begun) < 10


def test_no_more_is_begun_than_is_asked_for() -> None:
    begun = list[int]()
    results = cpu.in_order(begun.append, range(1000), 2)
    next(results)
    results.close()
    assert len(begun) <= 3


def test_a_line_says_when_other_programs_take_the_cpus(tmp_path, monkeypatch):
    stat = tmp_path / "proc" / "stat"
    stat.parent.mkdir()
    monkeypatch.setattr(cpu.os, "cpu_count", lambda: 4)

    def others(work, idle):
        """Between two looks, so many ticks of work and so many idle ones pass."""
        stat.write_text("cpu  100 0 100 1000 10 0 0 0 0 0\ncpu0 1 1\n")
        later = f"cpu  {100 + work} 0 100 {1000 + idle} 10 0 0 0 0 0\n"
        monkeypatch.setattr(cpu.time, "sleep", lambda seconds: stat.write_text(later))
        return cpu.taken_by_others(tmp_path)

    assert others(30, 10) == 3.0
    assert others(0, 40) == 0.0
    others(30, 10)
    stat.write_text("cpu  100 0 100 1000 10 0 0 0 0 0\n")
    assert "Other programs take 3.0 of the 4 CPUs" in cpu.busy_line(4, tmp_path)
    stat.write_text("cpu  100 0 100 1000 10 0 0 0 0 0\n")
    assert cpu.busy_line(1, tmp_path) is None or cpu.taken_by_others(tmp_path) is None
    stat.write_text("nothing")
    monkeypatch.setattr(cpu.time, "sleep", lambda seconds: None)
    assert cpu.taken_by_others(tmp_path) is None
    assert cpu.busy_line(4, tmp_path / "elsewhere") is None
