"""What must hold of the true posterior mean holds of exact denoisers on every path, and is seen to fail of others."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from ornstein import exact, path
from ornstein.denoiser import Denoiser
from ornstein.errors import UsageError
from ornstein.estimate import Estimate
from ornstein.metrics.diagnostics import diagnose, times
from ornstein.path import Path, Time

VARIANCE = 0.5


def gaussian(on: Path) -> exact.Gaussian:
    return exact.Gaussian(torch.tensor([0.3, -0.2, 0.1]).double(), VARIANCE, on)


def mixture(on: Path) -> exact.GaussianMixture:
    means = torch.tensor([[1.0, 0.0], [-1.0, 0.5]]).double()
    return exact.GaussianMixture([0.3, 0.7], means, torch.tensor([0.1, 0.2]).double(), on)


@dataclass(frozen=True)
class Bent:
    """A denoiser whose clean estimate is too large by a factor."""

    right: Denoiser
    factor: float

    @property
    def path(self) -> Path:
        return self.right.path

    def __call__(self, x_t: Tensor, t: Time) -> Estimate:
        point = self.path.at(t, x_t)
        clean = self.right(x_t, t).clean * self.factor
        return Estimate(clean, (x_t - point.alpha * clean) / point.sigma)


@pytest.mark.parametrize("on", path.ALL, ids=str)
def test_a_gaussian_has_the_errors_of_its_closed_form(on: Path) -> None:
    denoiser = gaussian(on)
    x = denoiser.draw(1500, generator=torch.Generator().manual_seed(0))
    for level in diagnose(denoiser, x, times(on, 4), exact=denoiser):
        alpha, sigma = (float(v) for v in on.levels(level.t, torch.zeros((), dtype=torch.float64)))
        clean = VARIANCE * sigma**2 / (alpha**2 * VARIANCE + sigma**2)
        assert level.foretold.value == pytest.approx(clean, rel=1e-6)
        assert level.clean.value == pytest.approx(clean, rel=0.1)
        assert level.noise.value == pytest.approx(level.clean.value * (alpha / sigma) ** 2, rel=1e-6)
        assert level.calibration.value == pytest.approx(1, abs=0.1)
        assert abs(level.continuity) < 0.01
        assert level.score is not None
        assert level.score.value == 0


@pytest.mark.parametrize("on", path.ALL, ids=str)
def test_a_mixture_passes_and_a_bent_one_fails(on: Path) -> None:
    right = mixture(on)
    x = right.draw(3000, generator=torch.Generator().manual_seed(0))
    (good,) = diagnose(right, x, [times(on, 3)[1]])
    assert good.calibration.low - 0.05 < 1 < good.calibration.high + 0.05
    assert abs(good.continuity) < 0.005
    (bad,) = diagnose(Bent(right, 1.5), x, [good.t], exact=right)
    assert bad.clean.value > good.clean.value
    assert bad.continuity > 0.02
    assert bad.score is not None
    assert good.score is None
    alpha, sigma = (float(v) for v in on.levels(good.t, torch.zeros((), dtype=torch.float64)))
    # E‖x − 1.5x̂‖² = E‖x − x̂‖² + 0.25·E‖x̂‖², and the noise estimate is off by α/σ of that
    excess = bad.clean.value - good.clean.value
    assert bad.score.value == pytest.approx(excess * (alpha / sigma) ** 2, rel=0.1)


def test_a_denoiser_too_sure_of_itself_is_seen() -> None:
    """The mean of the data for every x_t: right on average, but with a Jacobian of half the size its error is not foretold."""
    right = gaussian(path.Linear())
    x = right.draw(2000, generator=torch.Generator().manual_seed(0))
    (level,) = diagnose(Bent(right, 0.5), x, [0.5])
    assert level.calibration.low > 1.5


def test_rows_keep_their_conditions_and_few_items_are_refused() -> None:
    right = mixture(path.Cosine())
    x = right.draw(300, generator=torch.Generator().manual_seed(0))
    asked: list[slice] = []

    def given(rows: slice) -> Denoiser:
        asked.append(rows)
        return right

    (one,) = diagnose(right, x, [0.4], conditioned=given, batch_size=128)
    assert asked == [slice(0, 128), slice(128, 256), slice(256, 300)]
    (other,) = diagnose(right, x, [0.4], batch_size=50)
    assert other.clean.value == pytest.approx(one.clean.value, rel=1e-9)
    with pytest.raises(UsageError, match="give 100 or more"):
        list(diagnose(right, x[:50]))


@pytest.mark.parametrize("on", path.ALL, ids=str)
def test_times_lie_inside_and_rise(on: Path) -> None:
    found = times(on, 8)
    assert len(found) >= 6
    assert found == sorted(found)
    assert 0 < found[0] < found[-1] < 1
