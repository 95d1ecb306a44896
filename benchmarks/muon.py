"""Muon (Jordan et al. 2024) for convolutions and linear layers, AdamW for the rest, in one optimiser with one rate.

torch.optim.Muon takes matrices alone, so a convolution's kernel (O, I, …) is given to it as (O, I·…), a view of the same numbers.
Its rate is matched to AdamW's by the size of a step (Liu et al. 2025, "Muon is scalable for LLM training").
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn


class MuonAndAdamW(torch.optim.Optimizer):
    """Both, stepped together: their groups are this one's."""

    def __init__(self, weights: Sequence[nn.Parameter], rate: float) -> None:
        self._kernels = [weight for weight in weights if weight.ndim > 1]
        self._views = [_matrix(weight.detach()) for weight in self._kernels]
        muon = torch.optim.Muon(self._views, lr=rate, weight_decay=0.0, adjust_lr_fn="match_rms_adamw")
        adamw = torch.optim.AdamW([w for w in weights if w.ndim < 2], lr=rate, weight_decay=0.0, betas=(0.9, 0.99))
        super().__init__(weights, {"lr": rate})
        self._parts = muon, adamw

    def step(self, closure: Callable[[], float] | None = None) -> Any:
        for kernel, view in zip(self._kernels, self._views, strict=True):
            view.grad = None if kernel.grad is None else _matrix(kernel.grad)
        for part in self._parts:
            for group in part.param_groups:
                group["lr"] = self.param_groups[0]["lr"]
            part.step()


def _matrix(kernel: Tensor) -> Tensor:
    """The kernel as a matrix with a row for each output, a view where its numbers lie channels last."""
    return kernel.movedim(1, -1).flatten(1) if kernel.ndim > 2 else kernel
