"""Each metric against an exact answer, another library, or a constructed set; intervals against repetition."""

import importlib
import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import mannwhitneyu, wasserstein_distance
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance, poly_mmd

from ornstein import metrics
from ornstein.data.objects import dataset_of
from ornstein.errors import UsageError
from ornstein.metrics import distances, score
from ornstein.metrics.mmd import median_distance


def draw(n: int, d: int, seed: int, shift: float = 0.0, scale: float = 1.0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed)) * scale + shift


def exactly(n: int, mean: Tensor, cov: Tensor, seed: int) -> Tensor:
    """Items whose mean and covariance are these exactly."""
    x = draw(n, len(mean), seed).double()
    x = x - x.mean(0)
    x = x @ torch.linalg.inv(torch.linalg.cholesky(x.T @ x / (n - 1))).T
    return x @ torch.linalg.cholesky(cov).T + mean


# Values


def test_frechet_distance_of_known_gaussians() -> None:
    """Diagonal covariances commute, so the closed form is ‖μ − ν‖² + Σ (√a − √b)²; and the general one by scipy's roots."""
    a, b = torch.tensor([1.0, 4.0, 0.25]).double(), torch.tensor([2.0, 1.0, 1.0]).double()
    mean = torch.tensor([0.5, -1.0, 2.0]).double()
    x, y = exactly(400, mean, torch.diag(a), 0), exactly(300, torch.zeros(3).double(), torch.diag(b), 1)
    expected = float(mean.square().sum() + (a.sqrt() - b.sqrt()).square().sum())
    assert metrics.frechet(x, y).value == pytest.approx(expected, rel=1e-9)
    rotation = torch.linalg.qr(draw(3, 3, 2).double()).Q
    assert metrics.frechet(x @ rotation, y @ rotation).value == pytest.approx(expected, rel=1e-9)


def test_frechet_distance_of_degenerate_features() -> None:
    x, y = draw(200, 3, 0), draw(200, 3, 1, scale=2.0)
    padded = [torch.cat([side, torch.zeros(200, 2), side[:, :1]], 1) for side in (x, y)]
    found = metrics.frechet(*padded)
    one = metrics.frechet(*(side * torch.tensor([2**0.5, 1.0, 1.0]) for side in (x, y)))
    assert found.value == pytest.approx(one.value, rel=1e-6)
    assert found.high == pytest.approx(one.high, rel=1e-3)
    assert metrics.frechet(x, x).value == pytest.approx(0, abs=1e-9)


