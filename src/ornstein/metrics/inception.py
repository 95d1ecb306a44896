"""The Inception network that the Fréchet Inception Distance is defined with, given a local file of its weights.

It is the network of Szegedy et al. 2015 (arXiv:1512.00567, figures 5 to 7) as TensorFlow's graph of 2015-12-05 has it: average
pools leave their padding out, the last block pools by the maximum, and images are resized without half-pixel centres. The
modules bear the names of the published weights, `pt_inception-2015-12-05-6726825d.pth`, so those load as they are.
"""

from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path
from pickle import UnpicklingError

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ornstein.errors import UsageError
from ornstein.metrics.efficientnet import colour
from ornstein.metrics.features import Network

PUBLISHED = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"  # sha256 of the file
SIDE = 299  # pixels
Kernel = tuple[int, int]
Layer = tuple[str, int, Kernel]  # name, channels, kernel

ONE, THREE, FIVE = (1, 1), (3, 3), (5, 5)
WIDE, HIGH, FLAT, TALL = (1, 7), (7, 1), (1, 3), (3, 1)


class Conv(nn.Module):
    """Convolution, batch normalisation, rectifier."""

    def __init__(self, channels: int, out: int, kernel: Kernel, stride: int = 1, padding: Kernel = (0, 0)) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(out, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class Mixed(nn.Module):
    """Branches side by side, their channels joined: chains of convolutions, of which the last may be two in parallel, and a pool.

    `pooled` channels come from the pool; without it the block halves the image, by the last convolution of each branch.
    """

    def __init__(
        self,
        channels: int,
        branches: tuple[tuple[Layer | tuple[Layer, Layer], ...], ...],
        pooled: int = 0,
        top: bool = False,
    ) -> None:
        super().__init__()
        self._chains, self._top, self._halves, self.width = [], top, not pooled, pooled or channels
        for branch in branches:
            width, chain = channels, []
            for place, step in enumerate(branch):
                layers: tuple[Layer, ...] = (step,) if isinstance(step[0], str) else step
                halves = self._halves and place == len(branch) - 1
                for name, out, kernel in layers:
                    padding = (0, 0) if halves else (kernel[0] // 2, kernel[1] // 2)
                    self.add_module(name, Conv(width, out, kernel, 2 if halves else 1, padding))
                chain.append(tuple(name for name, _, _ in layers))
                width = sum(out for _, out, _ in layers)
            self._chains.append(chain)
            self.width += width
        if pooled:
            self.branch_pool = Conv(channels, pooled, ONE)

    def forward(self, x: Tensor) -> Tensor:
        branches = []
        for chain in self._chains:
            part = x
            for names in chain:
                part = torch.cat([self.get_submodule(name)(part) for name in names], 1)
            branches.append(part)
        if self._halves:
            branches.append(F.max_pool2d(x, 3, 2))
        elif self._top:
            branches.append(self.branch_pool(F.max_pool2d(x, 3, 1, 1)))
        else:
            branches.append(self.branch_pool(F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)))
        return torch.cat(branches, 1)


def _a(channels: int, pooled: int) -> Mixed:
    double = (("branch3x3dbl_1", 64, ONE), ("branch3x3dbl_2", 96, THREE), ("branch3x3dbl_3", 96, THREE))
    five = (("branch5x5_1", 48, ONE), ("branch5x5_2", 64, FIVE))
    return Mixed(channels, ((("branch1x1", 64, ONE),), five, double), pooled)


def _b(channels: int) -> Mixed:
    double = (("branch3x3dbl_1", 64, ONE), ("branch3x3dbl_2", 96, THREE), ("branch3x3dbl_3", 96, THREE))
    return Mixed(channels, ((("branch3x3", 384, THREE),), double))


def _c(channels: int, inner: int) -> Mixed:
    once = (("branch7x7_1", inner, ONE), ("branch7x7_2", inner, WIDE), ("branch7x7_3", 192, HIGH))
    twice = (
        *(("branch7x7dbl_1", inner, ONE), ("branch7x7dbl_2", inner, HIGH), ("branch7x7dbl_3", inner, WIDE)),
        *(("branch7x7dbl_4", inner, HIGH), ("branch7x7dbl_5", 192, WIDE)),
    )
    return Mixed(channels, ((("branch1x1", 192, ONE),), once, twice), 192)


def _d(channels: int) -> Mixed:
    seven = (
        *(("branch7x7x3_1", 192, ONE), ("branch7x7x3_2", 192, WIDE)),
        *(("branch7x7x3_3", 192, HIGH), ("branch7x7x3_4", 192, THREE)),
    )
    return Mixed(channels, ((("branch3x3_1", 192, ONE), ("branch3x3_2", 320, THREE)), seven))


def _e(channels: int, top: bool) -> Mixed:
    once = (("branch3x3_1", 384, ONE), (("branch3x3_2a", 384, FLAT), ("branch3x3_2b", 384, TALL)))
    twice = (
        *(("branch3x3dbl_1", 448, ONE), ("branch3x3dbl_2", 384, THREE)),
        (("branch3x3dbl_3a", 384, FLAT), ("branch3x3dbl_3b", 384, TALL)),
    )
    return Mixed(channels, ((("branch1x1", 320, ONE),), once, twice), 192, top)


class Inception(nn.Module):
    """Images (B, C, H, W) in [−1, 1] to the 2048 averaged features of the last block."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = Conv(3, 32, THREE, 2)
        self.Conv2d_2a_3x3 = Conv(32, 32, THREE)
        self.Conv2d_2b_3x3 = Conv(32, 64, THREE, padding=(1, 1))
        self.Conv2d_3b_1x1 = Conv(64, 80, ONE)
        self.Conv2d_4a_3x3 = Conv(80, 192, THREE)
        self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = _a(192, 32), _a(256, 64), _a(288, 64)
        self.Mixed_6a = _b(288)
        self.Mixed_6b, self.Mixed_6c = _c(768, 128), _c(768, 160)
        self.Mixed_6d, self.Mixed_6e = _c(768, 160), _c(768, 192)
        self.Mixed_7a = _d(768)
        self.Mixed_7b, self.Mixed_7c = _e(1280, top=False), _e(2048, top=True)
        self.fc = nn.Linear(2048, 1008)  # in the file; not needed for features
        self.eval().requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        levels = ((x + 1) * 127.5).round().clamp(0, 255)  # what an 8-bit file holds
        x = (_resize(levels) - 128) / 128
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(F.max_pool2d(x, 3, 2)))
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(F.max_pool2d(x, 3, 2))))
        x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))))
        return self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x))).mean((2, 3))


def _resize(x: Tensor) -> Tensor:
    """Bilinear to 299 x 299 with corners at corners of pixels: place i of the new is i·(old/new) of the old."""
    rows, columns = (_places(side).to(x) for side in x.shape[2:])
    return rows @ x @ columns.T


def _places(side: int) -> Tensor:
    """The weights (299, side) of the old places in the new ones."""
    at = torch.arange(SIDE, dtype=torch.float64) * side / SIDE
    first = at.long()
    weights = torch.zeros(SIDE, side, dtype=torch.float64)
    weights.scatter_(1, first[:, None], (1 - at + first)[:, None])
    after = (first + 1).clamp(max=side - 1)
    return weights.scatter_add_(1, after[:, None], (at - first)[:, None])


@dataclass(frozen=True, eq=False)
class _Features:
    net: Inception

    def __call__(self, x: Tensor) -> Tensor:
        return self.net(colour(x))


def inception(file: str | Path) -> Network:
    """The extractor "inception" with the weights in a .pth or .safetensors file.

    Its Fréchet distance is called FID for the published file alone, which is known by its sha256.
    Raises UsageError for a file that is missing or holds anything else.
    """
    place = Path(file).expanduser()
    net = Inception()
    try:
        with place.open("rb") as opened:
            digest = file_digest(opened, "sha256").hexdigest()
        if place.suffix == ".safetensors":
            state = load_file(place)
        else:
            state = torch.load(place, map_location="cpu", weights_only=True)
        net.load_state_dict(state)
    except OSError as error:
        raise UsageError(
            f"--features inception:FILE: {place} cannot be read ({error.strerror or error}); give the file of the weights"
        ) from error
    except (RuntimeError, UnpicklingError, SafetensorError, TypeError, AttributeError, ValueError, EOFError) as error:
        reason = " ".join(str(error).split()).removeprefix("Error(s) in loading state_dict for Inception: ")
        raise UsageError(
            f"--features inception:FILE: {place} is no file of the FID Inception's weights ({reason[:120]}); give "
            "pt_inception-2015-12-05-6726825d.pth or the same as .safetensors"
        ) from error
    known = digest == PUBLISHED
    return Network("inception", net, _Features(net), "FID" if known else "Fréchet distance")
