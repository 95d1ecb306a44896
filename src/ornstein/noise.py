"""Sources of noise for samplers: noise(x, t, s) -> standard normal of the shape of x, for the step from t to s."""

import struct
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
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
    is drawn with t = s = the grid's first time. The numbers are those of the counter-based generator Philox (Salmon et
    al. 2011) with the key (seed, row) and a counter that begins at (0, 0, t, s), so no two streams share a block.
    """

    seed: int = 0
    first: int = 0

    def __call__(self, x: Tensor, t: float, s: float) -> Tensor:
        philox = np.random.Philox(0)
        normal, state = np.random.Generator(philox).standard_normal, philox.state  # a state with nothing buffered
        counter = np.array([0, 0, bits(t), bits(s)], dtype=np.uint64)
        drawn = np.empty((len(x), x.shape[1:].numel()), dtype=np.float32)
        for i, row in enumerate(drawn, self.first):
            key = np.array([self.seed & _MASK, i & _MASK], dtype=np.uint64)
            philox.state = {**state, "state": {"counter": counter, "key": key}}
            normal(dtype=np.float32, out=row)
        return torch.from_numpy(drawn).reshape(x.shape).to(x.device, x.dtype)
