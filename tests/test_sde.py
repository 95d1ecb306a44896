"""Itô diffusions against their own exact moments, and the residuals of exact, wrong and learned denoisers."""

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from ornstein import exact, path, sde
from ornstein.estimate import Estimate
from ornstein.path import Path, Time
from ornstein.sde import Ito

F64 = torch.float64
every_path = pytest.mark.parametrize("p", path.ALL, ids=repr)


def coins(steps: int, dim: int) -> tuple[Tensor, Callable[[Tensor], Callable[[Tensor, float, float], Tensor]]]:
    """Every sequence of `steps` vectors of ±1: averages over them are exact first and second moments of Euler–Maruyama."""
    table = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=steps * dim)), dtype=F64).reshape(-1, steps, dim)

    def source(grid: Tensor) -> Callable[[Tensor, float, float], Tensor]:
        marks = grid.tolist()

        def noise(x: Tensor, t: float, s: float) -> Tensor:
            i = marks.index(t)
            assert s == marks[i + 1]
            return table[:, i].reshape(x.shape)

        return noise

    return table, source


def affine_moments(sde_: Ito, mean: float, std: float, grid: Tensor) -> tuple[float, float]:
    """Exact mean and variance of Euler–Maruyama for a 1-D SDE with affine drift and additive noise, by unit responses."""
    steps = len(grid) - 1
    x = torch.full((steps + 2, 1), mean, dtype=F64)
    x[1] += std
    marks = grid.tolist()

    def noise(x: Tensor, t: float, s: float) -> Tensor:
        z = torch.zeros_like(x)
        z[2 + marks.index(t)] = 1
        return z

    end = sde.simulate(sde_, x, grid, noise)
    return float(end[0]), float(((end[1:] - end[0]) ** 2).sum())


# --- Euler–Maruyama ---


@pytest.mark.parametrize("way", [1, -1])
def test_ornstein_uhlenbeck_moments(way: int) -> None:
    theta, level, scale, steps = 1.3, 0.4, 0.7, 40
    process = Ito(lambda x, t: -theta * (x - level) * way, lambda x, t: torch.tensor(scale, dtype=F64))
    grid = torch.linspace(0, way * 0.8, steps + 1, dtype=F64)
    found = affine_moments(process, 2.0, 0.5, grid)
    mean, variance, h = 2.0, 0.25, 0.8 / steps
    for _ in range(steps):
        mean, variance = mean - theta * (mean - level) * h, (1 - theta * h) ** 2 * variance + scale**2 * h
    assert math.isclose(found[0], mean, rel_tol=1e-12)
    assert math.isclose(found[1], variance, rel_tol=1e-12)
    # and the recursion is near the process itself
    assert math.isclose(found[0], level + (2 - level) * math.exp(-theta * 0.8), rel_tol=0.03)
    limit = scale**2 / (2 * theta)
    assert math.isclose(found[1], limit + (0.25 - limit) * math.exp(-2 * theta * 0.8), rel_tol=0.03)


def test_geometric_brownian_motion_moments() -> None:
    mu, vol, steps, x = 0.6, 0.9, 10, 1.7
    table, source = coins(steps, 1)
    grid = torch.tensor([0.0, 0.1, 0.15, 0.3, 0.33, 0.5, 0.6, 0.65, 0.8, 0.9, 1.0], dtype=F64)
    process = Ito(lambda x, t: mu * x, lambda x, t: vol * x)
    end = sde.simulate(process, torch.full((len(table), 1), x, dtype=F64), grid, source(grid))
    mean, second = x, x**2
    for h in grid.diff().tolist():
        mean, second = mean * (1 + mu * h), second * ((1 + mu * h) ** 2 + vol**2 * h)
    assert math.isclose(end.mean(), mean, rel_tol=1e-12)
    assert math.isclose((end**2).mean(), second, rel_tol=1e-12)
    assert math.isclose(mean, x * math.exp(mu), rel_tol=0.03)
    assert math.isclose(second, x**2 * math.exp(2 * mu + vol**2), rel_tol=0.2)


def test_time_enters_drift_and_diffusion_at_the_start_of_each_step() -> None:
    grid = torch.tensor([0.0, 0.5, 2.0], dtype=F64)
    process = Ito(lambda x, t: torch.full_like(x, float(t) + 1), lambda x, t: torch.tensor(float(t) + 2, dtype=F64))
    end = sde.simulate(process, torch.zeros(1, 1, dtype=F64), grid, lambda x, t, s: torch.ones_like(x))
    assert math.isclose(end, 1 * 0.5 + 1.5 * 1.5 + 2 * 0.5**0.5 + 2.5 * 1.5**0.5, rel_tol=1e-14)


