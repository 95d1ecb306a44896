"""A measurement: y = A(x) + noise, for any differentiable A."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

Operator = Callable[[Tensor], Tensor]
Linear = Callable[[Tensor], Tensor]


class Linearised(NamedTuple):
    """A measurement seen from one x: y − A(x), and products with the Jacobian of A and with its transpose."""

    residual: Tensor  # (B, *measured)
    forward: Linear  # (B, *shape) -> (B, *measured)
    transpose: Linear  # (B, *measured) -> (B, *shape)


@dataclass(frozen=True, eq=False)
class Measurement:
    """y = operator(x) + noise·ε with ε ~ N(0, I).

    `operator` is any function of a batch (B, *shape) that treats its rows alone and that autograd can follow, linear or not
    (see `operators`). y is one measurement for all rows, or (B, *measured) with one for each. `noise` is a standard deviation
    in the units of y. Raises ValueError for a noise that is negative or not finite.
    """

    operator: Operator
    y: Tensor
    noise: float

    def __post_init__(self) -> None:
        if not 0 <= self.noise < torch.inf:
            raise ValueError(f"Measurement: noise = {self.noise} must be a standard deviation, 0 or more")

    def for_rows(self, rows: slice, x: Tensor) -> "Measurement":
        """The measurement of some rows of a batch x, where each row has one of its own."""
        shape = self.operator(x[:1]).shape[1:]
        per_row = self.y.ndim == len(shape) + 1 and self.y.shape[1:] == shape and len(self.y) == len(x)
        return replace(self, y=self.y[rows]) if per_row else self

    def at(self, x: Tensor) -> Linearised:
        """The measurement linearised at x (B, *shape), where gradients are on; nothing reaches back beyond x.

        Raises ValueError for a y that does not fit what the operator gives, or an operator that autograd cannot follow.
        """
        x = x.detach().requires_grad_()
        seen = self.operator(x)
        if not seen.requires_grad:
            raise ValueError(
                f"the gradient of {self.operator} is lost: use operations of torch that autograd can follow"
            )
        y = self.y.clone().to(seen)  # a clone: y may have been made in inference mode
        y = y if y.shape[1:] == seen.shape[1:] else y[None]
        if y.shape[1:] != seen.shape[1:] or len(y) not in (1, len(seen)):
            raise ValueError(
                f"y has shape {tuple(self.y.shape)}, but {self.operator} turns {tuple(x.shape)} into {tuple(seen.shape)}"
            )
        probe = torch.zeros_like(seen, requires_grad=True)
        (back,) = torch.autograd.grad(seen, x, probe, create_graph=True)  # linear in the probe

        def forward(w: Tensor) -> Tensor:
            return torch.autograd.grad(back, probe, w, retain_graph=True)[0]

        def transpose(v: Tensor) -> Tensor:
            return torch.autograd.grad(seen, x, v, retain_graph=True)[0]

        return Linearised((y - seen).detach(), forward, transpose)
