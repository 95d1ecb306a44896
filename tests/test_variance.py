"""Learned variances: the divergence and its minimum in closed form, sampling and bounds with them, and training."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import ornstein
from ornstein import grid, guidance, likelihood, path, solvers, target
from ornstein.errors import UsageError
from ornstein.likelihood import discrete
from ornstein.names import SOLVERS
from ornstein.networks import MLP
from ornstein.noise import PerSampleNoise
from ornstein.variance import VarianceDenoiser, before, divergence, estimated, hybrid_term, learned_by

STD = 0.6  # of the data N(0, STD²) of the closed forms
PAIRS = [(0.05, 0.1), (0.2, 0.7), (0.6, 0.65), (0.3, 0.99)]


def size(p: path.Path, t: Tensor) -> Tensor:
    """Var x_t."""
    return (p.alpha(t) * STD) ** 2 + p.sigma(t) ** 2


def exact_variance(p: path.Path, s: Tensor, t: Tensor) -> Tensor:
    """Var(x_s | x_t) of N(0, STD²): the joint law of x_s and x_t is normal, with covariance α_t/α_s·Var x_s."""
    covariance = p.alpha(t) / p.alpha(s) * size(p, s)
    return size(p, s) - covariance**2 / size(p, t)


def best(p: path.Path, s: Tensor, t: Tensor) -> Tensor:
    """The v of the exact variance."""
    ends = p.posterior(s, t).sigma.square().log(), p.transition(s, t).sigma.square().log()
    return (exact_variance(p, s, t).log() - ends[0]) / (ends[1] - ends[0])


def times(*values: float) -> list[Tensor]:
    return [torch.tensor(value, dtype=torch.float64) for value in values]


class Exact:
    """Called as a network: E[x | x_t] of N(0, STD²), and the best v of the steps of a grid, or one v for all."""

    def __init__(self, p: path.Path, steps: Tensor, v: float | None = None) -> None:
        self.path, self.steps, self.v = p, steps, v

    def __call__(self, x: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
        t = t.double()[:1]
        i = int((self.steps - t).abs().argmin())
        v = self.v if self.v is not None else float(best(self.path, self.steps[i + 1], self.steps[i]))
        clean = x * (self.path.alpha(t) * STD**2 / size(self.path, t)).to(x)
        return torch.cat([clean, torch.full_like(clean, 2 * v - 1)], 1)


@pytest.mark.parametrize("p", path.ALL, ids=repr)
@pytest.mark.parametrize(("s", "t"), PAIRS)
@pytest.mark.parametrize("v", [-0.2, 0.0, 0.4, 1.0])
def test_the_divergence_is_that_of_the_two_normals(p: path.Path, s: float, t: float, v: float) -> None:
    s_, t_ = times(s, t)
    x, clean, x_t = torch.randn(3, 4, 2, dtype=torch.float64)
    posterior, forward = p.posterior(s_, t_), p.transition(s_, t_).sigma
    std = (v * forward.log() + (1 - v) * posterior.sigma.log()).exp()
    means = (posterior.on_x_t * x_t + posterior.on_clean * one for one in (x, clean))
    normals = (
        torch.distributions.Normal(mean, sigma) for mean, sigma in zip(means, (posterior.sigma, std), strict=True)
    )
    expected = torch.distributions.kl_divergence(*normals)
    assert torch.allclose(divergence(p, s_, t_, x, clean, torch.full_like(x, v)), expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("p", path.ALL, ids=repr)
@pytest.mark.parametrize(("s", "t"), PAIRS)
def test_the_minimum_over_v_is_the_variance_of_the_reverse_step(p: path.Path, s: float, t: float) -> None:
    """Of x given x_t the mean and the variance count alone, so that two points stand for it."""
    s_, t_ = times(s, t)
    spread = (STD * p.sigma(t_) / size(p, t_).sqrt()).expand(1, 1)  # deviation of x given x_t
    v = best(p, s_, t_).expand(1, 1).clone().requires_grad_()
    zero = torch.zeros(1, 1, dtype=torch.float64)
    cost = sum(divergence(p, s_, t_, sign * spread, zero, v) for sign in (-1, 1))
    (slope,) = torch.autograd.grad(cost, v, create_graph=True)
    (curvature,) = torch.autograd.grad(slope, v)
    assert abs(float(slope.detach())) < 1e-6 * max(1.0, float(curvature))
    assert float(curvature) > 0


@pytest.mark.parametrize("p", [path.Linear(), path.Cosine(), path.VariancePreserving(), path.EDM()], ids=repr)
def test_with_the_best_variances_few_steps_keep_the_law(p: path.Path) -> None:
    """Steps with the exact mean and variance are exact draws, however long; those of the posterior's variance are not."""
    steps = grid.polynomial(p, 6)[:-1]  # to a level with noise
    denoiser = VarianceDenoiser(Exact(p, steps), p, target.Clean())
    start = size(p, steps[:1]).sqrt() * torch.randn(40_000, 1, generator=torch.Generator().manual_seed(0))
    scale = float(size(p, steps[-1]).sqrt())
    learned, fixed = (
        ornstein.sample(denoiser, start=start.float(), solver=solver, grid=steps, seed=3)
        for solver in (solvers.LearnedAncestral(), solvers.Ancestral())
    )
    assert float(learned.std()) == pytest.approx(scale, rel=0.02)
    assert float(fixed.std()) != pytest.approx(scale, rel=0.04)


