"""Sources of noise for samplers: noise(x, t, s) -> standard normal of the shape of x, for the step from t to s."""

import struct
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

NoiseSource = Callable[[Tensor, float, float], Tensor]

_MASK = (1 << 64) - 1


def mix(*values: int) -> int:
    """A 63-bit seed from integers, by rounds of the splitmix64 finaliser (Steele, Lea and Flood 2014)."""
    state = 0
    for value in values:
        state = (state + value + 0x9E3779B97F4A7C15) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
        state ^= state >> 31
    return state >> 1


def bits(value: float) -> int:
    """The 64 bits of a float, so that a time can be part of a seed."""
    return int(struct.unpack("<Q", struct.pack("<d", value))[0])


@dataclass(frozen=True)
class PerSampleNoise:
    """Row i is a pure function of (seed, first + i, t, s) and its own shape: never of the batch, device or dtype.

    A sample is therefore the same alone and among others; `first` numbers the rows of a later batch. The start of a run
    is drawn with t = s = the grid's first time.
    """

    seed: int = 0
    first: int = 0

    def __call__(self, x: Tensor, t: float, s: float) -> Tensor:
        step = mix(bits(t), bits(s))
        generator = torch.Generator()
        drawn = torch.empty(x.shape, dtype=torch.float32)
        for i, row in enumerate(drawn, self.first):
            torch.randn(row.shape, generator=generator.manual_seed(mix(self.seed, i, step)), out=row)
        return drawn.to(x.device, x.dtype)