@pytest.mark.parametrize("way", [1, -1])
def test_matrix_noise_that_depends_on_the_state(way: int) -> None:
    """dX = AX dt + Σ_m B_m X dW_m: the second moment P goes to (I + hA)P(I + hA)ᵀ + |h| Σ_m B_m P B_mᵀ."""
    a = torch.tensor([[-0.5, 0.3], [0.1, -0.8]], dtype=F64)
    b = torch.tensor([[[0.4, 0.1], [0.0, 0.3]], [[0.0, -0.5], [0.6, 0.2]]], dtype=F64)  # (M, D, D)
    start = torch.tensor([1.0, -0.7], dtype=F64)
    table, source = coins(5, 2)
    grid = torch.tensor([0.0, 0.1, 0.3, 0.35, 0.6, 0.9], dtype=F64) * way
    process = Ito(lambda x, t: x @ a.T, lambda x, t: torch.einsum("mde,be->bdm", b, x), noise_dim=2)
    end = sde.simulate(process, start.expand(len(table), 2), grid, source(grid))
    mean, second = start, torch.outer(start, start)
    for h in grid.diff().tolist():
        move = torch.eye(2, dtype=F64) + h * a
        mean = move @ mean
        second = move @ second @ move.T + abs(h) * torch.einsum("mij,jk,mlk->il", b, second, b)
    torch.testing.assert_close(end.mean(0), mean, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(end.T @ end / len(end), second, rtol=1e-12, atol=1e-12)


def test_a_diagonal_matrix_is_the_same_as_a_broadcast_deviation() -> None:
    scale = torch.tensor([0.3, 1.2, 0.8], dtype=F64)
    x, grid = torch.randn(6, 3, dtype=F64), torch.linspace(0, 1, 9)
    plain = Ito(lambda x, t: -x, lambda x, t: scale * x)
    matrix = Ito(lambda x, t: -x, lambda x, t: torch.diag_embed(scale * x), noise_dim=3)
    torch.testing.assert_close(sde.simulate(plain, x, grid), sde.simulate(matrix, x, grid), rtol=1e-12, atol=1e-12)


def test_trajectory_gives_every_state_and_its_last_is_simulate() -> None:
    x, grid = torch.randn(3, 2), torch.tensor([0.9, 0.5, 0.45, 0.0])
    process = Ito(lambda x, t: -x, lambda x, t: torch.tensor(0.5))
    states = list(sde.trajectory(process, x, grid))
    assert [t for t, _ in states] == grid.double().tolist()
    assert torch.equal(states[0][1], x)
    assert torch.equal(states[-1][1], sde.simulate(process, x, grid.tolist()))
    assert torch.equal(sde.simulate(process, x[:1], grid), sde.simulate(process, x, grid)[:1])
    assert torch.equal(sde.simulate(process, x, [0.3]), x)
    assert states[-1][1].dtype == torch.float32


@pytest.mark.parametrize("times", [[0.0, 0.5, 0.4], [0.0, 0.0], [], [[0.0, 1.0]]])
def test_times_that_do_not_go_one_way_are_refused(times: list[float]) -> None:
    with pytest.raises(ValueError, match="times must be 1-D and either rise or fall"):
        sde.simulate(Ito(lambda x, t: -x), torch.zeros(1, 1), times)


def test_noise_of_the_wrong_dimension_is_refused() -> None:
    process = Ito(lambda x, t: -x, lambda x, t: torch.zeros(len(x), 2, 4), noise_dim=3)
    with pytest.raises(ValueError, match=r"diffusion has shape \(5, 2, 4\) where \(5, 2, 3\) is needed"):
        sde.simulate(process, torch.zeros(5, 2), [0.0, 1.0])


# --- dynamics of a path ---


@every_path
def test_forward_takes_the_data_to_p_t(p: Path) -> None:
    """EM's exact moments approach α_t m and α_t² v + σ_t², at first order in the step."""
    gaussian = exact.Gaussian(torch.tensor([0.8], dtype=F64), 0.3, p)
    s, t = 0.1, 0.6
    (a, b), (alpha, sigma) = (p.levels(u, gaussian.mean) for u in (s, t))
    start = float(a * 0.8), float(a**2 * 0.3 + b**2) ** 0.5
    truth = float(alpha * 0.8), float(alpha**2 * 0.3 + sigma**2)
    errors = []
    for steps in (50, 100):
        found = affine_moments(sde.forward(p), *start, torch.linspace(s, t, steps + 1, dtype=F64))
        errors.append((found[0] / truth[0] - 1, found[1] / truth[1] - 1))
    for coarse, fine in zip(*errors, strict=True):
        assert abs(fine) < 0.06
        assert abs(coarse) < 1e-12 or 1.7 < coarse / fine < 2.3


ETAS = {"Anderson": None, "half": 0.5, "own": lambda t: 0.7 + 0.5 * float(t)}


@every_path
@pytest.mark.parametrize("eta", ETAS.values(), ids=ETAS.keys())
def test_reverse_keeps_the_marginals_for_any_eta(p: Path, eta: Callable[[Time], Time] | float | None) -> None:
    gaussian = exact.Gaussian(torch.tensor([0.8], dtype=F64), 0.3, p)
    t, s = 0.6, 0.2
    ends = []
    for u in (t, s):
        alpha, sigma = p.levels(u, gaussian.mean)
        ends.append((float(alpha * 0.8), float(alpha**2 * 0.3 + sigma**2)))
    errors = []
    for steps in (100, 200):
        grid = torch.linspace(t, s, steps + 1, dtype=F64)
        found = affine_moments(sde.reverse(gaussian, eta), ends[0][0], ends[0][1] ** 0.5, grid)
        errors.append([found[0] - ends[1][0], found[1] - ends[1][1]])
    for (coarse, fine), scale in zip(zip(*errors, strict=True), ends[1], strict=True):
        assert abs(fine) < 0.1 * scale
        assert abs(coarse) < 1e-3 * scale or 1.6 < coarse / fine < 2.5


@every_path
def test_anderson_is_f_x_minus_g_squared_score(p: Path) -> None:
    mixture = exact.GaussianMixture([0.4, 0.6], torch.tensor([[0.5, 1.0], [-1.0, 0.2]], dtype=F64), 0.2, p)
    for t in (0.1, 0.5, 0.9):
        x = mixture.draw(5, t)
        f, g = p.drift(t), p.diffusion(t)
        process = sde.reverse(mixture)
        expected = f * x - g**2 * mixture.score(x, t)
        scale = float(expected.abs().max())
        torch.testing.assert_close(process.drift(x, t), expected, rtol=1e-8, atol=1e-9 * scale)
        assert process.diffusion is not None
        torch.testing.assert_close(process.diffusion(x, t), g)
        backward = sde.reverse(mixture, 0.5)
        assert backward.diffusion is not None
        torch.testing.assert_close(backward.diffusion(x, t), 0.5 * g)


def test_the_reverse_sde_of_a_mixture_reaches_its_data() -> None:
    """Where the moments are not affine: share, means and spreads of both modes within four standard errors plus bias."""
    means = torch.tensor([[2.0], [-2.0]], dtype=F64)
    mixture = exact.GaussianMixture([0.25, 0.75], means, 0.04, path.VariancePreserving())
    n = 4000
    generator = torch.Generator().manual_seed(0)
    grid = torch.linspace(1, 0.001, 301, dtype=F64)
    start = mixture.draw(n, 1.0, generator)
    x = sde.simulate(
        sde.reverse(mixture), start, grid, lambda x, t, s: torch.randn(x.shape, generator=generator, dtype=x.dtype)
    )
    right = x > 0
    assert abs(float(right.double().mean()) - 0.25) < 4 * math.sqrt(0.25 * 0.75 / n) + 0.005
    assert abs(float(x[right].mean()) - 2) < 0.05
    assert abs(float(x[~right].mean()) + 2) < 0.05
    assert abs(float(x[~right].std()) - 0.2) < 0.02


@every_path
def test_probability_flow_follows_the_closed_form_flow_either_way(p: Path) -> None:
    gaussian = exact.Gaussian(torch.tensor([0.8, -0.3], dtype=F64), [0.3, 1.5], p)
    for t, s in ((0.7, 0.3), (0.3, 0.7)):
        x = gaussian.draw(4, t)
        truth = gaussian.flow(x, t, s)
        errors = [
            float((sde.simulate(sde.probability_flow(gaussian), x, torch.linspace(t, s, n + 1)) - truth).abs().max())
            for n in (50, 100)
        ]
        assert errors[1] < 0.06 * float(truth.abs().max())
        assert errors[0] < 1e-12 or 1.6 < errors[0] / errors[1] < 2.4


def test_unadjusted_langevin_stands_still_at_its_own_variance() -> None:
    """x ← x − (h/v)x + √(2h)z leaves v/(1 − h/2v) as it is, v itself in the limit of small steps."""
    v, h, steps = 0.7, 0.05, 30
    gaussian = exact.Gaussian(torch.tensor([1.5], dtype=F64), v, path.Linear())
    process = sde.langevin(lambda x: gaussian.score(x, 0.0))
    grid = torch.arange(steps + 1, dtype=F64) * h
    own = v / (1 - h / (2 * v))
    mean, variance = affine_moments(process, 1.5, own**0.5, grid)
    assert math.isclose(mean, 1.5, rel_tol=1e-12)
    assert math.isclose(variance, own, rel_tol=1e-12)
    mean, variance = affine_moments(process, 0.0, 0.0, grid)
    assert math.isclose(mean, 1.5 * (1 - (1 - h / v) ** steps), rel_tol=1e-12)
    assert math.isclose(variance, own * (1 - (1 - h / v) ** (2 * steps)), rel_tol=1e-12)


@every_path
def test_tweedie(p: Path) -> None:
    mixture = exact.GaussianMixture([0.4, 0.6], torch.tensor([[0.5, 1.0], [-1.0, 0.2]], dtype=F64), 0.2, p)
    for t in (0.1, 0.5, 0.9):
        x = mixture.draw(5, t)
        point = p.at(t, x)
        clean = sde.tweedie(x, mixture.score(x, t), point)
        torch.testing.assert_close(point.alpha * clean, point.alpha * mixture(x, t).clean, rtol=1e-9, atol=1e-9)


def test_an_infinite_coefficient_names_its_end() -> None:
    gaussian = exact.Gaussian(torch.zeros(1), 1.0, path.Linear())
    with pytest.raises(ValueError, match="diffusion g is infinite at t = 1; use t < 1"):
        sde.simulate(sde.reverse(gaussian), torch.zeros(1, 1), [1.0, 0.5])
    with pytest.raises(ValueError, match="drift α̇/α is infinite at t = 1"):
        sde.simulate(sde.forward(path.Linear()), torch.zeros(1, 1), [1.0, 1.5])
    assert sde.simulate(sde.reverse(gaussian, lambda t: 1.0), torch.zeros(1, 1), [1.0, 0.0]).isfinite().all()
    assert sde.reverse(gaussian, 0.0).diffusion is None  # the ODE, which asks for no g
    with pytest.raises(ValueError, match=r"eta = -0\.5 must not be negative"):
        sde.reverse(gaussian, -0.5)


# --- residuals ---

MEANS = torch.tensor([[0.7, -1.2], [-1.0, 0.4], [0.3, 0.9]], dtype=F64)
SKEW = torch.tensor([[0.9, 0.3], [0.3, 0.4]], dtype=F64)
KINDS: dict[str, Callable[[Path], exact.Exact]] = {
    "diagonal": lambda p: exact.Gaussian(MEANS[0], [0.5, 1.5], p),
    "full": lambda p: exact.Gaussian(MEANS[0], SKEW, p),
    "isotropic mixture": lambda p: exact.GaussianMixture([0.2, 0.3, 0.5], MEANS, [0.3, 0.1, 0.6], p),
    "full mixture": lambda p: exact.GaussianMixture([0.2, 0.8], MEANS[:2], torch.stack([SKEW, 2 * SKEW]), p),
    "finite set": lambda p: exact.Empirical(MEANS, p),
}
TIMES = torch.tensor([0.3, 0.45, 0.6, 0.75, 0.9], dtype=F64)


@every_path
@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS.keys())
def test_residuals_of_exact_denoisers_vanish(p: Path, make: Callable[[Path], exact.Exact]) -> None:
    denoiser = make(p)
    x = denoiser.draw(len(TIMES), TIMES)
    assert float(sde.continuity_residual(denoiser, x, TIMES).abs().max()) <= 1e-8
    # a finite set in little noise: the terms that cancel are themselves of size 1/σ⁴
    terms = 1 + float((denoiser.score(x, TIMES).abs().max() + 1) * (denoiser.velocity(x, TIMES).abs().max() + 1))
    assert float(sde.score_residual(denoiser, x, TIMES).abs().max()) <= 1e-8 * terms
    one = sde.continuity_residual(denoiser, x[:1], float(TIMES[0]))
    assert one.shape == (1,)
    assert float(one.abs()) <= 1e-8


