"""The same checks on the CPU, at small sizes and in every run of the tests, and on a CUDA GPU, with `pytest -m gpu`.

A check compares what a function of a device gives on the CPU and on the device. On the CPU that is a comparison with itself: it shows
that each line runs, so that a GPU meets no code for the first time.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

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
    """Where a check runs. `small` on the CPU, where it only shows that the code runs."""

    device: torch.device

    @property
    def small(self) -> bool:
        return self.device.type == "cpu"

    def size(self, few: int, many: int) -> int:
        """A count: few on the CPU, many on a GPU."""
        return few if self.small else many

    def compare(
        self, work: Callable[[torch.device], Tensor], atol: float = 1e-4, rtol: float = 1e-4
    ) -> tuple[Tensor, Tensor]:
        """Raises AssertionError unless `work` gives numbers here, and on the CPU the same within rounding; both results."""
        here, there = work(self.device), work(torch.device("cpu"))
        assert here.device.type == self.device.type
        assert here.isfinite().all()
        torch.testing.assert_close(here.cpu(), there, atol=atol, rtol=rtol)
        return here, there


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """The device of a check, with float32 products in float32 (TF32 off) and algorithms that repeat."""
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip(MISSING)
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32, cudnn.deterministic
    matmul.allow_tf32, cudnn.allow_tf32, cudnn.deterministic = False, False, True
    try:
        yield Place(torch.device(request.param))
    finally:
        matmul.allow_tf32, cudnn.allow_tf32, cudnn.deterministic = before
        if request.param == "cuda":
            torch.cuda.empty_cache()


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
    """A small U-Net with three classes, with attention, on images of one channel."""
    return alive(networks.UNet(1, width=16, multipliers=(1, 2), blocks=1, attention_levels=(1,), classes=3))  # type: ignore[return-value]
