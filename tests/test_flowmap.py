"""Flow maps against closed forms: the pair, the boundary, the three identities, jumps of any length, one U for all paths."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import ornstein
from ornstein import exact, path, solvers, target
from ornstein.denoiser import NetworkDenoiser
from ornstein.flowmap import FlowMap, FlowPoint, NetworkFlowMap, Solved, jump, time_of
from ornstein.noise import PerSampleNoise
from ornstein.path import Path
from ornstein.preconditioning import Identity, Preconditioning, UnitVariance
from ornstein.table import Table

F64 = torch.float64
MEAN = torch.tensor([0.7, -1.2, 0.3], dtype=F64)
ROOT = torch.tensor([[1.0, 0.2, -0.4], [0.0, 0.6, 0.5], [0.0, 0.0, 0.3]], dtype=F64)
GAUSSIANS: dict[str, Callable[[Path], exact.Gaussian]] = {
    "number": lambda p: exact.Gaussian(MEAN, 0.8, p),
    "variances": lambda p: exact.Gaussian(MEAN, [0.5, 1.5, 0.2], p),
    "covariance": lambda p: exact.Gaussian(MEAN, ROOT @ ROOT.T, p),
    "flat": lambda p: exact.Gaussian(MEAN, [0.5, 0.0, 0.2], p),
}
every_path = pytest.mark.parametrize("p", path.ALL, ids=repr)
every_gaussian = pytest.mark.parametrize("make", GAUSSIANS.values(), ids=GAUSSIANS.keys())


def mixture(p: Path) -> exact.GaussianMixture:
    means = torch.tensor([[0.7, -1.2, 0.3], [-1.0, 0.4, 0.9]], dtype=F64)
    return exact.GaussianMixture(torch.tensor([0.3, 0.7], dtype=F64), means, 0.3, p)


class Aimed(torch.nn.Module):
    """A small network that takes an aim."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(5, 3, dtype=F64)

    def forward(self, x: Tensor, t: Tensor, condition: Tensor | None, aim: Tensor) -> Tensor:
        return self.linear(torch.cat([x, t[:, None], aim[:, None]], 1)).tanh()


def maps(p: Path) -> dict[str, tuple[FlowMap | exact.Gaussian, float]]:
    """Flow maps with the error that is allowed to each, of identities that only the exact one has."""
    found: dict[str, tuple[FlowMap | exact.Gaussian, float]] = {
        name: (make(p), 1e-12) for name, make in GAUSSIANS.items()
    }
    return found | {"solved": (Solved(mixture(p), 8), 1e-4)}


def points(p: Path, t: float, count: int = 5) -> Tensor:
    return mixture(p).draw(count, t, torch.Generator().manual_seed(1))


def largest(difference: Tensor, scale: Tensor) -> float:
    return float(difference.detach().abs().max() / scale.detach().abs().max().clamp(min=1))


@every_path
@pytest.mark.parametrize(("t", "s"), [(0.9, 0.2), (0.5, 0.5), (0.7, 0.0), (1.0, 0.3), (1.0, 0.0)])
def test_the_pair_is_on_x_t_whatever_the_aim(p: Path, t: float, s: float) -> None:
    x = points(p, t)
    alpha, sigma = p.levels(t, x)
    for name, (flow_map, _) in maps(p).items():
        clean, noise = flow_map(x, t, s)
        assert largest(alpha * clean + sigma * noise - x, x) < 1e-12, name


@every_path
@pytest.mark.parametrize("network", [Identity(), UnitVariance(0.5)], ids=repr)
def test_the_pair_of_a_network_is_on_x_t(p: Path, network: Preconditioning) -> None:
    x = points(p, 0.8)
    alpha, sigma = p.levels(0.8, x)
    made = NetworkFlowMap(Aimed(), p, target.Velocity(), network)
    near, far = made(x, 0.8, 0.7), made(x, 0.8, 0.1)
    for clean, noise in (near, far, made(x, 0.8)):
        assert largest(alpha * clean + sigma * noise - x, x) < 1e-12
    assert not torch.equal(near.clean, far.clean)
    assert torch.equal(made(x, 0.8).clean, made(x, 0.8, 0.8).clean)


@every_path
def test_the_map_to_its_own_time_moves_nothing(p: Path) -> None:
    for t in (0.1, 0.6, 1.0):
        x = points(p, t)
        for name, (flow_map, _) in maps(p).items():
            assert largest(jump(flow_map, p, x, t, t) - x, x) < 1e-12, name