class Wrong:
    """A denoiser whose noise estimate is off by `by`·sin of it, at the same densities."""

    def __init__(self, denoiser: exact.Exact, by: float) -> None:
        self.path, self.denoiser, self.by = denoiser.path, denoiser, by

    def __call__(self, x_t: Tensor, t: Time) -> Estimate:
        alpha, sigma = self.path.levels(t, x_t)
        noise = self.denoiser(x_t, t).noise
        noise = noise + self.by * torch.sin(noise)
        return Estimate((x_t - sigma * noise) / alpha, noise)

    def log_prob(self, x: Tensor, t: Time) -> Tensor:
        return self.denoiser.log_prob(x, t)


@every_path
def test_residuals_of_a_wrong_denoiser_do_not(p: Path) -> None:
    right = KINDS["isotropic mixture"](p)
    x = right.draw(len(TIMES), TIMES)
    sizes = []
    for by in (0.0, 0.02, 0.04):
        wrong = Wrong(right, by)
        sizes.append(
            (sde.continuity_residual(wrong, x, TIMES).abs().max(), sde.score_residual(wrong, x, TIMES).abs().max())
        )
    for exactly, little, more in zip(*sizes, strict=True):
        assert float(exactly) <= 1e-8
        assert float(little) > 1e-4
        assert 1.7 < float(more / little) < 2.3  # a measure: twice the error, twice the residual


