"""The divergence ∇·v of a field at y: what every estimator of it gives, and the exact one."""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from ornstein.errors import memory_is_short

Field = Callable[[Tensor], Tensor]
Probes = Callable[[int], Tensor]
CHUNK = 1 << 22  # elements of vector–Jacobian products made at once


class Trace(Protocol):
    """An unbiased estimator of ∇·v: `samples` independent values of it at y (B, ...).

    Called with the field, y, and `probes`, where probes(k) is the k-th draw of standard normals shaped as y, it gives v(y) and
    the values (samples, B). `exact` tells that there is no chance in them.
    """

    @property
    def samples(self) -> int:
        """How many independent values a call gives."""
        ...

    @property
    def exact(self) -> bool:
        """Whether there is no chance in the values."""
        ...

    def __call__(self, field: Field, y: Tensor, probes: Probes) -> tuple[Tensor, Tensor]: ...


@dataclass(frozen=True)
class ExactTrace:
    """∇·v = Σ_j e_jᵀ J e_j: one vector–Jacobian product for each element of an item."""

    samples: ClassVar[int] = 1
    exact: ClassVar[bool] = True

    def __call__(self, field: Field, y: Tensor, probes: Probes) -> tuple[Tensor, Tensor]:
        leaf, value = graph(field, y)
        size = math.prod(y.shape[1:])
        total = y.new_zeros(len(y))
        for elements in torch.arange(size, device=y.device).split(max(1, CHUNK // y.numel())):
            units = torch.nn.functional.one_hot(elements, size).to(y)
            products = vjps(value, leaf, units[:, None].expand(-1, len(y), -1).reshape(-1, *y.shape))
            total = total + (products.flatten(2) * units[:, None]).sum((0, 2))
        return value.detach(), total[None]


def graph(field: Field, y: Tensor) -> tuple[Tensor, Tensor]:
    """y as a leaf and v(y) with its graph."""
    with torch.inference_mode(False), torch.enable_grad():
        leaf = y.clone().detach().requires_grad_()
        return leaf, field(leaf)


def vjps(value: Tensor, leaf: Tensor, vectors: Tensor) -> Tensor:
    """Jᵀv for vectors (K, *shape of y): (K, *shape of y). All at once where the network's operations allow it."""
    if len(vectors) > 1:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # operations without a rule for batches are looped over, only slower
                return torch.autograd.grad(
                    value, leaf, vectors, retain_graph=True, is_grads_batched=True, materialize_grads=True
                )[0]
        except RuntimeError as error:
            if memory_is_short(error):
                raise
    each = (torch.autograd.grad(value, leaf, v, retain_graph=True, materialize_grads=True)[0] for v in vectors)
    return torch.stack(list(each))