@every_path
def test_the_diagonal_is_the_denoiser_and_its_limit(p: Path) -> None:
    for t in (0.05, 0.5, 1.0):
        x = points(p, t)
        for name, (flow_map, _) in maps(p).items():
            plain = flow_map(x, t)
            for s, near in ((t, 1e-10), (t - 1e-13, 1e-9), (t - 1e-7, 1e-3)):
                aimed = flow_map(x, t, s)
                assert torch.isfinite(aimed.clean).all(), name
                assert largest(aimed.clean - plain.clean, plain.clean) < near, (name, t, s)
                assert largest(aimed.noise - plain.noise, plain.noise) < near, (name, t, s)


@every_path
@every_gaussian
def test_the_gaussian_map_is_the_flow_in_closed_form(p: Path, make: Callable[[Path], exact.Gaussian]) -> None:
    gaussian = make(p)
    for t, s in ((1.0, 0.0), (0.9, 0.4), (0.3, 0.8), (0.6, 1e-4)):
        x = gaussian.draw(6, t)
        flown = gaussian.flow(x, t, s)
        assert largest(jump(gaussian, p, x, t, s) - flown, flown) < 1e-12


@pytest.mark.parametrize("p", [path.Linear(), path.VariancePreserving(), path.VarianceExploding()], ids=repr)
def test_a_solved_map_is_of_fourth_order(p: Path) -> None:
    gaussian = exact.Gaussian(MEAN, [0.5, 1.5, 0.2], p)
    x = gaussian.draw(6, 1.0)
    right = gaussian(x, 1.0, 0.0).clean
    coarse, fine = (largest(Solved(gaussian, steps)(x, 1.0, 0.0).clean - right, right) for steps in (8, 32))
    assert fine < 2e-5
    assert 3.5 < math.log(coarse / fine, 4) < 5


@every_path
def test_every_row_has_times_of_its_own(p: Path) -> None:
    t, s = torch.tensor([0.9, 0.5, 1.0], dtype=F64), torch.tensor([0.2, 0.5, 0.0], dtype=F64)
    x = points(p, 0.5, 3)
    for name, (flow_map, _) in maps(p).items():
        together = flow_map(x, t, s)
        for i in range(3):
            alone = flow_map(x[i : i + 1], float(t[i]), float(s[i]))
            assert largest(together.clean[i] - alone.clean[0], alone.clean) < 1e-12, name


@every_path
def test_the_semigroup(p: Path) -> None:
    t, u, s = 0.95, 0.6, 0.1
    x = points(p, t)
    for name, (flow_map, error) in maps(p).items():
        once = jump(flow_map, p, x, t, s)
        twice = jump(flow_map, p, jump(flow_map, p, x, t, u), u, s)
        assert largest(once - twice, once) < 10 * error, name


def slope(flow_map: FlowMap | exact.Gaussian, p: Path, y: Tensor, tau: Tensor, rho: Tensor) -> Tensor:
    """U(y, τ, ρ)."""
    t, s = time_of(p, tau), time_of(p, rho)
    clean, noise = flow_map(y * FlowPoint(p, t, y).scale, t, s)
    return noise - clean


@every_path
@every_gaussian
def test_the_split_and_its_two_limits(p: Path, make: Callable[[Path], exact.Gaussian]) -> None:
    gaussian = make(p)
    tau, rho = (torch.full((4,), value, dtype=F64) for value in (0.8, 0.3))
    y = torch.randn(4, 3, dtype=F64)
    whole = slope(gaussian, p, y, tau, rho)
    for part in (0.05, 0.5, 0.9):
        kappa = tau + part * (rho - tau)
        first = slope(gaussian, p, y, tau, kappa)
        second = slope(gaussian, p, y + (kappa - tau)[:, None] * first, kappa, rho)
        assert largest(part * first + (1 - part) * second - whole, whole) < 1e-11
    marginal = slope(gaussian, p, y, tau, tau)
    h = 1e-5  # central differences along dy = V dτ, and in ρ
    ahead, behind = (slope(gaussian, p, y + sign * h * marginal, tau + sign * h, rho) for sign in (1, -1))
    eulerian = marginal - 0.5 * (ahead - behind) / (2 * h)
    assert largest(eulerian - whole, whole) < 1e-8
    end = y + (rho - tau)[:, None] * whole
    change = (slope(gaussian, p, y, tau, rho + h) - slope(gaussian, p, y, tau, rho - h)) / (2 * h)
    lagrangian = slope(gaussian, p, end, rho, rho) + 0.5 * change
    assert largest(lagrangian - whole, whole) < 1e-8


def test_one_slope_serves_all_paths() -> None:
    tau, rho = (torch.full((4,), value, dtype=F64) for value in (0.7, 0.2))
    y = torch.randn(4, 3, dtype=F64)
    for make in GAUSSIANS.values():
        found = [slope(make(p), p, y, tau, rho) for p in path.ALL]
        for other in found[1:]:
            assert largest(other - found[0], found[0]) < 1e-11  # the inverse of some paths is a bisection


