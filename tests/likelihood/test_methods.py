"""Data's own units: the Jacobian of preprocessing, and probabilities of whole numbers, against known distributions."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from ornstein import likelihood, path
from ornstein.data.arrays import Arrays
from ornstein.data.measuring import measure
from ornstein.errors import UsageError
from ornstein.exact import GaussianMixture
from ornstein.likelihood import Units, variational
from ornstein.noise import PerSampleNoise

F64 = torch.float64
WIDTH = 0.5


def model(p: path.Path) -> GaussianMixture:
    return GaussianMixture([0.4, 0.6], [[-0.6, 0.2], [0.7, -0.1]], torch.tensor([0.2, 0.3], dtype=F64), p)


def mass(x: Tensor, low: float = -math.inf, high: float = math.inf) -> Tensor:
    """log P of bins under the mixture, exactly; the outermost reach to infinity."""
    below = torch.where(x <= low, -math.inf, x - WIDTH / 2)[:, None]
    above = torch.where(x >= high, math.inf, x + WIDTH / 2)[:, None]
    means, std = torch.tensor([[-0.6, 0.2], [0.7, -0.1]], dtype=F64), torch.tensor([[0.2], [0.3]], dtype=F64).sqrt()
    sides = (torch.special.ndtr((edge - means) / std) for edge in (above, below))
    inside = next(sides) - next(sides)
    return (inside.prod(-1) @ torch.tensor([0.4, 0.6], dtype=F64)).log()


@pytest.mark.parametrize("p", [path.Linear(), path.VariancePreserving()], ids=repr)
def test_densities_in_the_data_s_own_units(p: path.Path) -> None:
    m, units = model(p), Units(None, -math.log(7.0) * 2)  # x = v/7 in both dimensions
    x = m.draw(64, generator=torch.Generator().manual_seed(0))
    truth = -(m.log_prob(x) - 2 * math.log(7.0))
    found = likelihood.ODE()(m, x, units, PerSampleNoise(), check=True)
    assert torch.allclose(found.nats, truth, rtol=0, atol=1e-2)
    assert found.solver is not None
    for method in (likelihood.ELBO(), likelihood.DiscreteBound()):
        bound = method(m, x, units, PerSampleNoise())
        off = bound.nats - truth
        assert float(off.mean()) > -4 * float(off.std()) / 8
        assert torch.allclose(torch.stack(list(bound.terms.values())).sum(0), bound.nats)


@pytest.mark.parametrize(
    ("method", "slack"),
    [
        (likelihood.ODE(), 0.2),
        (likelihood.ODE(dequantisation=likelihood.Uniform()), 0.2),
        (likelihood.ELBO(), 0.6),
        (likelihood.DiscreteBound(100), 1.0),
        (likelihood.ELBO(dequantisation=likelihood.Uniform()), 0.6),
        (likelihood.DiscreteBound(100, dequantisation=likelihood.Uniform()), 1.0),
    ],
    ids=["ode", "ode-uniform", "elbo", "bound", "elbo-uniform", "bound-uniform"],
)
def test_a_bound_on_the_probability_of_whole_numbers(method: likelihood.Method, slack: float) -> None:
    """The denoiser is that of a density; the level's probability is its mass in the bin, and no bound may exceed it."""
    m = model(path.Linear())
    levels = (m.draw(256, generator=torch.Generator().manual_seed(0)) / WIDTH).round() * WIDTH
    units = Units(torch.tensor(WIDTH, dtype=F64), 0.0)
    # with bins the decoder models round(x) from x_t: any decoder is a distribution over levels
    found = method(m, levels, units, PerSampleNoise())
    off = found.nats + mass(levels)
    error = float(off.std()) / 16
    assert float(off.mean()) > -4 * error
    assert float(off.mean()) < slack + 4 * error


