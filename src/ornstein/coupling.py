"""Couplings of noise and data in training: a coupling re-pairs the noise of a batch, and draws none.

A coupling permutes rows, so both marginals of a batch stay as they are: data still goes to N(0, I), also class by class where
pairs are made within classes. What changes is the law of the pair (x, ε), and with it what a network learns:

- every quantity is regressed to E[· | x_t] under the coupling. `NetworkDenoiser`'s estimates remain consistent with each other
  (α·clean + σ·noise = x_t), and the ODE `dx = (α̇·E[x|x_t] + σ̇·E[ε|x_t]) dt` still carries N(0, I) to the data;
- ε is no longer independent of x, so E[ε|x_t] = −σ·∇log p_t fails. Scores, stochastic samplers, Langevin corrections and
  guidance by scores rest on it: for a model that was trained with a coupling other than `Independent` they are not exact.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from ornstein.extras import library


class Coupling(Protocol):
    """coupling(x, noise, labels) -> the rows of noise (B, ...) in the order in which they meet those of x (B, ...)."""

    def __call__(self, x: Tensor, noise: Tensor, labels: Tensor | None = None) -> Tensor: ...


@dataclass(frozen=True)
class Independent:
    """ε_π(i) = ε_i, noise as it was drawn: the coupling of diffusion, under which E[ε | x_t] = −σ·∇log p_t."""

    def __call__(self, x: Tensor, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        return noise


@dataclass(frozen=True)
class Paired:
    """ε_π(i) = the noise that item i comes with: `ornstein reflow` (Liu et al. 2023, "Flow straight and fast", algorithm 1)."""

    def __call__(self, x: Tensor, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        return noise


@dataclass(frozen=True)
class OptimalTransport:
    """The permutation of least Σ ‖x_i − ε_π(i)‖², exactly, within each batch (Pooladian et al. 2023; Tong et al. 2024).

    With labels (B,), pairs are made within each label: otherwise the noise of a class would no longer be N(0, I), and sampling
    that class from N(0, I) would be wrong (Cheng and Schwing 2025, section 3, whose penalty is infinite here). Uses
    `scipy.optimize.linear_sum_assignment` (the extra `ot`): O(n³) for the n rows of a batch and label.

    >>> import torch
    >>> from ornstein import coupling
    >>> coupling.OptimalTransport()(torch.tensor([[0.0], [5.0]]), torch.tensor([[4.0], [1.0]])).flatten()
    tensor([1., 4.])
    """

    def __call__(self, x: Tensor, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        order = torch.arange(len(x), device=x.device)
        groups = [order.clone()] if labels is None else [(labels == label).nonzero()[:, 0] for label in labels.unique()]
        for rows in groups:
            order[rows] = rows[_assignment(x[rows], noise[rows])]
        return noise[order]


def _assignment(x: Tensor, noise: Tensor) -> Tensor:
    assign = library("scipy.optimize", "the optimal-transport coupling").linear_sum_assignment
    products = x.flatten(1).double() @ noise.flatten(1).double().T  # ‖x − ε‖² up to terms that no permutation changes
    _, columns = assign(products.cpu().numpy(), maximize=True)
    return torch.from_numpy(columns).to(x.device)


ALL: tuple[Any, ...] = (Independent(), OptimalTransport())
