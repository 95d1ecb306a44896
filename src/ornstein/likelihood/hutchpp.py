"""Hutch++ (Meyer, Musco, Musco and Woodruff 2021, algorithm 1): the trace on a sketched range exactly, the rest by probes."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ornstein.likelihood.trace import Field, Probes, graph, vjps


@dataclass(frozen=True)
class HutchPP:
    """tr(QᵀAQ) + mean over g of gᵀ(I − QQᵀ)A(I − QQᵀ)g, A = Jᵀ, with Q an orthonormal basis of the range of A on `rank` signs.

    g are `rank` further signs, so one sample costs 3·rank vector–Jacobian products. It is far better than as many probes of
    Hutchinson where a few directions carry the trace, and no better where J is near a multiple of the identity, which signs
    take exactly. Where 2·rank is not below the dimension use ExactTrace. Raises ValueError for fewer than one. Source: Meyer,
    Musco, Musco and Woodruff 2021, algorithm 1.
    """

    rank: int = 4
    samples: int = 2
    exact: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if min(self.rank, self.samples) < 1:
            raise ValueError(f"HutchPP: rank = {self.rank} and samples = {self.samples} must be at least 1")

    def __call__(self, field: Field, y: Tensor, probes: Probes) -> tuple[Tensor, Tensor]:
        leaf, value = graph(field, y)
        return value.detach(), torch.stack([self._sample(value, leaf, probes, i) for i in range(self.samples)])

    def _sample(self, value: Tensor, leaf: Tensor, probes: Probes, i: int) -> Tensor:
        rank = min(self.rank, leaf[0].numel())
        first = 2 * self.rank * i
        signs = torch.stack([torch.where(probes(first + k) < 0, -1.0, 1.0) for k in range(2 * rank)]).to(leaf)

        def transposed(vectors: Tensor) -> Tensor:  # A on columns (B, D, K)
            shaped = vectors.movedim(2, 0).reshape(-1, *leaf.shape)
            return vjps(value, leaf, shaped).flatten(2).movedim(0, 2)

        sketch, rest = signs.flatten(2).movedim(0, 2).split(rank, 2)
        q = torch.linalg.qr(transposed(sketch)).Q
        rest = rest - q @ (q.mT @ rest)
        return (q * transposed(q)).sum((1, 2)) + (rest * transposed(rest)).sum((1, 2)) / rank