@every_path
@every_gaussian
@pytest.mark.parametrize("steps", [1, 2, 3, 7])
def test_any_number_of_jumps_is_the_exact_flow(p: Path, make: Callable[[Path], exact.Gaussian], steps: int) -> None:
    gaussian = make(p)
    start = p.levels(1.0, MEAN[None])[1] * torch.randn(5, 3, dtype=F64)
    end = ornstein.sample(gaussian, start=start, solver=solvers.Jump(), steps=steps)
    flown = gaussian.flow(start, 1.0, 0.0)
    assert largest(end - flown, flown) < 1e-12


@every_path
def test_a_table_of_jumps_runs_a_network_as_its_estimates_say(p: Path) -> None:
    made = NetworkFlowMap(Aimed(), p, target.Velocity(), UnitVariance(0.5))
    grid = solvers.Jump().grid(p, 3)
    x = start = p.levels(float(grid[0]), MEAN[None])[1] * torch.randn(4, 3, dtype=F64)
    with torch.no_grad():
        for t, s in zip(grid[:-1].tolist(), grid[1:].tolist(), strict=True):
            x = jump(made, p, x, t, s)
    assert largest(ornstein.sample(made, start=start, solver=solvers.Jump(), grid=grid) - x, x) < 1e-11


@every_path
def test_a_network_that_ignores_its_aim_jumps_as_ddim(p: Path) -> None:
    class Ignores(torch.nn.Module):
        def forward(self, x: Tensor, t: Tensor, condition: object = None, aim: object = None) -> Tensor:
            return (x + t[:, None]).tanh()

    start = points(p, 1.0)
    aimed = NetworkFlowMap(Ignores(), p, target.Velocity(), UnitVariance(0.5))
    plain = NetworkDenoiser(Ignores(), p, target.Velocity(), UnitVariance(0.5))
    jumped = ornstein.sample(aimed, start=start, solver="jump", steps=4)
    assert torch.equal(jumped, ornstein.sample(plain, start=start, solver=solvers.DDIM(), steps=4))


@pytest.mark.parametrize("p", [path.Linear(), path.VariancePreserving(), path.EDM()], ids=repr)
@pytest.mark.parametrize("steps", [1, 3])
def test_restarts_keep_the_law_of_the_data(p: Path, steps: int) -> None:
    gaussian = exact.Gaussian(torch.tensor([0.5], dtype=F64), 0.3, p)
    start = gaussian.draw(40_000, 1.0, torch.Generator().manual_seed(3))
    end = ornstein.sample(gaussian, start=start, solver=solvers.Restart(), steps=steps, noise=PerSampleNoise(4))
    assert abs(float(end.mean()) - 0.5) < 0.02
    assert abs(float(end.var()) / 0.3 - 1) < 0.04


def test_restart_ends_where_its_last_call_aims() -> None:
    gaussian = exact.Gaussian(MEAN, 0.8, path.Linear())
    *_, last, end = ornstein.trajectory(gaussian, shape=(3, 3), solver=solvers.Restart(), steps=4)
    assert torch.equal(end.x, gaussian(last.x, last.t, 0.0).clean)


def test_aims_of_a_table() -> None:
    jumps = solvers.Jump().table(path.Linear(), torch.tensor([1.0, 0.6, 0.0]))
    assert jumps.aims is not None
    assert jumps.aims.tolist() == pytest.approx([0.6, 0.0])
    restarts = solvers.Restart().table(path.Linear(), torch.tensor([1.0, 0.6, 0.0]))
    assert restarts.aims is not None
    assert restarts.aims.tolist() == [0.0, 0.0]
    assert not jumps.stochastic
    assert restarts.stochastic
    assert Table.from_dict(jumps.to_dict()) == jumps
    assert jumps != solvers.DDIM().table(path.Linear(), torch.tensor([1.0, 0.6, 0.0]))
    assert "aimed at 0.6" in str(jumps)
    with pytest.raises(ValueError, match="needs 2 aims"):
        Table(jumps.times, jumps.P, jumps.Q, jumps.R, aims=torch.zeros(3))


@pytest.mark.parametrize("solver", solvers.AIMED, ids=repr)
def test_a_denoiser_without_aims_is_refused(solver: solvers.TableSolver) -> None:
    with pytest.raises(TypeError, match="does not take; give a flow map"):
        ornstein.sample(mixture(path.Linear()), (2, 3), solver=solver)


def test_gradients_pass_through_jumps() -> None:
    gaussian = exact.Gaussian(MEAN, 0.8, path.Linear())
    start = torch.randn(2, 3, dtype=F64, requires_grad=True)
    end = ornstein.sample(gaussian, start=start, solver="jump", steps=2, differentiable=True)
    (slope,) = torch.autograd.grad(end.sum(), start)
    assert largest(slope - 0.8**0.5, slope) < 1e-12
