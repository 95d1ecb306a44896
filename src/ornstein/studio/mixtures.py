"""Exact mixtures in the plane, by name: their density, score and velocity are known in closed form at every time."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ornstein.exact import GaussianMixture
from ornstein.path import Path

Parts = tuple[Tensor, Tensor, Tensor]  # weights (K,), means (K, 2), variances (K,), (K, 2) or (K, 2, 2)


def _even(means: Tensor, deviation: float) -> Parts:
    count = len(means)
    return torch.full((count,), 1 / count, dtype=torch.float64), means, torch.full((count,), deviation**2).double()


def _at(angles: Tensor, radii: Tensor | float = 1.0) -> Tensor:
    return torch.stack([radii * angles.cos(), radii * angles.sin()], -1)


def ring() -> Parts:
    """Eight Gaussians on a circle."""
    return _even(_at(torch.arange(8, dtype=torch.float64) * math.pi / 4, 1.5), 0.15)


def moons() -> Parts:
    """Two half circles, of fourteen Gaussians each."""
    angles = torch.linspace(0, math.pi, 14, dtype=torch.float64)
    upper = _at(angles, 1.2) + torch.tensor([-0.6, -0.3], dtype=torch.float64)
    return _even(torch.cat([upper, -upper]), 0.13)


def spiral() -> Parts:
    """A spiral of thirty Gaussians."""
    turn = torch.linspace(0.6, 3.4 * math.pi, 30, dtype=torch.float64)
    return _even(_at(turn, 0.18 * turn), 0.09)


def board() -> Parts:
    """The eight fields of one colour of a board of four by four."""
    fields = [(i - 1.5, j - 1.5) for i in range(4) for j in range(4) if (i + j) % 2 == 0]
    return _even(torch.tensor(fields, dtype=torch.float64) * 0.95, 0.2)


def pair() -> Parts:
    """Two Gaussians of different weight and width."""
    means = torch.tensor([[-1.1, -0.4], [1.0, 0.6]], dtype=torch.float64)
    return torch.tensor([0.7, 0.3]).double(), means, torch.tensor([0.16, 0.04]).double()


def ellipse() -> Parts:
    """One Gaussian, long and turned."""
    angle = math.pi / 6
    turn = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]], dtype=torch.float64)
    cov = turn @ torch.diag(torch.tensor([1.1, 0.04], dtype=torch.float64)) @ turn.T
    return torch.ones(1).double(), torch.zeros(1, 2).double(), cov[None]


ALL: dict[str, Callable[[], Parts]] = {
    "ring": ring,
    "moons": moons,
    "spiral": spiral,
    "board": board,
    "pair": pair,
    "ellipse": ellipse,
}


def mixture(name: str, path: Path) -> GaussianMixture:
    """The mixture of a name on a path, in float64."""
    return GaussianMixture(*ALL[name](), path)
