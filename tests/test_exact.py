"""Exact denoisers against densities of scipy, gradients, brute force and the closed-form flow against a fine ODE solver."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats
from torch import Tensor

from ornstein import exact, path
from ornstein.path import Path

F64 = torch.float64
MEAN = torch.tensor([0.7, -1.2, 0.3], dtype=F64)
ROOT = torch.tensor([[1.0, 0.2, -0.4], [0.0, 0.6, 0.5], [0.0, 0.0, 0.3]], dtype=F64)
FULL = ROOT @ ROOT.T
THIN = ROOT[:, :1] @ ROOT[:, :1].T + 0.4 * ROOT[:, 1:2] @ ROOT[:, 1:2].T  # of rank 2
MEANS = torch.tensor([[0.7, -1.2, 0.3], [-1.0, 0.4, 0.9]], dtype=F64)
WEIGHTS = torch.tensor([0.3, 0.7], dtype=F64)
POINTS = torch.tensor([[0.7, -1.2, 0.3], [-1.0, 0.4, 0.9], [0.1, 0.2, -0.5], [1.5, 1.0, 0.0]], dtype=F64)

Make = Callable[[Path], exact.Exact]
SMOOTH: dict[str, Make] = {
    "number": lambda p: exact.Gaussian(MEAN, 0.8, p),
    "diagonal": lambda p: exact.Gaussian(MEAN, [0.5, 1.5, 0.2], p),
    "full": lambda p: exact.Gaussian(MEAN, FULL, p),
    "mixture": lambda p: exact.GaussianMixture(WEIGHTS, MEANS, 0.3, p),
    "isotropic mixture": lambda p: exact.GaussianMixture(WEIGHTS, MEANS, [0.3, 0.05], p),
    "diagonal mixture": lambda p: exact.GaussianMixture(WEIGHTS, MEANS, [[0.3, 0.1, 0.5], [0.2, 0.9, 0.1]], p),
    "full mixture": lambda p: exact.GaussianMixture(WEIGHTS, MEANS, torch.stack([FULL, FULL.flip(0, 1)]), p),
}
SINGULAR: dict[str, Make] = {
    "point": lambda p: exact.Gaussian(MEAN, 0, p),
    "flat diagonal": lambda p: exact.Gaussian(MEAN, [0.5, 0.0, 0.2], p),
    "thin": lambda p: exact.Gaussian(MEAN, THIN, p),
    "points": lambda p: exact.GaussianMixture(WEIGHTS, MEANS, [0.3, 0.0], p),
    "thin mixture": lambda p: exact.GaussianMixture(WEIGHTS, MEANS, torch.stack([FULL, THIN]), p),
    "finite set": lambda p: exact.Empirical(POINTS, p),
}

every_path = pytest.mark.parametrize("p", path.ALL, ids=repr)
every_kind = pytest.mark.parametrize("make", [*SMOOTH.values(), *SINGULAR.values()], ids=[*SMOOTH, *SINGULAR])
smooth_kind = pytest.mark.parametrize("make", SMOOTH.values(), ids=SMOOTH.keys())
singular_kind = pytest.mark.parametrize("make", SINGULAR.values(), ids=SINGULAR.keys())


def levels(p: Path, t: float) -> tuple[float, float]:
    at = torch.tensor(t, dtype=F64)
    return float(p.alpha(at)), float(p.sigma(at))


def scipy_components(make: Make, p: Path) -> list[tuple[float, np.ndarray, np.ndarray]]:
    """(weight, mean, covariance) of the data, written out again by hand."""
    one = np.eye(3)
    m, (m1, m2) = MEAN.numpy(), MEANS.numpy()
    full = FULL.numpy()
    table: dict[str, list[tuple[float, np.ndarray, np.ndarray]]] = {
        "number": [(1, m, 0.8 * one)],
        "diagonal": [(1, m, np.diag([0.5, 1.5, 0.2]))],
        "full": [(1, m, full)],
        "mixture": [(0.3, m1, 0.3 * one), (0.7, m2, 0.3 * one)],
        "isotropic mixture": [(0.3, m1, 0.3 * one), (0.7, m2, 0.05 * one)],
        "diagonal mixture": [(0.3, m1, np.diag([0.3, 0.1, 0.5])), (0.7, m2, np.diag([0.2, 0.9, 0.1]))],
        "full mixture": [(0.3, m1, full), (0.7, m2, full[::-1, ::-1])],
        "point": [(1, m, 0 * one)],
        "flat diagonal": [(1, m, np.diag([0.5, 0.0, 0.2]))],
        "thin": [(1, m, THIN.numpy())],
        "points": [(0.3, m1, 0.3 * one), (0.7, m2, 0 * one)],
        "thin mixture": [(0.3, m1, full), (0.7, m2, THIN.numpy())],
        "finite set": [(0.25, point, 0 * one) for point in POINTS.numpy()],
    }
    return table[next(name for name, kind in {**SMOOTH, **SINGULAR}.items() if kind is make)]


# --- every kind on every path ---


@every_path
@every_kind
def test_density_is_that_of_scipy_and_the_score_its_gradient(p: Path, make: Make) -> None:
    denoiser = make(p)
    for t in (0.2, 0.6, 0.95):
        alpha, sigma = levels(p, t)
        x = denoiser.draw(4, t)
        density = sum(
            w * stats.multivariate_normal.pdf(x.numpy(), alpha * mean, alpha**2 * cov + sigma**2 * np.eye(3))
            for w, mean, cov in scipy_components(make, p)
        )
        log_prob = denoiser.log_prob(x.requires_grad_(), t)
        torch.testing.assert_close(log_prob.detach(), torch.as_tensor(np.log(density)), rtol=1e-8, atol=1e-8)
        (gradient,) = torch.autograd.grad(log_prob.sum(), x)
        score = denoiser.score(x, t)
        torch.testing.assert_close(score, gradient, rtol=1e-8, atol=1e-8 / sigma)
        # Tweedie, both halves
        estimate = denoiser(x, t)
        torch.testing.assert_close(estimate.score(p.at(t, x)), score, rtol=1e-8, atol=1e-9 / sigma)
        torch.testing.assert_close(alpha * estimate.clean, x + sigma**2 * gradient, rtol=1e-8, atol=1e-8 * (1 + sigma))


@every_path
@every_kind
@settings(max_examples=4)
@given(t=st.floats(0, 1))
def test_estimates_are_finite_and_agree_with_x_t(p: Path, make: Make, t: float) -> None:
    denoiser = make(p)
    for x in (denoiser.draw(5, t), 30 * torch.randn(5, 3, dtype=F64)):
        alpha, sigma = p.levels(t, x)
        clean, noise = denoiser(x, t)
        assert bool(clean.isfinite().all())
        assert bool(noise.isfinite().all())
        torch.testing.assert_close(alpha * clean + sigma * noise, x, rtol=0, atol=1e-12 * float(x.abs().max() + 1))


@every_path
@every_kind
def test_both_ends(p: Path, make: Make) -> None:
    denoiser = make(p)
    x = torch.randn(6, 3, dtype=F64)
    clean, noise = denoiser(x, 0.0)
    if levels(p, 0.0)[1] == 0:
        torch.testing.assert_close(clean, x, rtol=0, atol=1e-12)
        assert not bool(noise.any())
    clean, noise = denoiser(x, 1.0)
    assert bool((clean.isfinite() & noise.isfinite()).all())
    if levels(p, 1.0)[0] == 0:
        mean = sum(w * m for w, m, _ in scipy_components(make, p))
        torch.testing.assert_close(clean, torch.as_tensor(mean).expand(6, 3), rtol=0, atol=1e-12)
        torch.testing.assert_close(noise, x, rtol=0, atol=1e-12)


@every_path
@every_kind
def test_a_batch_of_times_is_each_time_alone(p: Path, make: Make) -> None:
    denoiser = make(p)
    x = torch.randn(5, 3, dtype=F64)
    times = torch.tensor([0.0, 0.2, 0.5, 0.9, 1.0], dtype=F64)
    clean, noise = denoiser(x, times)
    for i, t in enumerate(times.tolist()):
        alone = denoiser(x[i : i + 1], t)
        torch.testing.assert_close(clean[i : i + 1], alone.clean, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(noise[i : i + 1], alone.noise, rtol=1e-9, atol=1e-9)
    inner = times[1:-1]
    log_prob, score, velocity = (f(x[1:-1], inner) for f in (denoiser.log_prob, denoiser.score, denoiser.velocity))
    for i, t in enumerate(inner.tolist()):
        row = x[i + 1 : i + 2]
        torch.testing.assert_close(log_prob[i : i + 1], denoiser.log_prob(row, t), rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(score[i : i + 1], denoiser.score(row, t), rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(velocity[i : i + 1], denoiser.velocity(row, t), rtol=1e-9, atol=1e-9)


@every_path
@every_kind
def test_velocity_is_f_x_minus_half_g_squared_score(p: Path, make: Make) -> None:
    denoiser = make(p)
    for t in (0.1, 0.5, 0.9):
        x = denoiser.draw(4, t)
        expected = p.drift(t) * x - 0.5 * p.diffusion(t) ** 2 * denoiser.score(x, t)
        scale = float(p.at(t, x).d_sigma) + 1
        torch.testing.assert_close(denoiser.velocity(x, t), expected, rtol=1e-8, atol=1e-8 * scale)


@every_kind
def test_draws_have_the_mean_and_covariance_of_p_t(make: Make) -> None:
    p = path.Linear()
    parts = scipy_components(make, p)
    mean = sum(w * m for w, m, _ in parts)
    second = sum(w * (c + np.outer(m, m)) for w, m, c in parts)
    n = 40_000
    for t in (0.0, 0.5, 1.0):
        alpha, sigma = levels(p, t)
        x = make(p).draw(n, t, torch.Generator().manual_seed(1)).numpy()
        cov = alpha**2 * (second - np.outer(mean, mean)) + sigma**2 * np.eye(3)
        assert x.shape == (n, 3)
        # five standard errors
        assert np.all(np.abs(x.mean(0) - alpha * mean) <= 5 * np.sqrt(np.diag(cov) / n) + 1e-12)
        size = np.sqrt(np.outer(np.diag(cov), np.diag(cov)))
        assert np.all(np.abs(np.cov(x.T) - cov) <= 8 * size / math.sqrt(n) + 1e-12)


@every_kind
def test_draws_repeat_with_their_generator(make: Make) -> None:
    denoiser = make(path.Cosine())
    first, second, other = (denoiser.draw(7, 0.3, torch.Generator().manual_seed(seed)) for seed in (5, 5, 6))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


@singular_kind
def test_singular_data_has_no_density_without_noise(make: Make) -> None:
    denoiser = make(path.Linear())
    x = torch.randn(2, 3, dtype=F64)
    calls: list[tuple[str, Callable[[Tensor, float], Tensor]]] = [
        ("log_prob", denoiser.log_prob),
        ("score", denoiser.score),
    ]
    for name, call in calls:
        with pytest.raises(ValueError, match=f"{name}: the data has no density.*; use t > 0"):
            call(x, 0.0)
        assert bool(call(x, 0.01).isfinite().all())


@smooth_kind
def test_score_and_density_of_the_data_itself(make: Make) -> None:
    denoiser = make(path.Linear())
    x = denoiser.draw(5).requires_grad_()
    log_prob = denoiser.log_prob(x)
    density = sum(
        w * stats.multivariate_normal.pdf(x.detach().numpy(), m, c) for w, m, c in scipy_components(make, path.Linear())
    )
    torch.testing.assert_close(log_prob.detach().exp(), torch.as_tensor(density), rtol=1e-9, atol=0)
    (gradient,) = torch.autograd.grad(log_prob.sum(), x)
    torch.testing.assert_close(denoiser.score(x, 0.0), gradient, rtol=1e-9, atol=1e-9)


@every_kind
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_results_follow_the_dtype_of_x(make: Make, dtype: torch.dtype) -> None:
    denoiser = make(path.VariancePreserving())
    x = torch.randn(4, 3, dtype=dtype)
    for t in (0.3, torch.tensor(0.3), torch.full((4,), 0.3)):
        found = [*denoiser(x, t), denoiser.log_prob(x, t), denoiser.score(x, t), denoiser.velocity(x, t)]
        assert all(value.dtype == dtype for value in found)
    double = denoiser(x.double(), 0.3)
    for a, b in zip(denoiser(x, 0.3), double, strict=True):
        torch.testing.assert_close(a, b.to(dtype), rtol=1e-4, atol=1e-5)


@every_kind
def test_items_of_another_shape_are_refused(make: Make) -> None:
    denoiser = make(path.Linear())
    for x in (torch.zeros(2, 4), torch.zeros(3), torch.zeros(1, 2, 3)):
        with pytest.raises(ValueError, match=r"x has shape \(.*\) where \(B, 3\) is needed"):
            denoiser(x, 0.5)


# --- rows do not depend on the batch ---


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 17, 33])
@pytest.mark.parametrize("per_row", [False, True], ids=["one time", "a time for each row"])
def test_rows_are_the_same_bits_in_any_batch(dtype: torch.dtype, size: int, per_row: bool) -> None:
    g = torch.Generator().manual_seed(size)
    k = 5
    means, spread = torch.randn(k, size, generator=g), torch.rand(k, size, generator=g) + 0.1
    weights = torch.full((k,), 1 / k)
    x = torch.randn(64, size, generator=g, dtype=F64).to(dtype)
    times = torch.rand(64, generator=g, dtype=F64).to(dtype)
    for p in (path.Linear(), path.VariancePreserving(), path.VarianceExploding()):
        mixture = exact.GaussianMixture(weights, means, spread, p)
        denoisers: list[Any] = [
            exact.Gaussian(means[0], 0.7, p),
            exact.Gaussian(means[0], spread[0], p),
            exact.GaussianMixture(weights, means, spread[:, 0], p),
            mixture,
            mixture.given(2),
        ]
        for denoiser in denoisers:
            for what in (lambda x, t, d=denoiser: d(x, t), lambda x, t, d=denoiser: (d.score(x, t),)):
                whole = what(x, times if per_row else 0.37)
                for rows in (slice(0, 1), slice(5, 6), slice(63, 64), slice(9, 16), slice(1, 64)):
                    part = what(x[rows].clone(), times[rows] if per_row else 0.37)
                    for a, b in zip(part, whole, strict=True):
                        assert torch.equal(a, b[rows])


# --- Gaussian ---


@every_path
@pytest.mark.parametrize("name", ["number", "diagonal", "full"])
@settings(max_examples=3)
@given(t=st.floats(0.02, 1), s=st.floats(0.02, 1), u=st.floats(0.02, 1))
def test_flow_composes_and_transports_the_density(p: Path, name: str, t: float, s: float, u: float) -> None:
    gaussian = SMOOTH[name](p)
    assert isinstance(gaussian, exact.Gaussian)
    x = gaussian.draw(4, t)
    there = gaussian.flow(x, t, s)
    torch.testing.assert_close(gaussian.flow(there, s, u), gaussian.flow(x, t, u), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(gaussian.flow(there, s, t), x, rtol=1e-10, atol=1e-10)
    # change of variables: log p_t(x) = log p_s(y) + log|dy/dx|
    jacobian = torch.autograd.functional.jacobian(lambda x: gaussian.flow(x[None], t, s)[0], x[0])
    expected = gaussian.log_prob(there[:1], s) + torch.linalg.slogdet(jacobian).logabsdet
    torch.testing.assert_close(gaussian.log_prob(x[:1], t), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("p", [q for q in path.ALL if not isinstance(q, path.Betas)], ids=repr)
@pytest.mark.parametrize("name", ["diagonal", "full"])
def test_flow_solves_the_probability_flow_ode(p: Path, name: str) -> None:
    gaussian = SMOOTH[name](p)
    assert isinstance(gaussian, exact.Gaussian)

    def velocity(t: float, y: np.ndarray) -> np.ndarray:
        return gaussian.velocity(torch.as_tensor(y)[None], t)[0].numpy()

    x = gaussian.draw(1, 0.9)
    end = integrate.solve_ivp(velocity, (0.9, 0.05), x[0].numpy(), method="DOP853", rtol=1e-8, atol=1e-10).y[:, -1]
    torch.testing.assert_close(gaussian.flow(x, 0.9, 0.05)[0], torch.as_tensor(end), rtol=1e-6, atol=1e-6)


def test_flow_reaches_both_ends_and_takes_a_time_for_each_row() -> None:
    gaussian = exact.Gaussian(MEAN, FULL, path.Linear())
    x = torch.randn(3, 3, dtype=F64)
    data = gaussian.flow(x, 1.0, 0.0)
    values, vectors = np.linalg.eigh(FULL.numpy())
    expected = MEAN.numpy() + x.numpy() @ (vectors * np.sqrt(values)) @ vectors.T
    torch.testing.assert_close(data, torch.as_tensor(expected), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(gaussian.flow(data, 0.0, 1.0), x, rtol=1e-8, atol=1e-8)
    ends = torch.tensor([0.2, 0.5, 1.0], dtype=F64)
    rows = gaussian.flow(x, 1.0, ends)
    for i, s in enumerate(ends.tolist()):
        torch.testing.assert_close(rows[i : i + 1], gaussian.flow(x[i : i + 1], 1.0, s), rtol=1e-12, atol=1e-12)


def test_flow_from_a_point_mass_is_refused_and_into_one_is_not() -> None:
    flat = exact.Gaussian(MEAN, [0.5, 0.0, 0.2], path.Linear())
    x = torch.randn(4, 3, dtype=F64)
    torch.testing.assert_close(flat.flow(x, 1.0, 0.0)[:, 1], MEAN[1].expand(4))
    with pytest.raises(ValueError, match=r"Gaussian\.flow: the data has no density"):
        flat.flow(x, 0.0, 1.0)


def test_images_and_their_full_covariance() -> None:
    g = torch.Generator().manual_seed(3)
    mean, root = torch.randn(1, 2, 3, generator=g, dtype=F64), torch.randn(6, 6, generator=g, dtype=F64)
    image = exact.Gaussian(mean, root @ root.T, path.Linear())
    vector = exact.Gaussian(mean.flatten(), root @ root.T, path.Linear())
    x = torch.randn(5, 1, 2, 3, generator=g, dtype=F64)
    for a, b in zip(image(x, 0.3), vector(x.flatten(1), 0.3), strict=True):
        torch.testing.assert_close(a.flatten(1), b)
    assert image.shape == (1, 2, 3)
    assert image.flow(x, 1.0, 0.4).shape == image.draw(5).shape == image.score(x, 0.2).shape == x.shape
    mixture = exact.GaussianMixture(
        [0.5, 0.5], torch.stack([mean, -mean]), torch.rand(2, 1, 2, 3, generator=g), path.Linear()
    )
    assert mixture(x, 0.3).clean.shape == mixture.draw(5).shape == mixture.score(x, 0.2).shape == x.shape


# --- mixture ---


@every_path
@pytest.mark.parametrize("spread", [0.6, [0.5, 1.5, 0.2], FULL], ids=["number", "diagonal", "full"])
def test_a_mixture_of_one_is_a_gaussian(p: Path, spread: Any) -> None:
    gaussian = exact.Gaussian(MEAN, spread, p)
    one = torch.as_tensor(spread, dtype=F64)
    mixture = exact.GaussianMixture([1.0], MEAN[None], one[None], p)
    for t in (0.0, 0.3, 1.0):
        x = gaussian.draw(6, t)
        for a, b in zip(mixture(x, t), gaussian(x, t), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(mixture.log_prob(x, t), gaussian.log_prob(x, t), rtol=1e-9, atol=1e-9)


def test_posterior_weights_are_bayes_rule() -> None:
    p = path.Cosine()
    mixture = exact.GaussianMixture(WEIGHTS, MEANS, [0.3, 0.05], p)
    alpha, sigma = levels(p, 0.4)
    x = mixture.draw(6, 0.4)
    joint = np.stack(
        [
            w * stats.multivariate_normal.pdf(x.numpy(), alpha * m, c * alpha**2 + sigma**2)
            for w, m, c in zip(WEIGHTS.numpy(), MEANS.numpy(), [0.3, 0.05], strict=True)
        ],
        -1,
    )
    found = mixture.posterior_weights(x, 0.4)
    torch.testing.assert_close(found, torch.as_tensor(joint / joint.sum(-1, keepdims=True)), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["isotropic mixture", "diagonal mixture", "full mixture"])
def test_the_mixture_is_the_average_of_its_components_by_their_posterior_weights(name: str) -> None:
    mixture = SMOOTH[name](path.Linear())
    assert isinstance(mixture, exact.GaussianMixture)
    x = mixture.draw(9, 0.6)
    weights = mixture.posterior_weights(x, 0.6)
    parts = [mixture.given(k) for k in range(2)]
    clean = sum(weights[:, k, None] * part(x, 0.6).clean for k, part in enumerate(parts))
    torch.testing.assert_close(mixture(x, 0.6).clean, clean, rtol=1e-10, atol=1e-10)
    labels = torch.arange(9) % 2
    rows = mixture.given(labels)
    for k, part in enumerate(parts):
        for a, b in zip(rows(x, 0.6), part(x, 0.6), strict=True):
            torch.testing.assert_close(a[labels == k], b[labels == k], rtol=1e-12, atol=1e-12)
        assert torch.allclose(rows.log_prob(x, 0.6)[labels == k], part.log_prob(x, 0.6)[labels == k])


@pytest.mark.parametrize("name", ["isotropic mixture", "diagonal mixture", "full mixture"])
def test_draws_of_given_labels_come_from_their_components(name: str) -> None:
    mixture = SMOOTH[name](path.Linear())
    assert isinstance(mixture, exact.GaussianMixture)
    labels = torch.arange(20_000) % 2
    x = mixture.given(labels).draw(20_000)
    for k in range(2):
        own = x[labels == k]
        _, mean, cov = scipy_components(SMOOTH[name], path.Linear())[k]
        assert np.all(np.abs(own.mean(0).numpy() - mean) <= 5 * np.sqrt(np.diag(cov) / len(own)))
        assert np.all(
            np.abs(np.cov(own.numpy().T) - cov) <= 8 * np.sqrt(np.outer(np.diag(cov), np.diag(cov)) / len(own))
        )
    with pytest.raises(ValueError, match="3 labels were given, so n must be 3, not 4"):
        mixture.given(torch.tensor([0, 1, 1])).draw(4)
    with pytest.raises(ValueError, match="3 labels were given for a batch of 4"):
        mixture.given(torch.tensor([0, 1, 1]))(torch.zeros(4, 3), 0.5)


def test_a_component_without_weight_takes_no_part() -> None:
    x = torch.randn(5, 3, dtype=F64)
    two = exact.GaussianMixture([0.0, 1.0], MEANS, 0.3, path.Linear())
    one = exact.Gaussian(MEANS[1], 0.3, path.Linear())
    torch.testing.assert_close(two(x, 0.5).clean, one(x, 0.5).clean, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(two.log_prob(x, 0.5), one.log_prob(x, 0.5), rtol=1e-12, atol=1e-12)


# --- finite data sets ---


@every_path
@settings(max_examples=4)
@given(t=st.floats(0.05, 1))
def test_empirical_is_brute_force(p: Path, t: float) -> None:
    g = torch.Generator().manual_seed(0)
    data = torch.randn(37, 2, 3, generator=g, dtype=F64)
    denoiser = exact.Empirical(data, p)
    x = denoiser.draw(4, t)
    alpha, sigma = levels(p, t)
    square = ((x[:, None] - alpha * data) ** 2).flatten(2).sum(-1)
    weights = torch.softmax(-square / (2 * sigma**2), -1)
    torch.testing.assert_close(denoiser(x, t).clean, torch.einsum("bn,nij->bij", weights, data), rtol=1e-8, atol=1e-8)
    log_prob = torch.logsumexp(-square / (2 * sigma**2), -1) - math.log(37) - 3 * math.log(2 * math.pi * sigma**2)
    torch.testing.assert_close(denoiser.log_prob(x, t), log_prob, rtol=1e-9, atol=1e-9)


def test_empirical_does_not_depend_on_its_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    data, x = torch.randn(101, 4, dtype=F64), torch.randn(6, 4, dtype=F64)
    denoiser = exact.Empirical(data, path.Linear())
    whole, density = denoiser(x, 0.2), denoiser.log_prob(x, 0.2)
    monkeypatch.setattr(exact, "CHUNK", 50)
    assert len(list(denoiser._chunks(x))) > 10
    for a, b in zip(denoiser(x, 0.2), whole, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(denoiser.log_prob(x, 0.2), density, rtol=1e-12, atol=1e-12)


def test_empirical_near_the_data_gives_back_the_item() -> None:
    data = torch.randn(50, 784)
    denoiser = exact.Empirical(data, path.EDM())
    t = 1e-3 / 80
    clean, noise = denoiser(data[:5] + 1e-3 * torch.ones(5, 784), t)
    torch.testing.assert_close(clean, data[:5], rtol=0, atol=1e-6)
    torch.testing.assert_close(noise, torch.ones(5, 784), rtol=0, atol=1e-3)


def test_empirical_is_a_mixture_of_points() -> None:
    x = torch.randn(5, 3, dtype=F64)
    points = exact.GaussianMixture([0.25] * 4, POINTS, 0, path.Linear())
    finite = exact.Empirical(POINTS, path.Linear())
    for t in (0.0, 0.1, 0.5, 1.0):
        for a, b in zip(points(x, t), finite(x, t), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


# --- arguments ---

LINEAR = path.Linear()


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: exact.Gaussian(0.0, 1.0, LINEAR), r"Gaussian: mean has shape \(\)"),
        (lambda: exact.Gaussian(MEAN, [1.0, 2.0], LINEAR), r"cov has shape \(2,\) where one of \(\), \(3,\), \(3, 3\)"),
        (lambda: exact.Gaussian(MEAN, ROOT, LINEAR), "cov is not symmetric"),
        (lambda: exact.Gaussian(MEAN, -1.0, LINEAR), "not positive semi-definite: it has the variance -1"),
        (lambda: exact.Gaussian(MEAN, [1.0, -0.5, 1.0], LINEAR), "it has the variance -0.5"),
        (lambda: exact.Gaussian(MEAN, FULL - torch.eye(3), LINEAR), "cov is not positive semi-definite"),
        (lambda: exact.Gaussian(MEAN, math.nan, LINEAR), "cov holds a value that is not finite"),
        (lambda: exact.GaussianMixture([0.5, 0.4], MEANS, 1.0, LINEAR), r"sum to 1, not \[0.5, 0.4\] \(sum 0.9\)"),
        (lambda: exact.GaussianMixture([1.5, -0.5], MEANS, 1.0, LINEAR), "weights must be non-negative"),
        (lambda: exact.GaussianMixture([1.0], MEANS, 1.0, LINEAR), r"weights of shape \(1,\) do not fit means"),
        (lambda: exact.GaussianMixture([0.5, 0.5], MEANS, [1.0, 1, 1], LINEAR), r"variances has shape \(3,\)"),
        (
            lambda: exact.GaussianMixture([0.5, 0.5], MEANS, [1.0, -1], LINEAR),
            "variances is not positive semi-definite",
        ),
        (lambda: exact.GaussianMixture([0.5, 0.5], MEANS, 1.0, LINEAR).given(2), "from 0 to 1, one or .B,., not 2"),
        (
            lambda: exact.GaussianMixture([0.5, 0.5], MEANS, 1.0, LINEAR).given(torch.tensor([0, -1])),
            r"not \[0, -1\]",
        ),
        (lambda: exact.Empirical(torch.zeros(0, 3), LINEAR), r"Empirical: data has shape \(0, 3\)"),
        (lambda: exact.Empirical(torch.zeros(3), LINEAR), r"give at least one item, \(N, D\) or more"),
    ],
)
def test_wrong_arguments_are_refused_in_a_sentence(make: Callable[[], object], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        make()