@pytest.mark.parametrize("v", [0.0, 0.3, 1.0])
def test_one_v_for_all_is_ancestral_sampling_with_it(v: float) -> None:
    p = path.Betas.linear()
    steps = grid.polynomial(p, 7)
    denoiser = VarianceDenoiser(Exact(p, steps, v), p, target.Clean())
    start, noise = torch.randn(5, 3), PerSampleNoise(4)
    one, other = (
        ornstein.sample(denoiser, start=start, solver=solver, grid=steps, noise=noise)
        for solver in (solvers.LearnedAncestral(), solvers.Ancestral(v))
    )
    assert torch.allclose(one, other, atol=1e-5)


def test_bounds_with_learned_variances_are_tighter_and_exact_for_normal_data() -> None:
    p, x = path.Linear(), STD * torch.randn(2000, 1, generator=torch.Generator().manual_seed(1))
    entropy = 0.5 * math.log(2 * math.pi * math.e * STD**2)
    probe = likelihood.bound(
        VarianceDenoiser(Exact(p, torch.linspace(1, 0, 3), 0.0), p, target.Clean()), x[:2], steps=8
    )
    levels = probe.times.flip(0).double()
    steps = torch.cat([levels, torch.zeros(1, dtype=torch.float64)])
    denoiser = VarianceDenoiser(Exact(p, steps, None), p, target.Clean())

    class Last(Exact):  # the last level is the decoder's, whose v does not matter
        def __call__(self, x: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
            last = float(t[0]) <= float(levels[-1]) * 1.001
            return Exact(self.path, self.steps, 0.0 if last else None)(x, t)

    denoiser = VarianceDenoiser(Last(p, steps), p, target.Clean())
    totals = {
        name: float(likelihood.bound(denoiser, x, steps=8, variance=variance).total.mean())
        for name, variance in {"learned": None, "small": discrete.small, "large": discrete.large}.items()
    }
    error = 3 * STD / math.sqrt(len(x))
    assert totals["learned"] == pytest.approx(entropy, abs=error)
    assert min(totals["small"], totals["large"]) > totals["learned"] + 0.05


def test_no_gradient_of_the_bound_reaches_the_prediction() -> None:
    denoiser = VarianceDenoiser(Exact(path.Linear(), torch.tensor([1.0, 0.0])), path.Linear(), target.Velocity())
    x, x_t, prediction = torch.randn(3, 4, 2)
    prediction.requires_grad_()
    v = torch.full_like(x, 0.5).requires_grad_()
    t = torch.tensor([1e-9, 0.1, 0.5, 1.0])
    cost = hybrid_term(denoiser, x, x_t, t, prediction, v)
    assert cost.shape == (4,)
    assert cost.isfinite().all()
    assert torch.autograd.grad(cost.sum(), prediction, allow_unused=True, retain_graph=True)[0] is None
    assert torch.autograd.grad(cost.sum(), v)[0].isfinite().all()


def test_steps_of_the_bound_end_before_the_data() -> None:
    t = torch.tensor([1.0, 0.5, 0.002, 0.001, 1e-5], dtype=torch.float64)
    expected = torch.tensor([0.999, 0.499, 0.001, 0.0005, 5e-6], dtype=torch.float64)
    assert torch.allclose(before(t), expected, rtol=1e-9)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """On pairs of numbers of deviation .6 in two classes."""
    folder = tmp_path_factory.mktemp("variance")
    rng = np.random.default_rng(0)
    np.savez(
        folder / "pairs.npz", data=rng.normal(size=(4000, 2)).astype(np.float32), labels=rng.integers(2, size=4000)
    )
    ornstein.train(
        folder / "pairs.npz",
        out=folder / "run",
        learned_variance=True,
        steps=400,
        learning_rate=4e-3,
        batch_size=256,
        preset="tiny",
        threads=1,
        samples=0,
        snapshots=0,
        precision="float32",
        tell=lambda _: None,
    )
    return folder / "run"


def test_training_learns_the_variances(trained: Path) -> None:
    """Of N(0, s²) the best v of short steps is known. The bound's term weighs most near the data, where it is learned first."""
    run = ornstein.load(trained)
    p, std = run.model.path, float(run.model.spec.data_std)
    for t in (0.002, 0.005, 0.01, 0.03):
        t_ = torch.tensor(t, dtype=torch.float64)
        s_ = before(t_)
        total = (p.alpha(t_) * std) ** 2 + p.sigma(t_) ** 2
        v = estimated(run.denoiser, float(total.sqrt()) * torch.randn(500, 2), t)[1]
        posterior, gap = p.posterior(s_, t_), 2 * (p.sigma(t_) / p.sigma(s_)).log()
        spread = (posterior.on_clean * std * p.sigma(t_)) ** 2 / total
        expected = float((1 + spread / posterior.sigma**2).log() / gap)
        assert float(v.mean()) == pytest.approx(expected, abs=0.15)


def test_a_trained_run_samples_and_bounds_with_them(trained: Path) -> None:
    run = ornstein.load(trained)
    assert json.loads((trained / "model" / "config.json").read_text())["network"]["out_channels"] == 4
    assert isinstance(learned_by(run.denoiser), VarianceDenoiser)
    samples = run.sample(4000, solver="ancestral-learned", steps=12)
    assert samples.std() == pytest.approx(1, abs=0.1)
    guided = guidance.GuidanceConfig(2.0)
    assert np.isfinite(run.sample(4, label=1, guide=guided, solver="ancestral-learned", steps=5)).all()
    plain = [run.sample(3, label=1, solver=solver, steps=5) for solver in ("abm", "ancestral", "em")]
    assert all(np.isfinite(each).all() for each in plain)
    x = torch.from_numpy(run.sample(400, steps=20))
    learned, small = (
        float(likelihood.bound(run.denoiser, x, steps=10, variance=variance).total.mean())
        for variance in (None, discrete.small)
    )
    assert learned < small - 0.02


def test_v_of_a_guided_model_is_that_of_its_condition() -> None:
    torch.manual_seed(0)
    network = MLP(2, width=16, depth=1, classes=3, out_channels=4)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model = VarianceDenoiser(network, path.Linear(), target.Velocity())
    labels, x_t = torch.tensor([0, 1, 2, 1]), torch.randn(4, 2)
    for config in (
        guidance.GuidanceConfig(2.0),
        guidance.GuidanceConfig(2.0, rescale=0.5),
        guidance.GuidanceConfig(2.0, levels=(0.1, 9.0)),
    ):
        guided = config(model, labels)
        estimate, v = estimated(guided, x_t, 0.5)
        assert torch.allclose(estimate.clean, guided(x_t, 0.5).clean)
        assert torch.equal(v, model.given(labels).with_variance(x_t, 0.5)[1])


def test_predictors_are_the_prediction() -> None:
    torch.manual_seed(0)
    network = MLP(2, width=16, depth=1, out_channels=4)
    torch.nn.init.normal_(network.head.weight)
    denoiser = VarianceDenoiser(network, path.Linear(), target.Velocity())
    x_t = torch.randn(3, 2)
    (ask,) = denoiser.predictors(torch.tensor([0.4]), x_t)
    assert torch.equal(ask(x_t), denoiser.predict(x_t, 0.4))


def test_what_cannot_be_is_refused() -> None:
    plain = ornstein.NetworkDenoiser(MLP(2, width=16, depth=1), path.Linear(), target.Velocity())
    with pytest.raises(ValueError, match="--learned-variance"):
        ornstein.sample(plain, (2, 2), solver=SOLVERS["ancestral-learned"], steps=3)
    learned = VarianceDenoiser(Exact(path.Linear(), torch.tensor([1.0, 0.5, 0.0]), 0.5), path.Linear(), target.Clean())
    with pytest.raises(ValueError, match="falls"):
        list(ornstein.trajectory(learned, torch.randn(2, 2), solver=solvers.LearnedAncestral(), grid=[0.1, 0.5]))
    with pytest.raises(UsageError, match="leave learned_variance out"):
        ornstein.train("digits", steps=1, network=MLP(2), learned_variance=True, tell=lambda _: None)


def test_the_order_of_a_learned_variance_does_not_change_the_estimate() -> None:
    """With v behind it, the prediction means what it means alone."""
    torch.manual_seed(0)
    both = MLP(2, width=16, depth=1, out_channels=4)
    torch.nn.init.normal_(both.head.weight)
    alone = MLP(**{**both.config, "out_channels": None})
    state = both.state_dict()
    alone.load_state_dict({**state, "head.weight": state["head.weight"][:2], "head.bias": state["head.bias"][:2]})
    x_t = torch.randn(3, 2)
    for quantity in target.ALL[1:4]:
        one = VarianceDenoiser(both, path.Linear(), quantity)
        other = ornstein.NetworkDenoiser(alone, path.Linear(), quantity)
        assert torch.allclose(one(x_t, 0.5).clean, other(x_t, 0.5).clean, atol=1e-5)
        assert replace(one).predict(x_t, 0.5).shape == x_t.shape
