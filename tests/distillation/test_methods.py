"""Training of flow maps in closed form: at the exact map every method's target is the map, loss and gradient vanish."""

from typing import Any

import pytest
import torch
from torch import Tensor

from ornstein import distillation, exact, path, target
from ornstein.distillation import Distillation, FlowMapObjective, Jumps
from ornstein.flowmap import NetworkFlowMap
from ornstein.objective import Draw, Objective
from ornstein.path import Path
from ornstein.preconditioning import Identity, UnitVariance
from ornstein.target import Target

F64 = torch.float64
MEAN = torch.tensor([0.7, -1.2, 0.3], dtype=F64)
VARIANCE = [0.5, 1.5, 0.2]
every_path = pytest.mark.parametrize("p", path.ALL, ids=repr)
every_method = pytest.mark.parametrize("method", distillation.ALL, ids=repr)


class Exact(torch.nn.Module):
    """The flow map of a Gaussian as a network that predicts a target, with a weight whose right value is 0."""

    def __init__(self, p: Path, quantity: Target) -> None:
        super().__init__()
        self.gaussian, self.quantity = exact.Gaussian(MEAN, VARIANCE, p), quantity
        self.wrong = torch.nn.Parameter(torch.zeros((), dtype=F64))

    def forward(self, x: Tensor, t: Tensor, condition: Any, aim: Tensor) -> Tensor:
        p = self.gaussian.path
        alpha, sigma = p.levels(t, x)
        a, b = self.quantity(path.Point(alpha, sigma, alpha, sigma))  # the derivatives are not used
        return self.gaussian(x, t, t - aim).of((a, b)) + self.wrong * (x + aim[:, None]).sin()


