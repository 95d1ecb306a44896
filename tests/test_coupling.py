"""Couplings: permutations of the noise and nothing else, of least cost, and within labels."""

from itertools import permutations

import pytest
import torch
from torch import Tensor

from ornstein import coupling
from ornstein.coupling import Coupling, Independent, OptimalTransport


def cost(x: Tensor, noise: Tensor) -> float:
    return float((x - noise).square().sum())


def sort(rows: Tensor) -> Tensor:
    return torch.stack(sorted(rows.flatten(1), key=lambda row: row.tolist()))


@pytest.mark.parametrize("pair", coupling.ALL, ids=repr)
@pytest.mark.parametrize("labelled", [False, True])
def test_noise_is_permuted_within_labels_and_never_at_a_higher_cost(pair: Coupling, labelled: bool) -> None:
    x, noise = torch.randn(40, 2, 3, 3), torch.randn(40, 2, 3, 3)
    labels = torch.randint(4, (40,)) if labelled else None
    paired = pair(x, noise, labels)
    assert torch.equal(sort(paired), sort(noise))
    assert cost(x, paired) <= cost(x, noise)
    for label in [] if labels is None else labels.unique():
        rows = labels == label
        assert torch.equal(sort(paired[rows]), sort(noise[rows]))  # N(0, I) of each class stays what it was


@pytest.mark.parametrize("labels", [None, torch.tensor([0, 1, 0, 0, 1, 0])])
def test_no_permutation_is_cheaper(labels: Tensor | None) -> None:
    for seed in range(5):
        generator = torch.Generator().manual_seed(seed)
        x, noise = (torch.randn(6, 4, generator=generator, dtype=torch.float64) for _ in range(2))
        same = torch.zeros(6) if labels is None else labels
        allowed = [list(p) for p in permutations(range(6)) if torch.equal(same[list(p)], same)]
        assert len(allowed) == (720 if labels is None else 24 * 2)
        best = min(cost(x, noise[p]) for p in allowed)
        assert cost(x, OptimalTransport()(x, noise, labels)) == pytest.approx(best)


def test_on_a_line_order_is_kept() -> None:
    """The map of optimal transport in one dimension: the k-th smallest meets the k-th smallest."""
    x, noise = torch.randn(64, 1), torch.randn(64, 1)
    paired = OptimalTransport()(x, noise)
    assert torch.equal(paired[x[:, 0].argsort()], noise.sort(0).values)


def test_independent_pairs_stay_as_drawn() -> None:
    noise = torch.randn(5, 2)
    assert Independent()(torch.zeros(5, 2), noise) is noise
