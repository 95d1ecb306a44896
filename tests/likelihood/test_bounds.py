"""Variational bounds against closed forms; decoders and dequantisation on discrete distributions that are known."""

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from ornstein import grid, likelihood, path
from ornstein.exact import Gaussian, GaussianMixture
from ornstein.likelihood import discrete
from ornstein.noise import PerSampleNoise, repeat
from ornstein.path import Path

F64 = torch.float64
every_path = pytest.mark.parametrize("p", path.ALL, ids=repr)
ROWS = 256


def mixture(p: Path) -> GaussianMixture:
    means = torch.tensor([[-1.0, 0.3], [0.8, -0.5]], dtype=F64)
    return GaussianMixture([0.3, 0.7], means, torch.tensor([0.25, 0.16], dtype=F64), p)


def gap(values: Tensor, truth: Tensor) -> tuple[float, float]:
    """The mean of −bound beyond the truth, and its standard error, over rows that differ in their draws alone."""
    off = values - truth
    return float(off.mean()), float(off.std()) / math.sqrt(len(off))


@every_path
def test_the_continuous_bound_has_no_gap_for_the_optimal_denoiser(p: Path) -> None:
    x = torch.tensor([[0.4, -0.2]], dtype=F64).expand(ROWS, 2)
    truth = -mixture(path.Linear()).log_prob(x[:1])  # of the data itself, without the noise that a path may keep
    found = likelihood.elbo(mixture(p), x, calls=16)
    mean, error = gap(found.total, truth)
    assert error < 0.1
    assert abs(mean) < 4 * error + 2e-3
    assert torch.allclose(found.steps.sum(0), found.diffusion)
    assert found.times.shape == (17,)
    assert found.times[-1] == 1
    assert bool((found.times.diff() > 0).all())
    told = float(found.probe.square().mean().sqrt())
    assert 0.8 < told / float(found.total.std()) < 1.6


def test_the_terms_for_a_gaussian() -> None:
    """½∫E‖ε − ε̂‖²(−dλ) with E‖ε − ε̂‖² = (α²c/V)² + (ασx/V)² for x given and data N(0, c)."""
    p, c, x = path.VariancePreserving(), 0.6, 0.9
    model = Gaussian(torch.zeros(1, dtype=F64), c, p)
    found = likelihood.elbo(model, torch.full((2000, 1), x, dtype=F64), calls=16, nearest=0.01)
    t = float(p.time(-2 * math.log(0.01)))
    log_snr = torch.linspace(float(p.log_snr(t)), float(p.log_snr(1.0)), 20001, dtype=F64)
    alpha2, sigma2 = torch.sigmoid(log_snr), torch.sigmoid(-log_snr)
    v = alpha2 * c + sigma2
    integrand = 0.5 * ((alpha2 * c / v) ** 2 + alpha2 * sigma2 * x**2 / v**2)
    diffusion = -float(torch.trapezoid(integrand, log_snr))
    assert abs(float(found.diffusion.mean()) - diffusion) < 4 * float(found.diffusion.std()) / 2000**0.5
    alpha, sigma = (float(level) for level in p.levels(1.0, torch.zeros(1)))
    assert float(found.prior[0]) == pytest.approx(0.5 * (alpha * x / sigma) ** 2)
    keep = c / (c + 0.01**2)  # clean = keep·(x + 0.01 ε), so x − clean = (1 − keep)x − 0.01·keep·ε
    off = ((1 - keep) * x) ** 2 / 0.01**2 + keep**2
    reconstruction = 0.5 * (off + math.log(2 * math.pi) + 2 * math.log(0.01))
    assert float(found.reconstruction.mean()) == pytest.approx(reconstruction, abs=1e-3)


@every_path
def test_the_discrete_bound_lies_above_and_falls_with_its_steps(p: Path) -> None:
    model, x = mixture(p), mixture(p)._draw_data(ROWS, torch.Generator().manual_seed(0))
    truth = -mixture(path.Linear()).log_prob(x)
    gaps = []
    for steps in (16, 64):
        mean, error = gap(likelihood.bound(model, x, steps=steps).total, truth)
        assert mean > -4 * error
        gaps.append(mean)
    assert gaps[1] < 0.5 * gaps[0]
    mean, error = gap(likelihood.bound(model, x, steps=16, variance=discrete.large).total, truth)
    assert mean > -4 * error


