"""Every preconditioning on every path: elementwise, finite, one clock that rises, and what each promises itself."""

import pytest
import torch

from ornstein import path, preconditioning
from ornstein.path import Path
from ornstein.preconditioning import Identity, Preconditioning, UnitVariance

F64 = torch.float64


@pytest.mark.parametrize("p", path.ALL, ids=str)
@pytest.mark.parametrize("precondition", preconditioning.ALL, ids=str)
def test_c_in_is_positive_and_c_noise_rises_and_neither_has_an_infinite_end(
    p: Path, precondition: Preconditioning
) -> None:
    t = torch.linspace(0, 1, 501, dtype=F64)
    c_in, c_noise = precondition(p, t)
    assert c_noise.shape == t.shape
    assert bool(c_noise.isfinite().all())
    assert bool((c_noise.diff() > 0).all())
    assert 0 <= float(c_noise[0]) < float(c_noise[-1]) <= 1
    if c_in is not None:
        assert c_in.shape == t.shape
        assert bool((c_in.isfinite() & (c_in > 0)).all())
    some_in, some_noise = precondition(p, t[37])
    assert float(some_noise) == pytest.approx(float(c_noise[37]), rel=1e-14)
    assert some_in is c_in is None or float(some_in) == pytest.approx(float(c_in[37]), rel=1e-12)  # type: ignore[arg-type,index]


@pytest.mark.parametrize("p", path.ALL, ids=str)
def test_unit_variance_gives_inputs_of_variance_1_and_an_angle(p: Path) -> None:
    std, t = 0.37, torch.linspace(0, 1, 11, dtype=F64)
    c_in, c_noise = UnitVariance(std)(p, t)
    assert c_in is not None
    variance = (p.alpha(t) * std) ** 2 + p.sigma(t) ** 2
    assert torch.allclose(c_in**2 * variance, torch.ones_like(t), rtol=1e-12)
    assert torch.allclose(torch.tan(c_noise[:-1] * torch.pi / 2), (p.sigma(t) / p.alpha(t))[:-1], rtol=1e-9)


def test_identity_leaves_x_t_and_t_as_they_are() -> None:
    t = torch.rand(5, dtype=F64)
    assert Identity()(path.EDM(), t) == (None, t)