class Small(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer = torch.nn.Linear(5, 16, dtype=F64), torch.nn.Linear(16, 3, dtype=F64)

    def forward(self, x: Tensor, t: Tensor, condition: Any, aim: Tensor) -> Tensor:
        return self.outer(self.inner(torch.cat([x, t[:, None], aim[:, None]], 1)).tanh())


def times() -> tuple[Tensor, Tensor, Tensor]:
    return (
        torch.tensor([0.9003, 0.6004, 0.5003, 0.8006], dtype=F64),  # between the steps of a table
        torch.tensor([0.3004, 0.5003, 0.1006, 0.2003], dtype=F64),
        torch.tensor([0.5, 0.3, 0.9, 0.01], dtype=F64),
    )


@every_path
@every_method
def test_the_target_at_the_exact_map_is_the_exact_map(p: Path, method: Distillation) -> None:
    student = NetworkFlowMap(Exact(p, target.V()), p, target.V())
    gaussian = exact.Gaussian(MEAN, VARIANCE, p)
    t, s, u = times()
    x = gaussian.draw(4, t)

    def field(x: Tensor, t: Tensor) -> Tensor:
        clean, noise = gaussian(x, t)
        return noise - clean

    right, q = gaussian(x, t, s), student.predict(x, t)  # as if the pair were the mean: the tangent is V then
    with torch.no_grad():
        made = method(student, field, Jumps(x, t, s, u, q))
    assert (made - (right.noise - right.clean)).abs().max() < 1e-8 * right.noise.abs().max().clamp(min=1)


@pytest.mark.parametrize("p", [path.Linear(), path.Trigonometric(), path.EDM()], ids=repr)
@pytest.mark.parametrize("method", [m for m in distillation.ALL if not getattr(m, "conditional", False)], ids=repr)
def test_loss_and_gradient_vanish_at_the_exact_map(p: Path, method: Distillation) -> None:
    network = Exact(p, target.V())
    student = NetworkFlowMap(network, p, target.V())
    gaussian = exact.Gaussian(MEAN, VARIANCE, p)
    objective = FlowMapObjective(Objective(p, target.V()), method, to_data=0.25)
    draw = objective.base.draw(gaussian.draw(16), torch.Generator().manual_seed(0))
    numbers = torch.rand(16, 2, dtype=F64)
    jumping = slice(1, None, 2)
    errors = objective.error(student, draw, jumping, numbers, gaussian)
    assert errors.shape == (16,)
    assert errors.max() < 1e-13
    (gradient,) = torch.autograd.grad(errors.mean(), network.wrong)
    assert gradient.abs() < 1e-6
    network.wrong.data.fill_(0.1)
    assert objective.error(student, draw, jumping, numbers, gaussian).mean() > 1e-4


@every_path
def test_rows_on_the_diagonal_without_a_teacher_are_the_base(p: Path) -> None:
    student = NetworkFlowMap(Small(), p, target.V(), UnitVariance(0.5))
    objective = FlowMapObjective(Objective(p, target.V()), distillation.Progressive())
    draw = objective.base.draw(torch.randn(8, 3, dtype=F64), torch.Generator().manual_seed(0))
    before = draw.q.clone()
    right = objective.base.error(student.predict, draw)
    for first in (0, 1):
        made = objective.error(student, draw, slice(first, None, 2), torch.rand(8, 2))
        assert torch.allclose(made[1 - first :: 2], right[1 - first :: 2], rtol=1e-12)
        assert not torch.allclose(made[first::2], right[first::2], rtol=1e-3)
    assert torch.equal(draw.q, before)
    assert (
        len(objective.error(student, Draw(*(part[:1] for part in draw[:4])), slice(1, None, 2), torch.rand(1, 2))) == 1
    )


def test_jumps_of_an_average_are_put_together() -> None:
    p = path.Linear()
    student, other = (NetworkFlowMap(Small(), p, target.V(), UnitVariance(0.5)) for _ in range(2))
    objective = FlowMapObjective(Objective(p, target.V()), distillation.Progressive())
    draw = objective.base.draw(torch.randn(8, 3, dtype=F64), torch.Generator().manual_seed(0))
    rows, numbers = slice(1, None, 2), torch.rand(8, 2, dtype=F64)
    own, from_other = (objective.error(student, draw, rows, numbers, source=source) for source in (None, other))
    assert torch.equal(own[::2], from_other[::2])
    assert not torch.allclose(own[1::2], from_other[1::2])
    assert torch.equal(own, objective.error(student, draw, rows, numbers, source=student))


def test_a_conditional_tangent_is_right_in_the_mean() -> None:
    p = path.Linear()
    student = NetworkFlowMap(Small(), p, target.Velocity())
    t, s, u = times()
    x, pair = torch.randn(4, 3, dtype=F64), torch.randn(2, 4, 3, dtype=F64)
    method = distillation.Eulerian(conditional=True)
    low, high, middle = (
        method(student, student.slope, Jumps(x, t, s, u, value))  # type: ignore[arg-type]
        for value in (pair[0], pair[1], pair.mean(0))
    )
    assert torch.allclose((low + high) / 2, middle, atol=1e-12)


@every_path
@pytest.mark.parametrize("preconditioning", [Identity(), UnitVariance(0.5)], ids=repr)
@pytest.mark.parametrize("quantity", [target.V(), target.Velocity(), target.Clean(), target.EDM(0.5)], ids=repr)
def test_derivatives_of_the_slope_against_differences(p: Path, preconditioning: Any, quantity: Target) -> None:
    student = NetworkFlowMap(Small(), p, quantity, preconditioning)
    t, s, _ = times()
    x, direction = torch.randn(4, 3, dtype=F64), torch.randn(4, 3, dtype=F64)
    one, h = torch.ones(4, dtype=F64), 1e-6
    for dx, dt, ds in ((direction, None, None), (None, one, None), (None, None, one), (direction, 0.3 * one, -one)):
        value, rate = student.slope_rate(x, t, s, dx, dt, ds)
        steps = [torch.zeros_like(x) if dx is None else dx, *(0 * one if d is None else d for d in (dt, ds))]
        ahead, behind = (
            student.slope(*(v + sign * h * d for v, d in zip((x, t, s), steps, strict=True))) for sign in (1, -1)
        )
        difference = (ahead - behind) / (2 * h)
        assert torch.allclose(value, student.slope(x, t, s), rtol=1e-10)
        assert (rate - difference).abs().max() < 1e-6 * difference.abs().max().clamp(min=1)


def test_a_part_of_the_way_is_inside_it() -> None:
    with pytest.raises(ValueError, match=r"part = 1.0 must lie between 0 and 1"):
        distillation.Progressive(1.0)


def test_aims_at_the_data() -> None:
    """With to_data = 1 every jump is aimed at the data: a consistency model."""
    seen = []

    class Spy:
        forward_mode = False

        def __call__(self, student: NetworkFlowMap, field: Any, rows: Jumps) -> Tensor:
            seen.append(rows.s)
            return student.slope(rows.x_t, rows.t, rows.s)

    p = path.Linear()
    objective = FlowMapObjective(Objective(p, target.Velocity()), Spy(), to_data=1.0)
    student = NetworkFlowMap(Small(), p, target.Velocity())
    x = torch.randn(8, 3, dtype=F64)
    draw = objective.base.draw(x, torch.Generator().manual_seed(0))
    errors = objective.error(student, draw, slice(0, None, 2), torch.rand(8, 2))
    assert seen[0].max() < 1e-11
    assert errors[::2].max() < 1e-20  # what it is asked is what it says