@pytest.mark.parametrize("variance", [discrete.small, discrete.large])
@pytest.mark.parametrize("p", [path.Betas.linear(8, 0.05, 0.4), path.Linear(), path.VarianceExploding()], ids=repr)
def test_terms_are_those_of_the_definition(p: Path, variance: discrete.Variance) -> None:
    """KL by KL with torch's own, the same noise, at all steps of a grid; the control variate has mean 0 and is put back."""
    model, x = mixture(p), mixture(p)._draw_data(3, torch.Generator().manual_seed(0))
    times = grid.trailing(p, 8) if isinstance(p, path.Betas) else grid.uniform(p, 8)
    found = likelihood.bound(model, x, grid=times, variance=variance)
    levels = times.tolist() if float(p.sigma(torch.zeros(()))) > 0 else times.tolist()[:-1]
    assert len(found.steps) == len(levels) - 1
    assert found.times.tolist() == levels[::-1]
    for k, (t, s) in enumerate(pairwise(levels), 1):
        alpha, sigma = p.levels(t, x)
        eps = repeat(PerSampleNoise(), k)(x, t, s)
        x_t, posterior = alpha * x + sigma * eps, p.posterior(s, t)
        true = Normal(posterior.on_x_t * x_t + posterior.on_clean * x, posterior.sigma)
        mean = posterior.on_x_t * x_t + posterior.on_clean * model(x_t, t).clean
        kl = kl_divergence(
            true, Normal(mean, variance(p, torch.tensor(s, dtype=F64), torch.tensor(t, dtype=F64)).sqrt())
        ).sum(1)
        rest = eps.square().sum(1) - 2
        coefficient = (kl - found.steps[-k]) / rest
        assert torch.allclose(coefficient, coefficient[:1].expand(3), rtol=1e-6, atol=1e-9)
    assert torch.allclose(found.total, found.prior + found.steps.sum(0) + found.reconstruction)


@every_path
def test_the_prior_term_of_a_standard_normal(p: Path) -> None:
    """By torch's own KL; bounds with it lie above, too, for it is a density."""
    model, x = mixture(p), mixture(p)._draw_data(ROWS, torch.Generator().manual_seed(0))
    alpha, sigma = p.levels(1.0, x)
    start = Normal(torch.zeros_like(x), torch.hypot(alpha, sigma).expand_as(x))
    expected = kl_divergence(Normal(alpha * x, sigma.expand_as(x)), start).sum(1)
    assert torch.allclose(likelihood.NormalPrior()(model, x), expected, rtol=1e-6, atol=1e-12)
    assert torch.allclose(likelihood.NormalPrior()(model, x.float()).double(), expected, rtol=1e-4, atol=1e-8)
    truth, normal = -mixture(path.Linear()).log_prob(x), likelihood.NormalPrior()
    for found in (likelihood.elbo(model, x, calls=8, prior=normal), likelihood.bound(model, x, steps=8, prior=normal)):
        assert torch.allclose(found.prior, expected, rtol=1e-6, atol=1e-12)
        mean, error = gap(found.total, truth)
        assert mean > -4 * error


def test_what_bounds_refuse() -> None:
    model, x = mixture(path.Linear()), torch.zeros(1, 2, dtype=F64)
    with pytest.raises(ValueError, match="calls = 1"):
        likelihood.elbo(model, x, calls=1)
    with pytest.raises(ValueError, match="steps = 1"):
        likelihood.bound(model, x, steps=1)
    with pytest.raises(ValueError, match="from t = 1 to 0"):
        likelihood.bound(model, x, grid=torch.tensor([0.9, 0.5, 0.2, 0.0]))