class Proportional:
    """ε̂ = c·x on the linear path, which no data has: its residual is known by hand."""

    path = path.Linear()

    def __init__(self, c: float) -> None:
        self.c = c

    def __call__(self, x_t: Tensor, t: Time) -> Estimate:
        alpha, sigma = self.path.levels(t, x_t)
        return Estimate((1 - sigma * self.c) * x_t / alpha, self.c * x_t)


def test_residual_of_a_known_error() -> None:
    """With s = −cx/t and u = kx, k = c − (1 − tc)/(1 − t): ∂_t s + ∂_x(D·k + us) = cx/t² − 2kcx/t."""
    c, t = 0.6, torch.tensor([0.2, 0.5, 0.8], dtype=F64)
    x = torch.tensor([[1.0, 0.3], [-0.4, 0.1], [2.0, -1.0]], dtype=F64)
    k = (c - (1 - t * c) / (1 - t))[:, None]
    expected = c * x / t[:, None] ** 2 - 2 * k * c * x / t[:, None]
    torch.testing.assert_close(sde.score_residual(Proportional(c), x, t), expected, rtol=1e-10, atol=1e-12)


class Network:
    """A small random network that predicts the velocity on the linear path, for items of any shape."""

    path = path.Linear()

    def __init__(self, size: int) -> None:
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(size + 1, 8), torch.nn.Tanh(), torch.nn.Linear(8, size)
        ).double()

    def __call__(self, x_t: Tensor, t: Time) -> Estimate:
        alpha, sigma = self.path.levels(t, x_t)
        times = torch.as_tensor(t, dtype=x_t.dtype).expand(len(x_t))[:, None]
        velocity = self.layers(torch.cat([x_t.flatten(1), times], 1)).reshape(x_t.shape)
        return Estimate(x_t - sigma * velocity, x_t + alpha * velocity)


