"""Posterior sampling on data where everything is known: a Gaussian prior, a linear measurement, Gaussian noise."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from ornstein import exact, path, sample, solvers
from ornstein.denoiser import Denoiser, NetworkDenoiser
from ornstein.editing import DPS, MMPS, DiffPIR, Measurement, PiGDM, Renoise
from ornstein.editing.conjugate import solve
from ornstein.networks import MLP
from ornstein.noise import PerSampleNoise
from ornstein.target import Velocity

NAMES = [str(p)[:40] for p in path.ALL]
METHODS = (DPS, PiGDM, MMPS, DiffPIR)


@dataclass
class Case:
    """x ~ N(mean, cov), y = A x + noise·ε, and the exact posterior."""

    mean: Tensor
    cov: Tensor
    A: Tensor
    y: Tensor
    noise: float

    @property
    def measurement(self) -> Measurement:
        return Measurement(lambda x: x @ self.A.T, self.y, self.noise)

    def prior(self, p: path.Path) -> exact.Gaussian:
        return exact.Gaussian(self.mean, self.cov, p)

    def posterior(self, p: path.Path) -> exact.Gaussian:
        seen = self.A @ self.cov @ self.A.T + self.noise**2 * torch.eye(len(self.A))
        gain = self.cov @ self.A.T @ torch.linalg.inv(seen)
        cov = self.cov - gain @ self.A @ self.cov
        return exact.Gaussian(self.mean + gain @ (self.y - self.A @ self.mean), (cov + cov.T) / 2, p)


@pytest.fixture(autouse=True)
def _float64() -> Callable[[], None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def case(dim: int, seen: int, noise: float = 0.3) -> Case:
    g = torch.Generator().manual_seed(dim)
    half, A = torch.randn(dim, dim, generator=g) / dim**0.5, torch.randn(seen, dim, generator=g) / dim**0.5
    cov = half @ half.T + 0.05 * torch.eye(dim)
    return Case(torch.randn(dim, generator=g), cov, A, torch.randn(seen, generator=g), noise)


def covariance(c: Case, p: path.Path, t: float) -> Tensor:
    """Cov[x | x_t] = C − α²C(α²C + σ²)⁻¹C."""
    alpha, sigma = p.levels(t, c.mean)
    return c.cov - alpha**2 * c.cov @ torch.linalg.solve(alpha**2 * c.cov + sigma**2 * torch.eye(len(c.cov)), c.cov)


@pytest.mark.parametrize("p", path.ALL, ids=NAMES)
@pytest.mark.parametrize(("dim", "seen"), [(2, 1), (16, 8), (2, 5)])
def test_mmps_is_the_posterior_of_gaussian_data(dim: int, seen: int, p: path.Path) -> None:
    c = case(dim, seen)
    told, posterior = MMPS(c.prior(p), c.measurement, iterations=40), c.posterior(p)
    for t in (0.0, 0.2, 0.5, 0.8, 1.0):
        alpha, sigma = p.levels(t, c.mean)
        x_t = posterior.draw(3, t, torch.Generator().manual_seed(1))
        found, wanted = told(x_t, t), posterior(x_t, t)
        near_noise = alpha < 0.01 * sigma  # the covariance of the least signal stands for it
        torch.testing.assert_close(found.clean, wanted.clean, atol=2e-4 if near_noise else 1e-6, rtol=0)
        torch.testing.assert_close(found.noise, wanted.noise, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(alpha * found.clean + sigma * found.noise, x_t, atol=1e-11, rtol=1e-11)


@pytest.mark.parametrize("p", path.ALL, ids=NAMES)
@pytest.mark.parametrize("t", [0.3, 0.6])
def test_the_others_are_their_formulas(p: path.Path, t: float) -> None:
    c = case(16, 8)
    prior, A, eye = c.prior(p), c.A, torch.eye(8)
    alpha, sigma = p.levels(t, c.mean)
    x_t = prior.draw(3, t, torch.Generator().manual_seed(1))
    clean, spread = prior(x_t, t).clean, covariance(c, p, t)
    r = c.y - clean @ A.T
    width = 1.7
    radius = (sigma * width) ** 2 / ((alpha * width) ** 2 + sigma**2)
    rho = 3.0 * (c.noise * alpha / sigma) ** 2
    moves = {
        DPS(prior, c.measurement, zeta=2.0): 2 * (r / r.norm(dim=1, keepdim=True)) @ A @ spread,
        PiGDM(prior, c.measurement, width): r @ torch.linalg.inv(radius * A @ A.T + c.noise**2 * eye) @ A @ spread,
        DiffPIR(prior, c.measurement, 3.0): r @ torch.linalg.inv(A @ A.T + rho * eye) @ A,
    }
    for told, move in moves.items():
        found = told(x_t, t)
        torch.testing.assert_close(found.clean, clean + move, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(alpha * found.clean + sigma * found.noise, x_t, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("p", path.ALL, ids=NAMES)
def test_pigdm_is_the_posterior_of_isotropic_gaussian_data(p: path.Path) -> None:
    c = case(2, 1)
    c.cov = 0.49 * torch.eye(2)
    told, posterior = PiGDM(c.prior(p), c.measurement, data_std=0.7), c.posterior(p)
    x_t = posterior.draw(3, 0.4, torch.Generator().manual_seed(1))
    torch.testing.assert_close(told(x_t, 0.4).clean, posterior(x_t, 0.4).clean, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("p", [path.Linear(), path.VariancePreserving(), path.EDM()], ids=str)
def test_samples_have_the_exact_posterior_mean_and_covariance(p: path.Path) -> None:
    c, count = case(16, 8), 2000
    posterior = c.posterior(p)
    x = sample(MMPS(c.prior(p), c.measurement, iterations=12), (count, 16), steps=24)
    scale = float(torch.linalg.eigvalsh(posterior.cov).max())
    assert float((x.mean(0) - posterior.mean).abs().max()) < 5 * math.sqrt(scale / count)
    assert float((torch.cov(x.T) - posterior.cov).abs().max()) < 5 * scale * math.sqrt(2 / count)


def curved(x: Tensor) -> Tensor:
    return torch.stack([x[:, 0] * x[:, 1], x[:, 0].sin()], 1)


@pytest.mark.parametrize("method", METHODS)
def test_a_row_does_not_depend_on_its_batch(method: Callable[..., Denoiser]) -> None:
    prior = exact.Gaussian([0.5, -0.5], 1.0, path.Cosine())
    y = torch.randn(6, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor([[1.0], [1], [1], [1], [1], [100]])
    x_t = 2 * torch.randn(6, 2, generator=torch.Generator().manual_seed(1))
    together = method(prior, Measurement(curved, y, 0.1))(x_t, 0.5)
    for i in range(6):
        alone = method(prior, Measurement(curved, y[i], 0.1))(x_t[i : i + 1], 0.5)
        assert torch.equal(alone.clean, together.clean[i : i + 1])
        assert torch.equal(alone.noise, together.noise[i : i + 1])


@pytest.mark.parametrize("method", METHODS)
def test_times_may_differ_by_row(method: Callable[..., Denoiser]) -> None:
    c = case(2, 1)
    told = method(c.prior(path.Linear()), c.measurement)
    x_t, t = torch.randn(4, 2), torch.tensor([0.0, 0.4, 0.995, 1.0])
    together = told(x_t, t)
    for i in range(4):
        torch.testing.assert_close(told(x_t[i : i + 1], float(t[i])).clean, together.clean[i : i + 1])


@pytest.mark.parametrize("method", METHODS)
def test_gradients_are_taken_inside_inference_mode_and_not_left_on(method: Callable[..., Denoiser]) -> None:
    torch.set_default_dtype(torch.float32)
    network = MLP(2, width=16, depth=1).requires_grad_(False)
    for parameter in network.parameters():
        parameter.normal_(std=0.3)
    told = NetworkDenoiser(network, path.Linear(), Velocity())
    outside = sample(method(told, Measurement(curved, torch.ones(2), 0.5)), (3, 2), steps=3)
    with torch.inference_mode():
        measurement = Measurement(curved, torch.ones(2), 0.5)  # a y that is an inference tensor
        inside = sample(method(told, measurement), (3, 2), steps=3)
    assert torch.equal(inside, outside)
    assert not inside.requires_grad
    assert outside.isfinite().all()


def test_a_measurement_that_says_nothing_changes_nothing() -> None:
    prior, x_t = exact.Gaussian([0.5, -0.5], 1.0, path.Linear()), torch.randn(4, 2)
    for told in (
        MMPS(prior, Measurement(curved, torch.ones(2), 1e9)),
        PiGDM(prior, Measurement(curved, torch.ones(2), 1e9)),
    ):
        torch.testing.assert_close(told(x_t, 0.5).clean, prior(x_t, 0.5).clean)


def test_noiseless_measurements_are_met() -> None:
    prior = exact.Gaussian(torch.zeros(3), torch.tensor([1.0, 0.5, 2.0]), path.Linear())
    measurement = Measurement(lambda x: x[:, :1], torch.tensor([1.5]), 0.0)
    for told in (MMPS(prior, measurement), PiGDM(prior, measurement), DiffPIR(prior, measurement)):
        x = sample(told, (5, 3), steps=10)
        torch.testing.assert_close(x[:, 0], torch.full((5,), 1.5), atol=1e-6, rtol=0)
        assert float(x[:, 1].std()) > 0.05


def test_renoise_is_ddim_without_new_noise_and_the_published_step_with_it() -> None:
    p = path.VariancePreserving()
    grid = Renoise().grid(p, 7)
    assert Renoise(0.0).table(p, grid).distance(solvers.DDIM().table(p, grid)) < 1e-12
    table, sigma = Renoise(0.3).table(p, grid), p.sigma(grid)
    torch.testing.assert_close(table.R, math.sqrt(0.3) * sigma[1:])
    torch.testing.assert_close(table.Q.diagonal(), math.sqrt(0.7) * sigma[1:])
    torch.testing.assert_close(table.P.diagonal(), p.alpha(grid)[1:])


def test_conjugate_gradients_solve_each_row_and_stop_where_the_matrix_is_wrong() -> None:
    half = torch.randn(3, 5, 5)
    matrices = half @ half.mT + torch.eye(5)
    matrices[1] = -torch.eye(5)
    b = torch.randn(3, 5)
    found = solve(lambda v: (matrices @ v[..., None])[..., 0], b, 40)
    wanted = torch.linalg.solve(matrices, b)
    torch.testing.assert_close(found[0], wanted[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found[2], wanted[2], atol=1e-5, rtol=1e-5)
    assert not found[1].any()


@pytest.mark.parametrize(
    ("make", "part"),
    [
        (lambda d, m: DPS(d, m, zeta=0.0), "zeta"),
        (lambda d, m: PiGDM(d, m, data_std=-1), "data_std"),
        (lambda d, m: MMPS(d, m, iterations=0), "iterations"),
        (lambda d, m: DiffPIR(d, m, weight=0), "weight"),
        (lambda d, m: Measurement(curved, torch.ones(2), -0.1), "noise"),
        (lambda d, m: Measurement(curved, torch.ones(2), math.nan), "noise"),
        (lambda d, m: Renoise(1.5), "zeta"),
        (lambda d, m: MMPS(d, Measurement(curved, torch.ones(3), 0.1))(torch.zeros(4, 2), 0.5), "y has shape"),
        (
            lambda d, m: MMPS(d, Measurement(lambda x: x.detach(), torch.ones(2), 0.1))(torch.zeros(4, 2), 0.5),
            "gradient",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(make: Callable[[Denoiser, Measurement], object], part: str) -> None:
    prior = exact.Gaussian([0.0, 0.0], 1.0, path.Linear())
    with pytest.raises(ValueError, match=part):
        make(prior, Measurement(curved, torch.ones(2), 0.1))


def test_samples_are_a_function_of_the_seed() -> None:
    c = case(2, 1)
    told = MMPS(c.prior(path.Linear()), c.measurement)
    many = sample(told, (4, 2), steps=4, solver=solvers.Ancestral(), noise=PerSampleNoise(3))
    alone = sample(told, (1, 2), steps=4, solver=solvers.Ancestral(), noise=PerSampleNoise(3, first=2))
    torch.testing.assert_close(many[2:3], alone)