def test_a_discretised_decoder_is_a_distribution_over_levels() -> None:
    levels = torch.linspace(-1, 1, 17, dtype=F64)[:, None]
    decoder = likelihood.Discretised(0.125)
    for clean in (-3.0, -0.97, 0.03, 0.5, 1.2):
        for ratio in (1e-3, 0.04, 0.7):
            log_p = decoder(levels, torch.full_like(levels, clean), ratio)
            assert bool(log_p.isfinite().all() if ratio > 0.01 else (log_p <= 0).all())
            assert float(log_p.exp().sum()) == pytest.approx(1, abs=1e-12)
    inside = decoder(levels[8:9], torch.tensor([[0.03]], dtype=F64), 0.05)
    normal = Normal(torch.tensor(0.03, dtype=F64), 0.05)
    expected = (normal.cdf(torch.tensor(0.0625, dtype=F64)) - normal.cdf(torch.tensor(-0.0625, dtype=F64))).log()
    assert float(inside) == pytest.approx(float(expected))
    with pytest.raises(ValueError, match="are no levels"):
        likelihood.Discretised(0.0)


@pytest.mark.parametrize("noise", [likelihood.Uniform(), likelihood.Truncated(0.1), likelihood.Truncated(2.0)], ids=str)
def test_dequantisation_of_a_known_discrete_distribution(noise: likelihood.Uniform | likelihood.Truncated) -> None:
    """E_q[p(y)/q(y)] is the probability of the bin, exactly, and E_q[log p(y) − log q(y)] lies below its logarithm."""
    model = GaussianMixture([0.4, 0.6], [[-1.0], [0.9]], torch.tensor([0.3, 0.5], dtype=F64), path.Linear())
    for level in (-1.0, 0.0, 2.0):
        x = torch.full((20000, 1), level, dtype=F64)
        y, minus_log_q = noise(x, 0.5, PerSampleNoise())
        assert bool(((y - x).abs() <= 0.25).all())
        log_ratio = model.log_prob(y) + minus_log_q
        edges = torch.tensor([level - 0.25, level + 0.25], dtype=F64)
        sides = torch.special.ndtr(
            (edges[:, None] - torch.tensor([-1.0, 0.9])) / torch.tensor([0.3, 0.5]).double().sqrt()
        )
        mass = float((torch.tensor([0.4, 0.6], dtype=F64) * (sides[1] - sides[0])).sum())
        ratio = log_ratio.exp()
        assert abs(float(ratio.mean()) - mass) < 4 * float(ratio.std()) / 20000**0.5 + 1e-9
        assert float(log_ratio.mean()) < math.log(mass) + 1e-9


def test_truncated_becomes_uniform_and_knows_the_path_s_noise() -> None:
    x = torch.zeros(50, 3, dtype=F64)
    for wide, flat in zip(
        likelihood.Truncated(100.0)(x, 0.5, PerSampleNoise()),
        likelihood.Uniform()(x, 0.5, PerSampleNoise()),
        strict=True,
    ):
        assert torch.allclose(wide, flat, atol=1e-4)
    y, minus_log_q = likelihood.Truncated(0.01)(x, 0.5, PerSampleNoise())
    normal = Normal(torch.tensor(0.0, dtype=F64), 0.01)
    assert torch.allclose(minus_log_q, -normal.log_prob(y).sum(1), atol=1e-9)
    with pytest.raises(ValueError, match="ratio = 0"):
        likelihood.Truncated(0.0)


def test_the_parts_of_a_mean() -> None:
    draw = torch.Generator().manual_seed(0)
    items, probe = torch.randn(4000, generator=draw) * 3, torch.full((4000,), 4.0)
    found = likelihood.summarise(items + torch.randn(4000, generator=draw) * 4, probe, torch.tensor([0.1, -0.3]))
    assert found.data == pytest.approx(3 / 4000**0.5, rel=0.1)
    assert found.probe == pytest.approx(4 / 4000**0.5, rel=1e-6)
    assert found.solver == pytest.approx(math.hypot(0.1, 0.2), rel=1e-5)  # the mean, and its own error of two items
    assert found.total == pytest.approx(math.hypot(5 / 4000**0.5, 0.1, 0.2), rel=0.05)
    assert found.scaled(-2.0)[1:] == pytest.approx((2 * found.data, 2 * found.probe, 2 * found.solver, 4000))
    one = likelihood.summarise(torch.tensor([2.0]))
    assert one.mean == 2
    assert math.isnan(one.data)
    unknown = likelihood.summarise(items, torch.full((4000,), math.nan))
    assert math.isnan(unknown.probe)
    assert unknown.total == unknown.data