def test_score_residual_measures_a_network_row_by_row_without_gradients_around_it() -> None:
    network = Network(4)
    x, t = torch.randn(3, 1, 2, 2, dtype=F64), torch.tensor([0.3, 0.5, 0.7], dtype=F64)
    with torch.no_grad():
        found = sde.score_residual(network, x, t)
        alone = sde.score_residual(network, x[1:2], 0.5)
    assert found.shape == x.shape
    assert not found.requires_grad
    assert float(found.abs().max()) > 1e-2
    torch.testing.assert_close(found[1:2], alone, rtol=1e-9, atol=1e-9)
    assert all(parameter.grad is None for parameter in network.layers.parameters())

    # the same quantity by finite differences of the field
    def score_and_flux(x: Tensor, t: float) -> tuple[Tensor, Tensor]:
        def velocity(x: Tensor) -> Tensor:
            return network(x.reshape(1, 1, 2, 2), t).velocity(network.path.at(t, x)).flatten()

        score = network(x.reshape(1, 1, 2, 2), t).score(network.path.at(t, x)).flatten()
        trace = torch.autograd.functional.jacobian(velocity, x.flatten()).trace()
        return score.detach(), trace + (velocity(x.flatten()) * score).sum().detach()

    h, row = 1e-5, x[1].flatten()
    by_t = (score_and_flux(row, 0.5 + h)[0] - score_and_flux(row, 0.5 - h)[0]) / (2 * h)
    by_x = torch.stack(
        [
            (score_and_flux(row + h * e, 0.5)[1] - score_and_flux(row - h * e, 0.5)[1]) / (2 * h)
            for e in torch.eye(4, dtype=F64)
        ]
    )
    torch.testing.assert_close(found[1].flatten(), (by_t + by_x).detach(), rtol=1e-5, atol=1e-6)
