"""Runge–Kutta tables against torchdiffeq's fixed-step methods on the same ODE, dy/ds = slope. Needs the extra `peers`."""

import pytest
import torch
from torch import Tensor

from ornstein import exact, path, sample, solvers
from ornstein.chart import PathTime
from ornstein.solvers import runge_kutta as rk

torchdiffeq = pytest.importorskip("torchdiffeq", reason="needs the extra `peers`")
pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore")]
F64 = torch.float64


@pytest.mark.parametrize(
    ("method", "tableau"),
    [
        ("euler", rk.EULER),
        ("midpoint", rk.MIDPOINT),
        ("heun2", rk.HEUN),
        ("heun3", rk.HEUN3),
        ("rk4", rk.THREE_EIGHTHS),
    ],
)
@pytest.mark.parametrize("p", [path.Linear(), path.VariancePreserving(), path.Cosine()], ids=str)
def test_fixed_steps(p: path.Path, method: str, tableau: rk.Tableau) -> None:
    """torchdiffeq's "rk4" is the 3/8 rule, and its Heun methods are the two-stage and Heun's third-order ones."""
    model = exact.GaussianMixture([0.3, 0.7], torch.tensor([[-1.0, 0.4], [1.0, 0.1]], dtype=F64), 0.05, p)
    times = torch.tensor([0.9, 0.7, 0.55, 0.3, 0.1], dtype=F64)
    start = torch.randn(6, 2, dtype=F64)

    def velocity(t: Tensor, x: Tensor) -> Tensor:
        return model(x, t).velocity(p.at(t, x))

    try:
        expected = torchdiffeq.odeint(velocity, start, times, method=method)[-1]
    except ValueError as error:
        pytest.skip(str(error))
    found = sample(model, start=start, solver=solvers.RungeKutta(tableau, PathTime()), grid=times)
    assert torch.allclose(found, expected, rtol=1e-9, atol=1e-9)
