"""Checks of a CUDA GPU against the CPU: `pytest -m gpu`. Without the mark they run, at small sizes, on a device that stands in.

A check compares what a function of a device gives on the CPU and on the device. The device that stands in (`standin.py`)
computes on the CPU and refuses tensors of another device, so that a GPU meets no line for the first time.
"""

import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor

from ornstein import networks

MISSING = "there is no CUDA GPU here (torch.cuda.is_available() is false): the tests marked `gpu` are skipped"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("gpu"):  # compilers and NCCL have warnings of their own
            item.add_marker(pytest.mark.filterwarnings("default"))


@dataclass(frozen=True)
class Place:
    """Where a check runs; it is `small` where that is no GPU and only the code is on trial."""

    device: torch.device

    @property
    def small(self) -> bool:
        return self.device.type != "cuda"

    def size(self, few: int, many: int) -> int:
        """A count: few in every run of the tests, many on a GPU."""
        return few if self.small else many

    def only_if(self, needed: bool) -> None:
        """Skips, where only the code is on trial, a case whose lines others run."""
        if self.small and not needed:
            pytest.skip("on a GPU alone: other cases run the same lines")

    def compare(
        self, work: Callable[[torch.device], Tensor], atol: float = 1e-4, rtol: float = 1e-4
    ) -> tuple[Tensor, Tensor]:
        """Raises AssertionError unless `work` gives numbers here, and on the CPU the same within rounding; both results."""
        here, there = work(self.device), work(torch.device("cpu"))
        assert here.device.type == self.device.type
        assert here.isfinite().all()
        torch.testing.assert_close(here.cpu(), there, atol=atol, rtol=rtol)
        return here, there


@contextmanager
def _exactly() -> Iterator[None]:
    """Within, float32 products in float32 (TF32 off) and convolutions that repeat; what a check changes is set back."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32, cudnn.deterministic
    matmul.allow_tf32, cudnn.allow_tf32, cudnn.deterministic = False, False, True
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32, cudnn.deterministic = before
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _stand_in() -> ModuleType | None:
    """`standin.py`, where this torch has the means for such a device.

    Loaded with this file, before any test: autograd counts the devices once, at the first backward pass of a process.
    """
    spec = importlib.util.spec_from_file_location("standin", Path(__file__).with_name("standin.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (ImportError, AttributeError):
        return None
    return module


STAND_IN = sys.modules["standin"] if "standin" in sys.modules else _stand_in()
if STAND_IN is not None:
    sys.modules["standin"] = STAND_IN


def _cuda() -> Place:
    if not torch.cuda.is_available():
        pytest.skip(MISSING)
    return Place(torch.device("cuda"))


GPU = pytest.param("cuda", marks=pytest.mark.gpu)


@pytest.fixture(params=["standin", GPU])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """A GPU, or the device that stands in for one."""
    with _exactly():
        if request.param == "cuda":
            yield _cuda()
            return
        with nullcontext(torch.device("cpu")) if STAND_IN is None else STAND_IN.standing_in() as device:
            yield Place(device)


@pytest.fixture(params=["cpu", GPU])
def real(request: pytest.FixtureRequest) -> Iterator[Place]:
    """A GPU or the CPU, for checks of threads, compilers, autocast and processes."""
    with _exactly():
        yield _cuda() if request.param == "cuda" else Place(torch.device("cpu"))


@pytest.fixture
def alive() -> Callable[[torch.nn.Module], torch.nn.Module]:
    """Moves a network's weights away from its zeros: untrained, it would answer zero everywhere."""

    def moved(network: torch.nn.Module) -> torch.nn.Module:
        draws = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for weight in network.parameters():
                weight.add_(0.02 * torch.randn(weight.shape, generator=draws))
        return network.eval().requires_grad_(False)

    return moved


@pytest.fixture
def unet(alive: Callable[[torch.nn.Module], torch.nn.Module]) -> networks.UNet:
    """A small U-Net with three classes and attention, on images of one channel."""
    network = networks.UNet(1, width=16, multipliers=(1, 2), blocks=1, attention_levels=(1,), classes=3)
    return alive(network)  # type: ignore[return-value]
