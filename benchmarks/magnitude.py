"""A U-Net whose layers keep the size of what passes through them: for the comparison in `benchmarks.experiments` alone.

Of activations whose entries are independent with mean square 1, each part below gives such activations again:

    convolution, linear   y = (w/‖w‖) * x per output channel, no bias; w is set to unit mean square before each training step
    nonlinearity          silu(x)/0.596
    sum                   ((1 − r) a + r b)/√((1 − r)² + r²)
    concatenation         [a √(N/(2 N_a)), b √(N/(2 N_b))] with N = N_a + N_b channels
    pixel norm            x/√(mean over channels of x²), at the start of the encoder's blocks and on q, k, v

Source: Karras et al. 2024, "Analyzing and improving the training dynamics of diffusion models", section 2 and appendix B, their
configuration G. The levels, widths, blocks, attention and the sinusoids of time are those of `ornstein.networks.UNet`.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ornstein.networks import sinusoidal
from ornstein.networks.attention import attend

BALANCE = 0.3  # r of a residual branch


def unit(x: Tensor, dims: tuple[int, ...]) -> Tensor:
    """x over the root of its mean square over `dims`."""
    return x * (x.square().mean(dims, keepdim=True) + 1e-8).rsqrt()


def silu(x: Tensor) -> Tensor:
    return F.silu(x) / 0.596  # √E silu(z)² for z ~ N(0, 1)


def add(a: Tensor, b: Tensor, r: float = 0.5) -> Tensor:
    return a.lerp(b, r) / math.hypot(1 - r, r)


def join(a: Tensor, b: Tensor) -> Tensor:
    both = a.shape[1] + b.shape[1]
    return torch.cat([x * math.sqrt(both / (2 * x.shape[1])) for x in (a, b)], 1)


class Weight(nn.Module):
    """A convolution of two-dimensional images, or a linear map where the kernel is 0."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 0, stride: int = 1) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, *(kernel,) * (2 if kernel else 0)))
        self.stride, self.fan = stride, self.weight[0].numel()

    def forward(self, x: Tensor, gain: Tensor | float = 1.0) -> Tensor:
        dims = tuple(range(1, self.weight.ndim))
        if self.training:
            with torch.no_grad():  # so that the step of the optimiser is always of the same size beside the weights
                self.weight.copy_(unit(self.weight, dims))
        w = unit(self.weight, dims) * (gain / math.sqrt(self.fan))
        return F.linear(x, w) if w.ndim == 2 else F.conv2d(x, w, stride=self.stride, padding=w.shape[-1] // 2)


class Block(nn.Module):
    """A residual block with a gain for each channel by the embedding, and attention where asked."""

    def __init__(self, inputs: int, outputs: int, embedding: int, encoder: bool, attention: bool = False) -> None:
        super().__init__()
        self.encoder = encoder
        self.skip = None if inputs == outputs else Weight(inputs, outputs, 1)
        self.conv1, self.conv2 = Weight(outputs if encoder else inputs, outputs, 3), Weight(outputs, outputs, 3)
        self.modulation, self.gain = Weight(embedding, outputs), nn.Parameter(torch.zeros(()))
        self.qkv = Weight(outputs, 3 * outputs) if attention else None
        self.out = Weight(outputs, outputs) if attention else None

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        short = x if self.skip is None else self.skip(x)
        if self.encoder:
            x = short = unit(short, (1,))
        h = self.conv1(silu(x)) * (1 + self.modulation(c, self.gain))[..., None, None]
        x = add(short, self.conv2(silu(h)), BALANCE)
        if self.qkv is None or self.out is None:
            return x
        rows = x.flatten(2).transpose(1, 2)
        q, k, v = (unit(part, (-1,)).unsqueeze(1) for part in self.qkv(rows).chunk(3, -1))  # one head
        return add(x, self.out(attend(q, k, v).squeeze(1)).transpose(1, 2).unflatten(2, x.shape[2:]), BALANCE)


class MagnitudeUNet(nn.Module):
    """x (B, C, H, W) of unit size with even sides -> (B, C, H, W), with labels as condition; zero at first."""

    def __init__(self, config: dict[str, Any]) -> None:
        """config: that of the `UNet` it takes the place of, with one block a level and attention in the middle alone."""
        super().__init__()
        self.config, self.width, self.classes = config, config["width"], config["classes"]
        width, embedding = self.width, 4 * self.width
        widths = [width * m for m in config["multipliers"]]
        self.time, self.label = Weight(width, embedding), Weight(self.classes + 1, embedding)
        self.stem = Weight(config["channels"] + 1, width, 3)  # the channel of ones takes the place of biases
        self.down, self.up, skips, current = nn.ModuleList(), nn.ModuleList(), [width], width
        for level, wide in enumerate(widths):
            self.down.append(Block(current, wide, embedding, encoder=True))
            skips.append(wide)
            current = wide
            if level < len(widths) - 1:
                self.down.append(Weight(wide, wide, 3, stride=2))
                skips.append(wide)
        self.middle = nn.ModuleList([Block(current, current, embedding, False, attend) for attend in (True, False)])
        for level, wide in reversed([*enumerate(widths)]):
            for _ in range(2):
                self.up.append(Block(current + skips.pop(), wide, embedding, encoder=False))
                current = wide
            if level:
                self.up.append(Weight(wide, wide, 3))
        self.head, self.gain = Weight(current, config["channels"], 3), nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
        labels = torch.full((1,), self.classes) if condition is None else condition
        told = F.one_hot(labels.long(), self.classes + 1).to(x.dtype) * math.sqrt(self.classes + 1)
        waves = math.sqrt(2) * sinusoidal(1000 * t.reshape(-1), self.width).to(x.dtype)
        c = silu(add(self.time(waves), self.label(told)))
        h = self.stem(torch.cat([x, torch.ones_like(x[:, :1])], 1))
        skips = [h]
        for layer in self.down:
            h = layer(h) if isinstance(layer, Weight) else layer(h, c)
            skips.append(h)
        for layer in self.middle:
            h = layer(h, c)
        for layer in self.up:
            if isinstance(layer, Weight):
                h = layer(F.interpolate(h, scale_factor=2, mode="nearest"))
            else:
                h = layer(join(h, skips.pop()), c)
        out: Tensor = self.head(silu(h), self.gain)
        return out