def test_even_noise_spares_a_smooth_model_the_price_of_the_decoder() -> None:
    """0.234 bits a dimension; and a bound has no other noise than even, or its decoder."""
    m = model(path.Linear())
    levels = (m.draw(512, generator=torch.Generator().manual_seed(0)) / 0.01).round() * 0.01
    units = Units(torch.tensor(0.01, dtype=F64), 0.0)
    plain, even = (
        likelihood.ELBO(64, dequantisation=q)(m, levels, units, PerSampleNoise()).nats.mean()
        for q in (None, likelihood.Uniform())
    )
    assert float(plain - even) / levels[0].numel() / math.log(2) == pytest.approx(0.234, abs=0.08)
    with pytest.raises(ValueError, match="give Uniform"):
        likelihood.ELBO(dequantisation=likelihood.Truncated(0.1))(m, levels, units, PerSampleNoise())


def test_a_fitted_dequantisation_begins_as_the_path_s_and_is_a_tighter_bound() -> None:
    m = model(path.Linear())
    levels = (m.draw(128, generator=torch.Generator().manual_seed(0)) / WIDTH).round() * WIDTH
    ratio = WIDTH / 4
    begun = variational.fresh(levels.float(), ratio)(levels.float(), WIDTH, PerSampleNoise())
    plain = likelihood.Truncated(ratio)(levels.float(), WIDTH, PerSampleNoise())
    for mine, theirs in zip(begun, plain, strict=True):
        assert torch.allclose(mine, theirs, atol=1e-5)
    again = [levels.float()] * 60
    told: list[int] = []
    fitted = likelihood.fit_dequantisation(
        ((m, x) for x in again), WIDTH, ratio, 60, progress=lambda k, _: told.append(k)
    )
    assert told == list(range(1, 61))
    units = Units(torch.tensor(WIDTH, dtype=F64), 0.0)
    bounds = [
        likelihood.ODE(solver=likelihood.FixedSteps(24), dequantisation=q)(m, levels.float(), units, PerSampleNoise())
        for q in (None, fitted)
    ]
    gain = bounds[0].nats - bounds[1].nats
    assert float(gain.mean()) > 2 * float(gain.std()) / 128**0.5
    off = bounds[1].nats + mass(levels)
    assert float(off.mean()) > -4 * float(off.std()) / 128**0.5
    with pytest.raises(ValueError, match="60 batches for 61 steps"):
        likelihood.fit_dequantisation(((m, x) for x in again), WIDTH, ratio, 61)


def test_another_unit_shifts_the_nats_by_its_logarithm() -> None:
    """Values ten times as large are ten times less dense in each dimension, for every method, to the last bit but rounding."""
    m = model(path.Linear())
    x = m.draw(4, generator=torch.Generator().manual_seed(0)).double()
    methods = likelihood.ODE(solver=likelihood.FixedSteps(12)), likelihood.ELBO(4), likelihood.DiscreteBound(4)
    for method in methods:
        one, ten = (method(m, x, Units(None, -2 * math.log(s)), PerSampleNoise()) for s in (1.0, 10.0))
        assert torch.allclose(ten.nats - one.nats, torch.full((4,), 2 * math.log(10), dtype=F64), atol=1e-12)


def test_units_of_a_spec() -> None:
    images = np.arange(2 * 4 * 4, dtype=np.uint8).reshape(2, 4, 4, 1)
    spec = measure(Arrays(images, None, ()), "images")
    assert float(spec.level_width) == pytest.approx(2 / 255)
    assert spec.log_volume == pytest.approx(16 * math.log(2 / 255))
    vectors = np.array([[1.0, 10.0], [3.0, 40.0]])
    spec = measure(Arrays(vectors, None, ()), "vectors")
    assert spec.level_width is None
    assert spec.log_volume == pytest.approx(-math.log(1.0 * 15.0))
    jacobian = np.diag(spec.from_model(torch.eye(2)) - spec.from_model(torch.zeros(2, 2)))
    assert spec.log_volume == pytest.approx(-math.log(np.prod(jacobian)))
    whole = measure(Arrays(vectors.astype(np.int64), None, ()), "counts")
    np.testing.assert_allclose(whole.level_width, [1.0, 1 / 15])
    constant = measure(Arrays(np.array([[1.0, 2.0], [1.0, 3.0]]), None, ()), "flat")
    with pytest.raises(UsageError, match="Dimension 0 of flat is constant, so it has no density"):
        _ = constant.log_volume
