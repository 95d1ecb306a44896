"""Guidance against closed forms: mixtures with known classes, on every path; the number of calls; scale 1 to the last bit."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from ornstein import NetworkDenoiser, exact, guidance, path, sample, solvers, target
from ornstein.denoiser import Denoiser
from ornstein.estimate import Estimate
from ornstein.guidance import (
    APG,
    Autoguidance,
    CFGZeroStar,
    Classifier,
    ClassifierFree,
    Clip,
    DynamicThreshold,
    Energy,
    GuidanceConfig,
    GuidedDenoiser,
    Interval,
    NegativeLabel,
    Rescaled,
    WeakModel,
    unconditional,
)
from ornstein.noise import PerSampleNoise
from ornstein.path import Path, Time

F64 = torch.float64
MEANS = torch.tensor([[-1.0, 0.5], [1.2, 0.3], [0.2, -1.0], [0.9, -0.4]], dtype=F64)
TIMES = (0.05, 0.4, 0.8, 0.97)


def mixture(p: Path) -> exact.GaussianMixture:
    return exact.GaussianMixture([0.3, 0.3, 0.2, 0.2], MEANS, 0.05, p)


def of_class(p: Path) -> exact.GaussianMixture:
    """The class made of the second and the fourth component, of weight 0.5."""
    return exact.GaussianMixture([0.6, 0.4], MEANS[[1, 3]], 0.05, p)


def probe(p: Path, t: Time) -> Tensor:
    return mixture(p).draw(6, t, torch.Generator().manual_seed(1))


def score(log_density: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(log_density(x).sum(), x)
    return slope


def log_class(p: Path) -> Callable[[Tensor, Time], Tensor]:
    """log p(y | x_t) of the class, exactly."""
    whole, part = mixture(p), of_class(p)
    return lambda x, t: part.log_prob(x, t) - whole.log_prob(x, t) + torch.log(torch.tensor(0.5, dtype=F64))


def guided_ways(p: Path) -> list[GuidedDenoiser]:
    c, u = of_class(p), mixture(p)
    free = ClassifierFree(c, u, 2.5)
    return [
        free,
        ClassifierFree(c, u, lambda t: 1 + 2 * t),
        Autoguidance(c, u, 1.7),
        CFGZeroStar(c, u, 3.0),
        APG(c, u, 4.0, parallel=0.2, radius=0.3),
        Classifier(u, log_class(p), 2.0),
        Energy(u, lambda x: x.square().flatten(1).sum(1), 0.3),
        Interval(free, 0.2, 0.8),
        Rescaled(free, 0.7),
        Interval(Rescaled(APG(c, u, 3.0)), 0.1, 0.9),
        Rescaled(Interval(CFGZeroStar(c, u, 3.0), 0.1, 0.9), 0.5),
        Interval(Energy(u, lambda x: x.square().flatten(1).sum(1), 0.3), 0.3),
        ClassifierFree(Classifier(c, log_class(p), 0.5), u, 1.5),
    ]


def all_ways(p: Path) -> list[Denoiser]:
    whole = GuidanceConfig(3.0, APG, (0.1, 2.0), 0.4)(mixture(p), 1)
    return [*guided_ways(p), whole, Clip(guided_ways(p)[0], -1.2, 0.8), DynamicThreshold(guided_ways(p)[0], 0.7, 0.5)]


@pytest.mark.parametrize("t", TIMES)
@pytest.mark.parametrize("p", path.ALL, ids=str)
def test_the_guided_field_is_the_gradient_of_its_closed_form(p: Path, t: float) -> None:
    """∇[(1 − w) log p_t + w log p_t(· | y)], by differentiating densities; classifier guidance is the same with w and Bayes."""
    x, c, u, w = probe(p, t), of_class(p), mixture(p), 2.5
    expected = score(lambda x: (1 - w) * u.log_prob(x, t) + w * c.log_prob(x, t), x)
    for denoiser in (ClassifierFree(c, u, w), Classifier(u, log_class(p), w)):
        found = denoiser(x, t).score(p.at(t, x))
        assert torch.allclose(found, expected, rtol=1e-6, atol=1e-8 * float(expected.abs().max()))
    assert torch.allclose(Classifier(u, log_class(p), 1.0)(x, t).clean, c(x, t).clean, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("p", path.ALL, ids=str)
def test_estimates_explain_their_input_and_the_ends_are_finite(p: Path) -> None:
    """α·clean + σ·noise = x_t for every kind of guidance, at both ends too, and row by row."""
    for t in (0.0, 0.3, 0.96, 1.0):
        x = probe(p, t)
        alpha, sigma = p.levels(t, x)
        for denoiser in all_ways(p):
            estimate = denoiser(x, t)
            size = (alpha * estimate.clean).abs() + (sigma * estimate.noise).abs()
            assert bool(((alpha * estimate.clean + sigma * estimate.noise - x).abs() <= 1e-9 * (1 + size)).all()), (
                denoiser
            )
    rows = torch.tensor([0.0, 0.15, 0.5, 0.85, 0.97, 1.0], dtype=F64)
    x = probe(p, rows)
    for denoiser in all_ways(p):
        together = denoiser(x, rows)
        for i in range(len(rows)):
            alone = denoiser(x[i : i + 1], float(rows[i]))
            assert torch.allclose(together.clean[i], alone.clean[0], rtol=1e-6, atol=1e-8), denoiser
            assert torch.allclose(together.noise[i], alone.noise[0], rtol=1e-6, atol=1e-8), denoiser


@pytest.mark.parametrize("p", path.ALL, ids=str)
def test_scale_one_is_the_conditional_model_to_the_last_bit(p: Path) -> None:
    c, u = of_class(p), mixture(p)
    for t in (0.0, 0.5, 1.0):
        x = probe(p, t)
        for method in guidance.CONTRASTS:
            for scale in (1.0, 1, lambda t: torch.ones_like(t)):
                estimate = method(c, u, scale)(x, t)
                assert torch.equal(estimate.clean, c(x, t).clean)
                assert torch.equal(estimate.noise, c(x, t).noise)
    start = probe(p, 1.0)
    assert torch.equal(sample(ClassifierFree(c, u, 1.0), start=start), sample(c, start=start))


@pytest.mark.parametrize("p", path.ALL, ids=str)
def test_the_limits_of_each_method(p: Path) -> None:
    c, u, t = of_class(p), mixture(p), 0.6
    x = probe(p, t)
    free = ClassifierFree(c, u, 3.0)

    def close(one: Denoiser, other: Denoiser, at: float = t) -> bool:
        mine, theirs = one(x, at), other(x, at)
        return all(torch.allclose(a, b, rtol=1e-7, atol=1e-7) for a, b in zip(mine, theirs, strict=True))

    assert close(ClassifierFree(c, u, 0.0), u)
    assert close(APG(c, u, 3.0, parallel=1.0), free)
    assert close(Rescaled(free, 0.0), free)
    assert close(Interval(free, 0.5, 0.7), free)
    assert close(Interval(free, 0.5, 0.6), free)
    assert close(Interval(free, 0.6, 0.7), c)
    assert close(Clip(free, -1e9, 1e9), free)
    assert close(DynamicThreshold(free, 0.9, 1e9), free)
    assert close(Energy(u, lambda x: 0 * x.sum(1)), u)
    assert close(CFGZeroStar(c, c, 3.0), c)
    assert not close(Rescaled(free, 0.7), free)
    assert not close(APG(c, u, 3.0), free)


def test_interval_takes_noise_levels() -> None:
    free = ClassifierFree(of_class(path.EDM()), mixture(path.EDM()), 2.0)
    interval = Interval.levels(free, 0.19, 1.61)
    for end, level in ((interval.low, 0.19), (interval.high, 1.61)):
        alpha, sigma = path.EDM().levels(end, torch.zeros(1))
        assert float(sigma / alpha) == pytest.approx(level)
    whole = Interval.levels(free, 0, float("inf"))
    assert (whole.low, whole.high) == (0, 1)


@pytest.mark.parametrize("p", path.ALL, ids=str)
def test_cfg_zero_star_projects_the_unconditional_velocity(p: Path) -> None:
    """Its scale s minimises ‖u_c − s·u_u‖ for each sample, and the start of the way has no velocity."""
    c, u = of_class(p), mixture(p)
    x = probe(p, 0.5)
    ours, theirs = (d(x, 0.5).noise - d(x, 0.5).clean for d in (c, u))
    s = torch.stack([torch.linalg.lstsq(b[:, None], a[:, None]).solution[0] for a, b in zip(ours, theirs, strict=True)])
    estimate = CFGZeroStar(c, u, 3.0)(x, 0.5)
    assert torch.allclose(estimate.noise - estimate.clean, -2 * s * theirs + 3 * ours, rtol=1e-4)
    estimate = CFGZeroStar(c, u, 3.0)(probe(p, 1.0), 1.0)
    assert torch.allclose(estimate.noise, estimate.clean)
    estimate = CFGZeroStar(c, u, 3.0, zero_init=0.0)(probe(p, 1.0), 1.0)
    assert not torch.allclose(estimate.noise, estimate.clean)


def test_apg_adds_nothing_along_the_conditional_estimate() -> None:
    c, u, t = of_class(path.Linear()), mixture(path.Linear()), 0.7
    x = probe(path.Linear(), t)
    moved = APG(c, u, 5.0)(x, t).clean - c(x, t).clean
    assert torch.allclose((moved * c(x, t).clean).sum(1), torch.zeros(6, dtype=F64), atol=1e-12)
    assert float(moved.abs().max()) > 0.01
    short = APG(c, u, 5.0, parallel=1.0, radius=0.1)(x, t).clean - c(x, t).clean
    gap = (c(x, t).clean - u(x, t).clean).norm(dim=1)
    assert torch.allclose(short.norm(dim=1), 4 * gap.clamp(max=0.1))


def test_rescaled_has_the_spread_of_the_plain_estimate() -> None:
    p, t = path.Cosine(), 0.5
    c, u = exact.Gaussian(torch.randn(3, 4, dtype=F64), 0.3, p), exact.Gaussian(torch.randn(3, 4, dtype=F64), 1.0, p)
    x = torch.randn(5, 3, 4, dtype=F64)
    full = Rescaled(ClassifierFree(c, u, 6.0), 1.0)(x, t).clean
    assert torch.allclose(full.flatten(1).std(1), c(x, t).clean.flatten(1).std(1))
    half = Rescaled(ClassifierFree(c, u, 6.0), 0.5)(x, t).clean
    assert torch.allclose(half, (full + ClassifierFree(c, u, 6.0)(x, t).clean) / 2)


def test_thresholds_keep_the_range() -> None:
    p, t = path.Linear(), 0.6
    free = ClassifierFree(of_class(p), mixture(p), 20.0)
    x = probe(p, t)
    wide = free(x, t).clean
    assert torch.equal(Clip(free, -1.0, 1.0)(x, t).clean, wide.clamp(-1, 1))
    dynamic = DynamicThreshold(free, 1.0, 1.0)(x, t).clean
    s = wide.abs().amax(1, keepdim=True).clamp(min=1)
    assert float(s.max()) > 1.5
    assert torch.allclose(dynamic, wide / s)


@pytest.mark.parametrize("p", path.ALL, ids=str)
def test_energy_of_a_gaussian_is_its_chain_rule(p: Path) -> None:
    """E = ½‖x − a‖²/b on Gaussian data: clean is linear in x_t with a slope αc/V, so the gradient is in closed form."""
    data, a, b, w = exact.Gaussian(MEANS[0], 0.4, p), MEANS[1], 0.7, 1.3
    for t in (0.1, 0.5, 0.9):
        x = data.draw(5, t)
        alpha, sigma = p.levels(t, x)
        plain = data(x, t)
        slope = alpha * 0.4 / (alpha**2 * 0.4 + sigma**2)
        expected = plain.score(p.at(t, x)) - w * slope * (plain.clean - a) / b
        denoiser = Energy(data, lambda x: (x - a).square().sum(1) / (2 * b), w)
        assert torch.allclose(denoiser(x, t).score(p.at(t, x)), expected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("p", [path.Linear(), path.Cosine(), path.EDM(), path.VariancePreserving()], ids=str)
def test_classifier_guidance_samples_the_posterior_in_inference_mode(p: Path) -> None:
    """Gaussian data and a Gaussian observation: scale 1 with the exact log p(y | x_t) draws from the known posterior."""
    prior, noise = exact.Gaussian(torch.zeros(1, dtype=F64), 1.0, p), 0.5
    y = torch.tensor([1.2], dtype=F64)

    def log_prob(x: Tensor, t: Time) -> Tensor:
        alpha, sigma = p.levels(t, x)
        total = alpha**2 + sigma**2
        mean, variance = alpha * x / total, sigma**2 / total + noise
        return (-0.5 * (y - mean) ** 2 / variance).sum(1)

    with torch.inference_mode():
        start = torch.tensor([[-2.0], [-0.5], [0.0], [1.0], [2.5]], dtype=F64) * p.sigma(torch.ones((), dtype=F64))
        drawn = sample(Classifier(prior, log_prob), start=start, solver=solvers.Heun(), steps=60)
        posterior = exact.Gaussian(y / (1 + noise), noise / (1 + noise), p)
        assert torch.allclose(drawn, posterior.flow(start, 1.0, 0.0), atol=5e-3)


class Net(torch.nn.Module):
    """A network with classes that counts its calls and their rows."""

    classes = 4

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[int] = []
        self.table = torch.nn.Embedding(self.classes + 1, 3)

    def forward(self, x: Tensor, t: Tensor, condition: Any = None) -> Tensor:
        self.calls.append(len(x))
        if condition is None:
            condition = torch.full((len(x),), self.classes)
        return torch.sin(x * 2 + self.table(condition)) + t[:, None]


def network(p: Path = path.Linear()) -> tuple[Net, NetworkDenoiser]:  # noqa: B008
    net = Net().requires_grad_(False)
    return net, NetworkDenoiser(net, p, target.V())


LABELS = torch.tensor([0, 1, 3, 3, 2])


@pytest.mark.parametrize("solver", [solvers.ABM(), solvers.Heun(), solvers.PredictorCorrector()], ids=str)
def test_the_two_passes_are_one_call(solver: solvers.Solver) -> None:
    net, denoiser = network()
    conditional = denoiser.given(LABELS)

    def calls(guided: Denoiser) -> list[int]:
        net.calls.clear()
        sample(guided, (5, 3), solver=solver, steps=4)
        return list(net.calls)

    one = calls(conditional)
    assert set(one) == {5}
    for method in guidance.CONTRASTS:
        assert calls(method(conditional, denoiser, 1.0)) == one
        for other in (denoiser, denoiser.given(torch.full_like(LABELS, 4)), denoiser.given(torch.zeros_like(LABELS))):
            assert set(calls(method(conditional, other, 2.0))) == {10}
    if isinstance(solver, solvers.ABM):
        inside = [0.3 < t <= 0.7 for t in solver.grid(denoiser.path, 4)[:-1].tolist()]
        assert 0 < sum(inside) < 4
        limited = calls(Interval(ClassifierFree(conditional, denoiser, 2.0), 0.3, 0.7))
        assert limited == [10 if guided else 5 for guided in inside]
        assert set(calls(Rescaled(ClassifierFree(conditional, denoiser, 2.0)))) == {10}
        assert set(calls(ClassifierFree(conditional, network()[1], 2.0))) == {5}
        net.calls.clear()
        guided = Energy(ClassifierFree(conditional, denoiser, 2.0), lambda x: x.square().sum(1))
        guided(torch.zeros(5, 3), 0.5)
        assert net.calls == [10]


@pytest.mark.parametrize("p", path.ALL, ids=str)
def test_one_call_says_what_two_calls_say(p: Path) -> None:
    """The batched pass, the fast path of the solvers' loop, and the two separate calls agree; a sample is its own row's."""
    net, denoiser = network(p)
    conditional = denoiser.given(LABELS)

    def apart(d: NetworkDenoiser) -> Denoiser:
        return _Plain(d)

    for scale in (2.0, lambda t: 1 + t):
        one = ClassifierFree(conditional, denoiser, scale)
        two = ClassifierFree(apart(conditional), apart(denoiser), scale)
        for t in (0.2, torch.tensor([0.0, 0.1, 0.5, 0.9, 1.0])):
            x = torch.randn(5, 3)
            for a, b in zip(one(x, t), two(x, t), strict=True):
                assert torch.allclose(a, b, rtol=1e-5, atol=1e-5)
        assert one.predictors(torch.tensor([0.5]), x) is not None
        assert two.predictors(torch.tensor([0.5]), x) is None
        drawn = sample(one, (5, 3), steps=6)
        assert torch.allclose(drawn, sample(two, (5, 3), steps=6), rtol=1e-4, atol=1e-4)
        inside = (sample(Interval(d, 0.2, 0.9), (5, 3), steps=6) for d in (one, two))
        assert torch.allclose(*inside, rtol=1e-4, atol=1e-4)
    alone = ClassifierFree(denoiser.given(LABELS[2:3]), denoiser, 2.0)
    whole = ClassifierFree(conditional, denoiser, 2.0)
    noise = PerSampleNoise(0, 2)
    assert torch.allclose(sample(whole, (5, 3))[2:3], sample(alone, (1, 3), noise=noise), rtol=1e-5, atol=1e-5)
    assert net.calls


def test_scale_one_of_a_network_is_bit_equal_in_sampling() -> None:
    _, denoiser = network()
    conditional = denoiser.given(LABELS)
    expected = sample(conditional, (5, 3))
    for method in guidance.CONTRASTS:
        assert torch.equal(sample(method(conditional, denoiser, 1.0), (5, 3)), expected)
    assert torch.equal(sample(Interval(ClassifierFree(conditional, denoiser, 1.0), 0.2, 0.7), (5, 3)), expected)
    assert torch.equal(sample(GuidanceConfig(1.0)(denoiser, LABELS), (5, 3)), expected)


@pytest.mark.parametrize("p", path.ALL, ids=str)
def test_a_guide_asks_for_one_class_and_goes_away_from_what_it_names(p: Path) -> None:
    """(1 − w)·∇log p_away + w·∇log p(· | y) by differentiating densities, away from all data, a class, or another model."""
    model, other, w, t = mixture(p), exact.Gaussian(MEANS[0], 2.0, p), 2.5, 0.6
    classes = torch.tensor([1, 0, 3, 1, 2, 0])
    x = probe(p, t)

    class Other:
        path = p
        __call__ = other.__call__

        def given(self, condition: Any, /) -> Denoiser:
            return other

    aways = {unconditional: model, NegativeLabel(2): model.given(2), WeakModel(Other()): other}
    for negative, known in aways.items():
        expected = score(lambda x: (1 - w) * known.log_prob(x, t) + w * model.given(classes).log_prob(x, t), x)  # noqa: B023
        found = GuidanceConfig(w, negative=negative)(model, classes)(x, t).score(p.at(t, x))
        assert torch.allclose(found, expected, rtol=1e-6, atol=1e-8 * float(expected.abs().max()))


def test_a_guide_is_what_it_says() -> None:
    _, denoiser = network()
    conditional, weaker = denoiser.given(LABELS), network()[1]
    free = ClassifierFree(conditional, denoiser, 2.0)
    by_hand = {
        GuidanceConfig(2.0): free,
        GuidanceConfig(lambda t: 1 + t): ClassifierFree(conditional, denoiser, lambda t: 1 + t),
        GuidanceConfig(2.0, APG): APG(conditional, denoiser, 2.0),
        GuidanceConfig(2.0, levels=(0.2, 2.0)): Interval.levels(free, 0.2, 2.0),
        GuidanceConfig(2.0, CFGZeroStar, (0.2, 2.0), 0.7): Interval.levels(
            Rescaled(CFGZeroStar(conditional, denoiser, 2.0)), 0.2, 2.0
        ),
        GuidanceConfig(2.0, negative=NegativeLabel(3)): ClassifierFree(
            conditional, denoiser.given(torch.full_like(LABELS, 3)), 2.0
        ),
        GuidanceConfig(2.0, negative=WeakModel(weaker)): Autoguidance(conditional, weaker.given(LABELS), 2.0),
    }
    for guide, expected in by_hand.items():
        assert torch.equal(sample(guide(denoiser, LABELS), (5, 3), steps=6), sample(expected, (5, 3), steps=6)), guide
    assert GuidanceConfig(2.0, negative=WeakModel(weaker))(denoiser, None).unconditional.condition is None  # type: ignore[attr-defined]


def test_a_guide_has_a_name_where_that_says_all() -> None:
    assert str(GuidanceConfig(1.0, APG)) == "no guidance"
    whole = GuidanceConfig(2.5, APG, (0.2, 5), 0.7, NegativeLabel(8))
    assert str(whole) == "guidance 2.5, APG, levels 0.2 to 5, rescaled 0.7, not 8"
    assert whole.slug == "guidance-2.5-APG-levels-0.2-to-5-rescaled-0.7-not-8"
    assert str(GuidanceConfig(2, negative=WeakModel(network()[1], "early"))) == "guidance 2, away from early"
    assert str(GuidanceConfig(0.1)) != str(GuidanceConfig(0.1 + 1e-12))
    assert whole.named
    assert str(GuidanceConfig(lambda t: t)) == "guidance that varies"
    for vague in (
        GuidanceConfig(lambda t: t),
        GuidanceConfig(2.0, lambda *a: APG(*a, radius=1.0)),
        GuidanceConfig(2.0, negative=lambda m, c: m),
    ):
        assert not vague.named


def test_conditions_that_cannot_share_a_batch_take_two_calls() -> None:
    calls: list[int] = []

    def bare(x: Tensor, t: Tensor, condition: Any = None) -> Tensor:
        calls.append(len(x))
        return x * (1 if condition is None else 0.5)

    denoiser = NetworkDenoiser(bare, path.Linear(), target.Velocity())
    guided = ClassifierFree(denoiser.given("a word"), denoiser, 3.0)
    x = torch.randn(2, 3)
    assert torch.allclose(guided(x, 0.5).velocity(path.Linear().at(0.5, x)), x * (3 * 0.5 - 2))
    assert calls == [2, 2]
    sample(guided, (2, 3), steps=3)
    assert calls == [2] * 8


def test_vectors_and_tuples_share_a_batch() -> None:
    seen: list[Any] = []

    class Both(torch.nn.Module):
        classes = 4

        def forward(self, x: Tensor, t: Tensor, condition: Any = None) -> Tensor:
            seen.append(condition)
            return x

    denoiser = NetworkDenoiser(Both(), path.Linear(), target.Velocity())
    vector = torch.ones(5, 2)
    ClassifierFree(denoiser.given((LABELS, vector)), denoiser, 2.0)(torch.zeros(5, 3), 0.5)
    labels, vectors = seen[0]
    assert labels.tolist() == [*LABELS.tolist(), 4, 4, 4, 4, 4]
    assert vectors.tolist() == [[1, 1]] * 5 + [[0, 0]] * 5


def test_energies_reach_a_network_in_inference_mode() -> None:
    """The gradient through a network, under the mode in which models sample, is that of plain autograd."""
    _, denoiser = network()

    def energy(clean: Tensor) -> Tensor:
        return (clean - 1).square().sum(1)

    expected = sample(Energy(denoiser.given(LABELS), energy, 0.1), (5, 3), steps=5)
    with torch.inference_mode():
        drawn = sample(Energy(denoiser.given(LABELS), energy, 0.1), (5, 3), steps=5)
        for solver in (solvers.AdaptiveSDE(1.0, 1.0), solvers.PredictorCorrector()):
            assert sample(Energy(denoiser, energy, 0.1), (5, 3), solver=solver, steps=3).isfinite().all()
    assert torch.equal(drawn, expected)
    assert not torch.allclose(drawn, sample(denoiser.given(LABELS), (5, 3), steps=5))


@pytest.mark.parametrize("solver", solvers.ALL, ids=str)
def test_every_solver_takes_a_guided_denoiser(solver: solvers.Solver) -> None:
    _, denoiser = network()
    free = ClassifierFree(denoiser.given(LABELS), denoiser, 2.0)
    for guided in (free, Interval(Rescaled(free), 0.2, 0.8)):
        assert sample(guided, (5, 3), solver=solver, steps=5).isfinite().all()


def test_mistakes_are_named() -> None:
    c, u = of_class(path.Linear()), mixture(path.Linear())
    with pytest.raises(ValueError, match="need the same path"):
        ClassifierFree(c, mixture(path.Cosine()))
    with pytest.raises(ValueError, match="0 <= low < high <= 1"):
        Interval(ClassifierFree(c, u), 0.7, 0.2)
    with pytest.raises(ValueError, match="strength = 2"):
        Rescaled(ClassifierFree(c, u), 2.0)
    with pytest.raises(ValueError, match="radius"):
        APG(c, u, 2.0, radius=0.0)
    with pytest.raises(ValueError, match="zero_init"):
        CFGZeroStar(c, u, 2.0, zero_init=1.0)
    with pytest.raises(ValueError, match="below"):
        Clip(c, 1.0, -1.0)
    for bad, says in (
        ((float("nan"),), "finite"),
        ((2.0, APG, (3, 1)), "must rise"),
        ((2.0, APG, (0, 1), 2.0), "rescale"),
    ):
        with pytest.raises(ValueError, match=says):
            GuidanceConfig(*bad)
    with pytest.raises(ValueError, match="no noise levels"):
        GuidanceConfig(2.0, levels=(1e4, 1e5))(mixture(path.EDM()), 1)
    with pytest.raises(ValueError, match="quantile"):
        DynamicThreshold(c, 0.0)
    with pytest.raises(ValueError, match=r"one value for each of the 6"):
        Energy(u, lambda x: x.sum())(probe(path.Linear(), 0.5), 0.5)


class _Plain:
    """A denoiser that does not show that it is a network."""

    def __init__(self, denoiser: Denoiser) -> None:
        self.denoiser, self.path = denoiser, denoiser.path

    def __call__(self, x_t: Tensor, t: Time) -> Estimate:
        return self.denoiser(x_t, t)
