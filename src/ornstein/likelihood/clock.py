"""The clock of likelihoods: w = log((φ + a)/(π/2 + b − φ)) of the angle φ = arctan(σ/α), bounded at both ends.

Between the ends it runs evenly in log σ/α, so that data of any scale from a to 1/b is resolved by even steps; at both ends it
is smooth in φ, where neither zero noise nor zero signal is infinite.
"""

import math

import torch
from torch import Tensor

from ornstein.path import Path

DATA, NOISE = 1e-4, 0.1  # a: the noise level σ/α below which steps grow no finer; b: the same for α/σ at the noise
SPAN = DATA + math.pi / 2 + NOISE


def clock(alpha: float, sigma: float) -> float:
    """w of a noise level."""
    angle = math.atan2(sigma, alpha)
    return math.log((angle + DATA) / (math.pi / 2 + NOISE - angle))


def angle(w: Tensor) -> Tensor:
    """φ(w), within [0, π/2]."""
    return (torch.sigmoid(w) * SPAN - DATA).clamp(0, math.pi / 2)


def rate(w: Tensor) -> Tensor:
    """dφ/dw > 0."""
    return torch.sigmoid(w) * torch.sigmoid(-w) * SPAN


def time(path: Path, phi: Tensor) -> Tensor:
    """t where arctan(σ/α) = φ."""
    return path.time(-2 * (torch.sin(phi).log() - torch.cos(phi).log()))


def ends(path: Path, t: float, s: float = 1.0) -> tuple[float, float]:
    """The clock at times t and s."""
    times = torch.tensor([t, s], dtype=torch.float64)
    first, last = (clock(*level) for level in zip(path.alpha(times).tolist(), path.sigma(times).tolist(), strict=True))
    return first, last


def nearest(path: Path, ratio: float) -> float:
    """The time where σ/α = ratio, or 0 where the path has more noise than that even there."""
    return float(path.time(-2 * math.log(ratio)))
