"""Small pieces that every network here is built from: initialisation, modulation, divisors, checks."""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

ModuleT = TypeVar("ModuleT", bound=nn.Module)


def xavier_(module: ModuleT) -> ModuleT:
    """Glorot-uniform weights and zero biases in every linear and convolutional layer below `module`.

    The initialisation of both DDPM (Ho et al. 2020) and DiT (Peebles & Xie 2022). Returns `module`.
    """
    for layer in module.modules():
        if isinstance(layer, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return module


def zero_(module: ModuleT) -> ModuleT:
    """All parameters of `module` set to zero: a residual branch that ends in it starts as the identity."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """`x·(1 + scale) + shift` in one kernel (FiLM; adaptive group and layer norm); the three broadcast."""
    return torch.addcmul(shift, x, 1 + scale)


def largest_divisor(number: int, limit: int) -> int:
    """The largest divisor of `number` that is at most `limit`, and at least 1."""
    return next(k for k in range(max(1, min(limit, number)), 0, -1) if number % k == 0)


def pick(presets: Mapping[str, dict[str, Any]], name: str, network: str) -> dict[str, Any]:
    """The arguments of the preset `name` (a copy).

    Raises ValueError for a name that is not in the table, with the nearest one that is.
    """
    if name in presets:
        return dict(presets[name])
    near = get_close_matches(name, presets, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise ValueError(f"{network} has no preset {name!r}; {hint}the presets are {', '.join(presets)}")
