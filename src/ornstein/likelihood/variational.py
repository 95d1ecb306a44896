"""Variational dequantisation: a q(y | x) that is fitted to the model (Ho et al. 2019, section 4.1).

The bound log P(x) ≥ E_q[log p(y) − log q(y | x)] is raised by gradients of q's parameters. With y a differentiable function of
noise, ∇log p at y is the score, which the denoiser tells in one call, so that no ODE is differentiated:

    ∇_φ E_q[log p(y) − log q(y | x)] = E[∇_φ (stop(s(y))·y − log q(y | x))],    s(y) = −α·E[ε | αy]/σ.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ornstein.denoiser import Denoiser
from ornstein.likelihood import clock
from ornstein.likelihood.dequantise import within
from ornstein.noise import NoiseSource, PerSampleNoise, repeat

WIDTH = 32  # of the network
NARROWEST = 3.0  # the standard deviation stays within a factor exp(±this) of the path's
RATE = 1e-2
CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


@dataclass(frozen=True, eq=False)
class Variational:
    """N(x + m(x), s(x)²) within the bin, each element by itself; m and s come from a small network that sees all of x.

    It begins as `Truncated(ratio)`, with m = 0 and s = ratio. Ho et al. take a flow, which can bend and couple the elements as
    well. x (B, C, ...) or (B, D). Source: Ho et al. 2019, section 4.1.
    """

    ratio: float
    network: nn.Module

    def __call__(self, x: Tensor, width: Tensor | float, noise: NoiseSource) -> tuple[Tensor, Tensor]:
        half = torch.as_tensor(width, dtype=torch.float64, device=x.device).expand(x.shape) / (2 * self.ratio)
        place, scale = self.network(x).double().chunk(2, dim=1)
        std = torch.exp(NARROWEST * torch.tanh(scale))
        v, minus_log_q = within(half, half * torch.tanh(place), std, noise(x, 0.0, 0.0))
        return (x + v * self.ratio).to(x.dtype), (minus_log_q + math.log(self.ratio) * half[0].numel()).to(x.dtype)


def fresh(x: Tensor, ratio: float) -> Variational:
    """A `Variational` for items like x, still equal to `Truncated(ratio)`."""
    channels, spatial = x.shape[1], x.ndim - 2
    layer: Callable[..., nn.Module] = CONVOLUTIONS[spatial] if spatial else nn.Linear
    near: dict[str, Any] = {"kernel_size": 3, "padding": 1} if spatial else {}
    last = layer(WIDTH, 2 * channels, **({"kernel_size": 1} if spatial else {}))
    for parameter in last.parameters():
        nn.init.zeros_(parameter)
    layers = layer(channels, WIDTH, **near), nn.SiLU(), layer(WIDTH, WIDTH, **near), nn.SiLU(), last
    return Variational(ratio, nn.Sequential(*layers).to(x.device))


def fit_dequantisation(
    batches: Iterable[tuple[Denoiser, Tensor]],
    width: Tensor | float,
    ratio: float,
    steps: int,
    *,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Variational:
    """A `Variational` for one model, by `steps` steps of Adam, each on a batch of items with the denoiser of their condition.

    `width` is that of a level in model units, a number or shaped to broadcast against items (B, ...); `ratio` is the noise level
    σ/α where the density is taken. Each step is a network call without gradients. Any result is a valid bound; use other
    items than those that are to be measured. Raises ValueError where there are fewer batches than steps.
    """
    flow, noise, seen = None, PerSampleNoise(seed), 0
    with torch.random.fork_rng(devices=[]), torch.inference_mode(False), torch.enable_grad():
        torch.manual_seed(seed)
        for denoiser, x in batches:
            if flow is None:
                flow = fresh(x, ratio)
                optimizer = torch.optim.Adam(flow.network.parameters(), lr=RATE)
                rates = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
                t = clock.nearest(denoiser.path, ratio)
            y, minus_log_q = flow(x, width, repeat(noise, 1 + seen))
            alpha, sigma = denoiser.path.levels(t, x)
            with torch.no_grad():
                score = -denoiser(alpha * y, t).noise * (alpha / sigma)
            loss = -(minus_log_q + (score * y).flatten(1).sum(1)).mean() / x[0].numel()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            rates.step()
            seen += 1
            if progress is not None:
                progress(seen, steps)
            if seen == steps:
                break
    if flow is None or seen < steps:
        raise ValueError(f"fit_dequantisation: {seen} batches for {steps} steps; give a batch for each step")
    flow.network.requires_grad_(False).eval()
    return flow
