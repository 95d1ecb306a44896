"""Estimators of a divergence on fields whose divergence is known."""

import pytest
import torch
from torch import Tensor

from ornstein import likelihood
from ornstein.likelihood import trace as traces
from ornstein.noise import PerSampleNoise, repeat

F64 = torch.float64


def probes_for(y: Tensor, seed: int = 0) -> traces.Probes:
    return lambda k: repeat(PerSampleNoise(seed), k)(y, 0.5, 0.5)


def matrix(dim: int) -> Tensor:
    return torch.randn(dim, dim, generator=torch.Generator().manual_seed(3), dtype=F64)


def test_exact_on_a_field_that_is_not_linear_and_not_a_vector() -> None:
    y = torch.randn(5, 2, 3, dtype=F64)

    def field(y: Tensor) -> Tensor:
        return (y**3).roll(1, 2) * y + y[:, :1].exp()

    value, found = likelihood.ExactTrace()(field, y, probes_for(y))
    jacobian = torch.stack([torch.func.jacrev(lambda z: field(z[None])[0])(row).reshape(6, 6) for row in y])
    assert torch.allclose(found[0], jacobian.diagonal(dim1=1, dim2=2).sum(1), rtol=1e-12)
    assert torch.equal(value, field(y))


def test_chunks_and_operations_that_cannot_be_batched(monkeypatch: pytest.MonkeyPatch) -> None:
    class Cube(torch.autograd.Function):
        """Its derivative looks at values, which a batched product cannot."""

        @staticmethod
        def forward(ctx, y):  # type: ignore[no-untyped-def]
            ctx.save_for_backward(y)
            return y**3

        @staticmethod
        def backward(ctx, grad):  # type: ignore[no-untyped-def]
            (y,) = ctx.saved_tensors
            return 3 * y**2 * grad if bool((grad.abs() >= 0).all()) else grad

    y = torch.randn(4, 5, dtype=F64)
    monkeypatch.setattr(traces, "CHUNK", 40)  # two elements at a time
    _, found = likelihood.ExactTrace()(Cube.apply, y, probes_for(y))
    assert torch.allclose(found[0], (3 * y**2).sum(1))


@pytest.mark.parametrize("trace", [t for t in likelihood.TRACES if not t.exact], ids=str)
def test_estimates_are_unbiased_with_the_stated_variance(trace: likelihood.Trace) -> None:
    a = matrix(6)
    y = torch.zeros(4000, 6, dtype=F64)
    _, found = trace(lambda y: y @ a.T, y, probes_for(y))
    assert found.shape == (trace.samples, 4000)
    values, truth = found.flatten(), float(a.trace())
    assert abs(float(values.mean()) - truth) < 4 * float(values.std()) / len(values) ** 0.5
    if isinstance(trace, likelihood.Hutchinson):
        s = (a + a.T) / 2
        expected = 2 * float(s.square().sum() - (0 if trace.gaussian else s.diagonal().square().sum()))
        assert float(values.var()) == pytest.approx(expected, rel=0.1)
    assert abs(float(torch.corrcoef(found)[0, 1])) < 0.06  # samples are independent


def test_hutchpp_takes_a_range_of_low_rank_exactly() -> None:
    left, right = matrix(20)[:, :3], matrix(20)[:, 3:6]
    y = torch.zeros(7, 20, dtype=F64)
    _, found = likelihood.HutchPP(rank=3)(lambda y: y @ (left @ right.T).T, y, probes_for(y))
    assert torch.allclose(found, (left.T @ right).trace(), atol=1e-9)
    small = torch.zeros(2, 2, dtype=F64)  # a rank above the dimension
    _, found = likelihood.HutchPP(rank=3)(lambda y: y @ matrix(2).T, small, probes_for(small))
    assert torch.allclose(found, matrix(2).trace())


def test_a_constant_field_has_no_divergence() -> None:
    y = torch.randn(3, 2)
    for trace in likelihood.TRACES:
        _, found = trace(lambda y: torch.ones_like(y) + 0 * y.detach() + 0 * y, y, probes_for(y))
        assert torch.equal(found, torch.zeros_like(found))