class Lift(nn.Module):
    """A made-up extractor of 24 features, for both libraries."""

    num_features = 24

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(draw(3 * 8 * 8, 24, 5) * 0.1, requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return (x.float().flatten(1) / 128 - 1) @ self.weight


def images() -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng(0)
    real, made = (rng.integers(0, top, (600, 3, 8, 8), dtype=np.uint8) for top in (256, 230))
    return torch.from_numpy(real), torch.from_numpy(made)


def test_frechet_distance_is_that_of_torchmetrics() -> None:
    real, made = images()
    other = FrechetInceptionDistance(feature=Lift(), input_img_size=(3, 8, 8))
    other.update(real, real=True)
    other.update(made, real=False)
    assert metrics.frechet(Lift()(made), Lift()(real)).value == pytest.approx(float(other.compute()), rel=1e-3)


@pytest.mark.filterwarnings("ignore:Metric `Kernel Inception Distance` will save")
def test_kid_is_that_of_torchmetrics() -> None:
    real, made = images()
    found = metrics.kid(Lift()(made), Lift()(real)).value
    assert found == pytest.approx(float(poly_mmd(Lift()(real).double(), Lift()(made).double())), rel=1e-9)
    other = KernelInceptionDistance(feature=Lift(), subsets=1, subset_size=600)
    other.update(real, real=True)
    other.update(made, real=False)
    assert found == pytest.approx(float(other.compute()[0]), rel=1e-3)


def test_kid_and_mmd_of_the_same_distribution_are_zero_on_average() -> None:
    for metric in (metrics.kid, lambda x, y: metrics.mmd(x, y, bandwidth=2.0)):
        values = np.array([metric(draw(120, 4, 2 * i), draw(150, 4, 2 * i + 1)).value for i in range(150)])
        assert abs(values.mean()) < 3 * values.std() / math.sqrt(150)
        assert values.std() > 0


def test_mmd_of_known_gaussians() -> None:
    """E k between N(a, I) and N(b, I) is (h²/(h² + 2))^{D/2}·exp(−‖a − b‖²/(2(h² + 2)))."""
    d, h, shift = 3, 1.5, 0.7
    peak = (h**2 / (h**2 + 2)) ** (d / 2)
    expected = 2 * peak * (1 - math.exp(-d * shift**2 / (2 * (h**2 + 2))))
    found = metrics.mmd(draw(3000, d, 0, shift), draw(3000, d, 1), bandwidth=h)
    assert found.low < expected < found.high
    assert found.value == pytest.approx(expected, rel=0.1)


def test_the_median_heuristic_is_the_median() -> None:
    x, y = draw(40, 3, 0), draw(60, 3, 1)
    pooled = torch.cat([x, y]).double()
    expected = torch.cdist(pooled, pooled)[torch.triu(torch.ones(100, 100), 1).bool()].median()
    assert median_distance(x, y) == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.parametrize("count", [200, 317])
def test_sliced_wasserstein_is_that_of_scipy(count: int) -> None:
    x, y = draw(count, 5, 0, 0.3), draw(200, 5, 1)
    directions = torch.randn(5, 256, generator=torch.Generator().manual_seed(0))
    directions /= directions.norm(dim=0)
    each = [wasserstein_distance((x @ v).numpy(), (y @ v).numpy()) for v in directions.T]
    assert metrics.sliced_wasserstein(x, y).value == pytest.approx(float(np.mean(each)), rel=1e-5)


def test_sliced_wasserstein_of_a_shift() -> None:
    """Of a copy moved by v, the mean of |θ·v|; of the copy itself, 0."""
    x = draw(500, 2, 0)
    assert metrics.sliced_wasserstein(x, x).value == 0
    found = metrics.sliced_wasserstein(x + torch.tensor([3.0, 4.0]), x, slices=1024).value
    assert found == pytest.approx(5 * 2 / math.pi, rel=0.04)


def test_c2st() -> None:
    same = metrics.c2st(draw(2000, 4, 0), draw(2000, 4, 1))
    assert same.low < 0.5 < same.high
    assert metrics.c2st(draw(1000, 4, 0, 3.0), draw(1000, 4, 1)).value > 0.97
    # the best rule between N(−a, I) and N(a, I) is right with probability Φ(a√D)
    best = 0.5 * (1 + math.erf(0.5 * 2 / math.sqrt(2)))
    found = metrics.c2st(draw(4000, 4, 0, 0.5), draw(4000, 4, 1, -0.5))
    assert best - 0.03 < found.value < found.high + 0.001
    assert found.low < best < found.high


def test_precision_and_recall_of_constructed_sets() -> None:
    """Samples in one of two far clusters: all look real, half of the real data is reached; and the other way round."""
    near, far = draw(400, 3, 0), draw(400, 3, 1, 100.0)
    precision, recall = metrics.precision_recall(draw(400, 3, 2), torch.cat([near, far]))
    assert precision.value > 0.9
    assert 0.45 < recall.value <= 0.5
    precision, recall = metrics.precision_recall(torch.cat([near, far]), draw(400, 3, 2))
    assert 0.45 < precision.value <= 0.5
    assert recall.value > 0.9
    assert [s.value for s in metrics.precision_recall(near, far)] == [0.0, 0.0]
    assert [s.value for s in metrics.precision_recall(near, near)] == [1.0, 1.0]


def test_precision_and_recall_by_the_definition() -> None:
    x, y = draw(150, 2, 0, 0.5), draw(130, 2, 1)
    for k in (1, 3):
        reach_y = torch.cdist(y, y).sort(1).values[:, k]
        reach_x = torch.cdist(x, x).sort(1).values[:, k]
        across = torch.cdist(x, y)
        precision, recall = metrics.precision_recall(x, y, k)
        assert precision.value == pytest.approx(float((across <= reach_y).any(1).double().mean()))
        assert recall.value == pytest.approx(float((across <= reach_x[:, None]).any(0).double().mean()))
        density, coverage = metrics.density_coverage(x, y, k)
        assert density.value == pytest.approx(float((across <= reach_y).sum().double() / (k * 150)))
        assert coverage.value == pytest.approx(float((across <= reach_y).any(0).double().mean()))


def test_density_and_coverage_of_the_same_distribution() -> None:
    """Naeem et al. 2020, lemmas 1 and 2: density 1, coverage 1 − Π_{i<k} (N − i − 1)/(N + M − i − 1)."""
    n, k = 300, 5
    expected = 1 - math.prod((n - i) / (2 * n - i) for i in range(1, k + 1))
    both = [metrics.density_coverage(draw(n, 3, 2 * i), draw(n, 3, 2 * i + 1), k) for i in range(40)]
    density, coverage = (np.array([pair[j].value for pair in both]) for j in (0, 1))
    assert abs(density.mean() - 1) < 3.5 * density.std() / math.sqrt(40)
    assert abs(coverage.mean() - expected) < 3.5 * coverage.std() / math.sqrt(40)


@pytest.mark.parametrize("label", [-1, 4])
def test_labels_of_no_class_are_refused(label: int) -> None:
    asked = torch.arange(200) % 4
    asked[17] = label
    with pytest.raises(UsageError, match=f"one of 4 classes, 0 to 3, for each sample; sample 17 has the label {label}"):
        metrics.agreement(asked, torch.arange(200) % 4, ("a", "b", "c", "d"))


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("extractor", [metrics.Values(), metrics.Network("mean", nn.AdaptiveAvgPool2d(1))])
def test_broken_samples_are_named_before_a_network_hides_them(wrong: float, extractor: metrics.Extractor) -> None:
    items = np.random.default_rng(0).normal(size=(300, 4, 4, 1)).astype(np.float32)
    spec = dataset_of(items).spec
    items[217, 1, 2, 0] = wrong
    with pytest.raises(UsageError, match="sample 217 holds NaN or infinite numbers"):
        metrics.extract(extractor, items, spec)


def test_agreement() -> None:
    asked = torch.arange(200) % 4
    recognised = torch.where(torch.arange(200) < 100, asked, (asked + 1) % 4)
    found, by_class = metrics.agreement(asked, recognised, ("a", "b", "c", "d"))
    assert found.value == 0.5
    assert {name: s.value for name, s in by_class.items()} == dict.fromkeys("abcd", 0.5)
    assert "e" not in metrics.agreement(asked, recognised, ("a", "b", "c", "d", "e"))[1]


def test_copies_are_found() -> None:
    training, fresh = draw(2000, 6, 0), draw(500, 6, 1)
    honest = metrics.memorisation(draw(500, 6, 2), training, fresh)
    nearer, copies, ratio, exact = honest.scores
    assert exact.value == 0
    assert nearer.low < 0.5 < nearer.high
    assert copies.low < 0.01 < copies.high
    assert ratio.low < 1 < ratio.high
    made = draw(500, 6, 2)
    made[:100] = training[700:800]
    found = metrics.memorisation(made, training, fresh)
    assert found.scores[1].value == pytest.approx(0.2 + 0.8 * copies.value, abs=0.01)
    assert found.scores[3].value == 0.2
    assert sorted(found.samples.tolist()) != list(range(16))  # all 100 are at distance 0
    assert torch.equal(found.training, found.samples + 700)
    assert metrics.memorisation(training[:500], training, fresh).scores[0].value == 1
    assert metrics.memorisation(training[:500], training).scores[0].value == 1
    alone = metrics.memorisation(draw(500, 6, 2), training)
    assert abs(alone.scores[0].value - 0.5) < 0.05


def test_nearer_is_the_mann_whitney_statistic() -> None:
    training, made, fresh = draw(300, 3, 0), draw(150, 3, 1, scale=0.8), draw(200, 3, 2)
    ours, held = (torch.cdist(side, training).amin(1).numpy() for side in (made, fresh))
    expected = mannwhitneyu(held, ours).statistic / (len(ours) * len(held))
    assert metrics.memorisation(made, training, fresh).scores[0].value == pytest.approx(expected, abs=1e-3)


# Intervals


def bootstrap(metric: Callable[[Tensor, Tensor], metrics.Score], x: Tensor, y: Tensor, repeats: int = 100) -> float:
    generator = torch.Generator().manual_seed(0)
    values = []
    for _ in range(repeats):
        rows = (torch.randint(len(side), (len(side),), generator=generator) for side in (x, y))
        values.append(metric(*(side[r] for side, r in zip((x, y), rows, strict=True))).value)
    return float(np.std(values))


def nearer(x: Tensor, y: Tensor) -> metrics.Score:
    from ornstein.metrics.memorisation import _nearer

    return _nearer(x[:, 0], y[:, 0], torch.arange(len(y)))


SMOOTH = (
    lambda x, y: metrics.kid(x.tanh(), y.tanh()),  # the cube of a Gaussian has too heavy tails for 200 items
    metrics.frechet,
    lambda x, y: metrics.mmd(x, y, bandwidth=2.0),
    lambda x, y: metrics.sliced_wasserstein(x, y, slices=32),
    nearer,
)


@pytest.mark.parametrize("metric", SMOOTH)
def test_the_interval_is_that_of_the_bootstrap(metric: Callable[[Tensor, Tensor], metrics.Score]) -> None:
    x, y = draw(250, 3, 0, 0.6, 1.3), draw(200, 3, 1)
    found = metric(x, y)
    assert (found.high - found.low) / 2 / score.Z == pytest.approx(bootstrap(metric, x, y), rel=0.25)


@pytest.mark.parametrize("metric", SMOOTH)
def test_the_interval_covers_the_truth(metric: Callable[[Tensor, Tensor], metrics.Score]) -> None:
    """The truth: the mean of many repeats, bias and all. 95 % of 120 is 114, give or take 2.4."""
    found = [metric(draw(250, 3, 2 * i, 0.6, 1.3), draw(200, 3, 2 * i + 1)) for i in range(120)]
    truth = np.mean([s.value for s in found])
    assert 106 <= sum(s.low < truth < s.high for s in found) <= 120


@pytest.mark.parametrize("metric", [metrics.kid, metrics.frechet, lambda x, y: metrics.mmd(x, y, bandwidth=2.0)])
@pytest.mark.parametrize("shift", [0.1, 0.2])
def test_intervals_close_to_the_null_hold(metric: Callable[[Tensor, Tensor], metrics.Score], shift: float) -> None:
    """Where the distance is about as large as its own spread, neither order of its variance is enough alone."""
    found = [metric(draw(200, 3, 2 * i, shift), draw(200, 3, 2 * i + 1)) for i in range(200)]
    truth = np.mean([s.value for s in found])
    assert 178 <= sum(s.low <= truth <= s.high for s in found) <= 199


def test_no_frechet_distance_is_said_to_be_below_0() -> None:
    x, y = draw(200, 3, 0), draw(200, 3, 1)
    x[5, 0] = 40.0
    found = metrics.frechet(x, y)
    assert 0 <= found.low <= found.value <= found.high


def test_an_interval_joins_the_null_with_what_is_far_from_it() -> None:
    far = score.distance("d", 1e6, score.Null(0.0, 4.0, 200.0), 32.0)
    assert (far.low, far.high) == pytest.approx((1e6 - 6 * score.Z, 1e6 + 6 * score.Z), abs=0.05)
    same = score.distance("d", 3.0, score.Null(3.0, 4.0, 2.0), 0.0)
    assert same.low == pytest.approx(3.0, abs=1e-9)  # a distance is not below its null
    assert score.distance("d", 2.5, score.Null(3.0, 4.0, 2.0), 0.0).low == 2.5
    ends = [score.distance("d", value, score.Null(1.0, 1.0, 1.0), value / 8) for value in np.linspace(0.0, 30.0, 3001)]
    assert all(one.low <= one.value <= one.high for one in ends)
    for one, other in pairwise(ends):  # without jumps
        assert abs(other.low - one.low) < 0.05
        assert 0 < other.high - one.high < 0.05


@pytest.mark.parametrize("degrees", [1, 4, 40])
@pytest.mark.parametrize("truth", [0.0, 0.3, 1.0, 3.0, 10.0, 100.0])
def test_the_interval_of_a_noncentral_chi_square(degrees: int, truth: float) -> None:
    """What a squared distance with equal eigenvalues is, `truth` deviations of the null away from it."""
    scale = 1 / math.sqrt(2 * degrees)  # so that the variance at the null is 1
    draws = np.random.default_rng(0).noncentral_chisquare(degrees, truth / scale, 2000) * scale
    null = score.Null(0.0, 1.0, scale * degrees)
    found = [score.distance("d", float(v), null, 4 * scale * max(v, 0.0)) for v in draws - scale * degrees]
    held = np.mean([one.low <= truth <= one.high for one in found])
    assert 0.93 <= held <= 0.99


def test_the_mean_and_spread_of_frechet_distances_at_the_null() -> None:
    """Second order against repetition: Gaussians of unequal variances, whose fourth moments matter as much."""
    scales, found = torch.tensor([1.0, 2.0, 0.1, 0.5, 1.0]), []
    for i in range(300):
        found.append(metrics.frechet(draw(400, 5, 2 * i) * scales, draw(300, 5, 2 * i + 1) * scales).value)
    centred = [side - side.mean(0) for side in (draw(4000, 5, 1).double() * scales, draw(3000, 5, 2).double() * scales)]
    null = importlib.import_module("ornstein.metrics.frechet")._second_order(*centred)
    assert 10 * null.mean == pytest.approx(np.mean(found), rel=0.1)
    assert 10 * math.sqrt(null.variance) == pytest.approx(np.std(found), rel=0.2)


def copying(x: Tensor, y: Tensor) -> tuple[metrics.Score, ...]:
    return metrics.memorisation(x, y).scores[:2]


@pytest.mark.parametrize(
    ("metric", "counts", "size", "least"),
    [
        (metrics.kid, (250, 200), 3, 90),
        (lambda x, y: metrics.mmd(x, y, bandwidth=2.0), (250, 200), 3, 90),
        (metrics.frechet, (250, 200), 3, 90),
        (lambda x, y: metrics.sliced_wasserstein(x, y, slices=32), (250, 200), 3, 87),
        (metrics.precision_recall, (200, 160), 2, 87),
        (metrics.precision_recall, (160, 200), 16, 87),
        (metrics.density_coverage, (200, 160), 2, 87),
        (metrics.density_coverage, (160, 200), 16, 87),
        (copying, (400, 150), 2, 90),  # more samples than training items, and no held-out data
    ],
)
def test_intervals_at_the_null_hold_and_are_not_far_too_wide(
    metric: Callable[..., Any], counts: tuple[int, int], size: int, least: int
) -> None:
    """Samples of the real distribution. Of 100, 95 ± 2.2; the benchmark `intervals` has more repeats of larger sets."""
    found = [metric(draw(counts[0], size, 2 * i), draw(counts[1], size, 2 * i + 1)) for i in range(100)]
    for scores in zip(*(each if isinstance(each, tuple) else (each,) for each in found), strict=True):
        values = torch.tensor([s.value for s in scores])
        truth = {"near copies": 0.01, "nearer than fresh data": 0.5}.get(scores[0].name, float(values.mean()))
        assert sum(s.low <= truth <= s.high for s in scores) >= least, scores[0].name
        half = float(torch.tensor([s.high - s.low for s in scores]).mean()) / 2
        assert half < 1.3 * score.Z * float(values.std()) + 0.02, scores[0].name


def test_the_variance_of_halves_is_that_of_new_draws() -> None:
    """Of a mean, where it is known: 4/N and 1/M together."""
    x, y = draw(400, 1, 0, scale=2.0), draw(1000, 1, 1)
    found = torch.stack([score.spread(lambda a, b: (a.mean() - b.mean())[None], x, y, seed)[0] for seed in range(20)])
    assert float(found.mean()) == pytest.approx(4 / 400 + 1 / 1000, rel=0.15)


# What cannot be measured


def duplicates(x: Tensor) -> Tensor:
    return x[torch.arange(len(x)) // 2]


WRONG = {
    "nan": (
        lambda x: x.index_put((torch.tensor(17), torch.tensor(1)), torch.tensor(torch.nan)),
        "item 17 of the {} holds nan",
    ),
    "inf": (
        lambda x: x.index_put((torch.tensor(3), torch.tensor(0)), torch.tensor(-torch.inf)),
        "item 3 of the {} holds -inf",
    ),
    "large": (
        lambda x: x.index_put((torch.tensor(0), torch.tensor(0)), torch.tensor(1e30)),
        "item 0 of the {} holds 1e.30",
    ),
    "constant": (lambda x: torch.full_like(x, 0.3), "all 400 {kind} items are the same"),
    "one": (lambda x: x[:1], "of 1 {kind} items would mean nothing"),
    "empty": (lambda x: x[:0], "of 0 {kind} items would mean nothing"),
    "narrow": (
        lambda x: x[:, :2],
        "compares the same features of both sides, not .* items of [23] and .* items of [23]$",
    ),
}


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("metric", metrics.ALL)
def test_what_is_no_measurement_is_refused_in_one_sentence(metric: Callable[..., Any], wrong: str, side: int) -> None:
    change, message = WRONG[wrong]
    sets = [draw(400, 3, 0), draw(400, 3, 1)]
    sets[side] = change(sets[side])
    name = ("samples", "training" if metric is metrics.memorisation else "real")[side]
    with pytest.raises(UsageError, match=message.format(name, kind=name.removesuffix("s"))) as error:
        metric(*sets)
    assert "\n" not in str(error.value)


def scores_of(metric: Callable[..., Any], x: Tensor, y: Tensor) -> tuple[metrics.Score, ...]:
    found = metric(x, y)
    found = found.scores if isinstance(found, metrics.Memorisation) else found
    return found if isinstance(found, tuple) else (found,)


@pytest.mark.parametrize("metric", metrics.ALL)
def test_every_score_is_a_number_within_its_interval(metric: Callable[..., Any]) -> None:
    x, y = draw(400, 3, 0), draw(300, 3, 1)
    for first, second in ((x, y), (duplicates(x), y), (x, duplicates(y)), (x, torch.cat([x[:100], y])), (x.abs(), y)):
        for one in scores_of(metric, first, second):
            assert one.low <= one.value <= one.high, one
            assert all(map(math.isfinite, (one.low, one.value, one.high))), one


@pytest.mark.parametrize("metric", [metrics.kid, metrics.frechet, metrics.mmd, metrics.sliced_wasserstein])
def test_a_distance_is_symmetric(metric: Callable[..., metrics.Score]) -> None:
    x, y = draw(400, 3, 0, 0.3, 1.2), draw(300, 3, 1)
    one, other = metric(x, y), metric(y, x)
    assert one.value == pytest.approx(other.value, rel=1e-4)
    assert (one.low, one.high) == pytest.approx((other.low, other.high), rel=2e-2)  # sliced: random exchanges


def test_precision_is_recall_of_the_exchanged_sets() -> None:
    x, y = draw(200, 3, 0, 0.3, 1.2), draw(300, 3, 1)
    assert [s.value for s in metrics.precision_recall(x, y)] == [s.value for s in metrics.precision_recall(y, x)[::-1]]


@pytest.mark.parametrize("metric", metrics.ALL)
def test_equal_sets_have_the_null_value(metric: Callable[..., Any]) -> None:
    x = draw(400, 3, 0)
    null = {
        "Fréchet distance": 0.0,
        "sliced Wasserstein": 0.0,
        "precision": 1.0,
        "recall": 1.0,
        "coverage": 1.0,
        "nearer than fresh data": 1.0,
        "near copies": 1.0,
        "distance ratio": 0.0,
        "exact copies": 1.0,
    }
    for one in scores_of(metric, x, x.clone()):
        if one.name in null:
            assert one.value == pytest.approx(null[one.name], abs=1e-6), one
        elif one.name == "density":  # an item lies in its own reach and, up to the rounding of the last, in k others
            assert 1 < one.value <= 1.2
        elif one.name == "C2ST accuracy":
            assert one.low < 0.5 < one.high
        else:  # unbiased for sets apart: here no item is left out of the other set as it is of its own
            assert one.low <= one.value < 0, one


def test_copies_are_counted_exactly_and_ratios_without_meaning_are_left_out() -> None:
    training, fresh = duplicates(draw(400, 3, 0)), draw(300, 3, 1)
    alone = metrics.memorisation(training[:150], training)
    assert [s.name for s in alone.scores] == ["exact copies"]
    assert alone.scores[0].value == 1
    assert alone.repeats.notes == (
        "75 of 150 samples repeat an earlier one, one of them 2 times in all",
        "200 of 400 training items repeat an earlier one, one of them 2 times in all",
        "150 of 150 samples are exact copies of training items",
    )
    assert alone.notes[0].startswith("near copies are left out: 1 % or more of the fresh items equal a training item")
    assert alone.notes[1].startswith(
        "how often samples are nearer, and the distance ratio, are left out: half of the fresh"
    )
    assert "has memorised its training data: 100.0% of" in str(
        metrics.memorisation(training[:150], training, fresh).verdict
    )
    fresh[:30] = training[50:80]
    made = draw(200, 3, 2)
    made[7] = training[11]
    found = metrics.memorisation(made, training, fresh)
    assert [s.name for s in found.scores] == ["nearer than fresh data", "distance ratio", "exact copies"]
    assert found.scores[2].value == 1 / 200
    assert "30 of 300 held-out items are also in the training data" in found.repeats.notes
    assert 0.8 < found.scores[1].value < 1.3
    assert found.verdict is None
    copied = metrics.memorisation(training[::2][:150], training, fresh)
    assert copied.verdict == "training data are memorised: 100.0% of the samples equal a training item"
    all_in = metrics.memorisation(made, training, training[:150])
    assert all(math.isfinite(s.high) and s.high < 1e3 for s in all_in.scores)
    apart = metrics.memorisation(draw(200, 3, 2), draw(400, 3, 0), draw(300, 3, 1))
    assert (apart.repeats.notes, apart.notes, apart.verdict) == ((), (), None)


def test_data_of_few_values_have_no_ratio() -> None:
    whole = [draw(count, 1, seed, scale=300.0).round() for count, seed in ((400, 0), (600, 1), (400, 2))]
    for found in (metrics.memorisation(*whole), metrics.memorisation(*whole[:2])):
        assert all(math.isfinite(one.high) for one in found.scores)
        assert "near copies" not in [one.name for one in found.scores]
        assert found.verdict is None


@pytest.mark.parametrize(
    ("part", "words"), [(1.0, "has memorised its"), (0.2, "part of the training data is"), (0.0, None)]
)
@pytest.mark.parametrize("held", [True, False])
@pytest.mark.parametrize("count", [300, 1500])
def test_memorisation_is_said_in_words(part: float, words: str | None, held: bool, count: int) -> None:
    """Near copies, with and without held-out data, of fewer samples than training items and of more."""
    training = draw(500, 8, 0)
    made = draw(count, 8, 2)
    copied = int(part * count)
    made[:copied] = training[torch.arange(copied) % 500] + draw(copied, 8, 3, scale=1e-3)
    verdict = metrics.memorisation(made, training, draw(400, 8, 1) if held else None).verdict
    assert verdict is None if words is None else words in str(verdict)


def test_near_copies_raise_no_false_alarm() -> None:
    """Samples of the real distribution, more than training items, and no held-out data: a word about memorising is rare."""
    verdicts = [metrics.memorisation(draw(600, 4, 2 * i), draw(150, 4, 2 * i + 1)).verdict for i in range(100)]
    assert sum(verdict is not None for verdict in verdicts) <= 3


def test_items_are_known_by_their_numbers() -> None:
    y = torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
    x = torch.tensor([[-0.0, 1.0], [1.0, 1e-7], [1.0, 0.0]])
    known = metrics.repeats(distances.names(x), distances.names(y), distances.names(y))
    assert known.copies is not None
    assert known.copies.tolist() == [True, False, True]
    assert known.notes == (
        "1 of 3 held-out items repeat an earlier one, one of them 2 times in all",
        "1 of 3 training items repeat an earlier one, one of them 2 times in all",
        "3 of 3 held-out items are also in the training data",
        "2 of 3 samples are exact copies of training items",
    )
    spec = dataset_of(np.arange(12, dtype=np.uint8).reshape(3, 2, 2, 1)).spec
    whole, floating = (
        metrics.identities(np.arange(12).reshape(3, 2, 2, 1).astype(t), spec) for t in ("uint8", "float64")
    )
    assert whole == floating


def test_the_interval_of_a_proportion_is_wilsons() -> None:
    found = score.proportion("p", torch.arange(10) < 8)
    assert (found.low, found.high) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert score.proportion("p", torch.ones(50, dtype=torch.bool)).low == pytest.approx(0.9286, abs=1e-3)


@pytest.mark.parametrize(
    "metric",
    [
        metrics.kid,
        metrics.frechet,
        metrics.precision_recall,
        metrics.density_coverage,
        metrics.sliced_wasserstein,
        metrics.mmd,
        metrics.c2st,
        metrics.memorisation,
    ],
)
def test_few_items_are_refused(metric: Callable[[Tensor, Tensor], object]) -> None:
    with pytest.raises(UsageError, match=r"of 40 sample items would mean nothing; give \d+ or more"):
        metric(draw(40, 2, 0), draw(500, 2, 1))
    with pytest.raises(UsageError, match="of 300 sample items would mean nothing; give 600 or more"):
        metrics.frechet(draw(300, 300, 0), draw(700, 300, 1))


def test_blocks_do_not_change_distances(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = draw(50, 3, 0, 1e3), draw(40, 3, 1, 1e3)
    y[7] = x[3]
    whole = metrics.memorisation.__globals__["nearest"](x, y, 4)
    monkeypatch.setattr(distances, "ENTRIES", 100)
    parts = distances.nearest(x, y, 4)
    assert torch.equal(whole.place, parts.place)
    expected = torch.cdist(x.double(), y.double()).sort(1)
    torch.testing.assert_close(parts.distance.double(), expected.values[:, :4], rtol=1e-4, atol=1e-6)
    assert parts.distance[3, 0] == 0
    own = distances.nearest(x, k=2)
    assert bool((own.place != torch.arange(50)[:, None]).all())
