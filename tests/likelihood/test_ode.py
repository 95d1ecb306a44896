"""The likelihood along the ODE against closed forms, on every path."""

import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from ornstein import likelihood, path, target
from ornstein.denoiser import Denoiser, NetworkDenoiser
from ornstein.estimate import Estimate
from ornstein.exact import Gaussian, GaussianMixture
from ornstein.likelihood import fixed
from ornstein.likelihood.prior import default
from ornstein.networks import MLP, UNet
from ornstein.noise import PerSampleNoise
from ornstein.objective import Objective
from ornstein.path import Path, Time

F64 = torch.float64
every_path = pytest.mark.parametrize("p", path.ALL, ids=repr)


def mixture(dim: int, p: Path, components: int = 5, seed: int = 1) -> GaussianMixture:
    draw = torch.Generator().manual_seed(seed)
    weights = torch.rand(components, generator=draw, dtype=F64) + 0.3
    means = torch.randn(components, dim, generator=draw, dtype=F64)
    variances = torch.rand(components, generator=draw, dtype=F64) * 0.2 + 0.03
    return GaussianMixture(weights / weights.sum(), means, variances, p)


def data(model: GaussianMixture | Gaussian, count: int, t: float = 0.0) -> Tensor:
    return model.draw(count, t, torch.Generator().manual_seed(0))


@dataclass(frozen=True, eq=False)
class Opaque:
    """A denoiser that does not tell that it knows its density."""

    denoiser: Denoiser

    @property
    def path(self) -> Path:
        return self.denoiser.path

    def __call__(self, x_t: Tensor, t: Time) -> Estimate:
        return self.denoiser(x_t, t)


@every_path
@pytest.mark.parametrize("dim", [1, 2])
def test_a_mixture_on_every_path(p: Path, dim: int) -> None:
    model = mixture(dim, p)
    x = data(model, 24)
    found, truth = likelihood.log_prob(model, x), model.log_prob(x)
    assert found.shape == (24,)
    assert float((found - truth).abs().max()) / dim < 1e-6
    blind = likelihood.log_prob(Opaque(model), x)  # the Gaussian prior that the denoiser tells
    assert float((blind - truth).abs().max()) / dim < 1e-3


@pytest.mark.parametrize("p", [path.Linear(), path.VarianceExploding()], ids=repr)
@pytest.mark.parametrize("dim", [16, 64])
def test_more_dimensions(p: Path, dim: int) -> None:
    model = mixture(dim, p)
    x = data(model, 6)
    truth = model.log_prob(x)
    assert float((likelihood.log_prob(model, x) - truth).abs().max()) / dim < 1e-3
    tight = likelihood.log_prob(model, x, solver=likelihood.FixedSteps(160))
    assert float((tight - truth).abs().max()) / dim < 1e-6


@every_path
def test_the_matched_prior_is_exact_for_a_gaussian_with_any_covariance(p: Path) -> None:
    cov = torch.tensor([[1.0, 0.6, 0.0], [0.6, 0.5, 0.1], [0.0, 0.1, 0.3]], dtype=F64)
    model = Gaussian(torch.tensor([1.5, -0.5, 0.2], dtype=F64), cov, p)
    x = data(model, 8, 1.0)
    assert torch.allclose(likelihood.matched(model, x), model.log_prob(x, 1.0), rtol=0, atol=1e-9)


@every_path
def test_the_standard_prior_gives_the_density_of_what_is_drawn(p: Path) -> None:
    """`sample` starts from N(0, σ²I): its exact density for Gaussian data follows from the exact flow."""
    model = Gaussian(torch.tensor([1.5, -0.5], dtype=F64), torch.tensor([0.4, 1.3], dtype=F64), p)
    x = data(model, 8)
    end = model.flow(x, 0.0, 1.0)
    _, sigma = p.levels(1.0, x)
    grown = (end[1:] - end[:1]) / (x[1:] - x[:1])  # the flow is affine in each coordinate
    drawn = torch.distributions.Normal(torch.zeros((), dtype=F64), sigma).log_prob(end).sum(1)
    expected = drawn + grown[:1].log().sum(1)
    assert torch.allclose(likelihood.log_prob(model, x, prior=likelihood.standard), expected, rtol=0, atol=1e-6)


@every_path
def test_the_density_at_other_times(p: Path) -> None:
    model = mixture(2, p)
    t = float(p.time(torch.tensor(1.0, dtype=F64)))
    x = data(model, 8, t)
    assert torch.allclose(likelihood.log_prob(model, x, t), model.log_prob(x, t), rtol=0, atol=1e-6)


def test_priors_for_those_who_know_and_who_do_not() -> None:
    model = mixture(2, path.VarianceExploding())
    x = data(model, 3, 1.0)
    assert default(model) is likelihood.known
    assert default(Opaque(model)) is likelihood.matched
    assert torch.equal(likelihood.known(model, x), model.log_prob(x, 1.0))
    with pytest.raises(TypeError, match=r"Opaque does not know its density; use likelihood\.matched"):
        likelihood.known(Opaque(model), x)
    wide = mixture(80, path.Betas.scaled_linear())  # too wide for a Jacobian: the mean alone
    x = data(wide, 16, 1.0)
    off = (likelihood.matched(wide, x) - wide.log_prob(x, 1.0)).abs() / 80
    assert float(off.mean()) < 2e-3
    assert float(off.mean()) < 0.5 * float((likelihood.standard(wide, x) - wide.log_prob(x, 1.0)).abs().mean()) / 80


def honest(solver: Tensor, error: Tensor) -> None:
    """The error of the steps is known within factors of 2 and 3 for nine items of ten, and its sign."""
    ratio = solver / error
    assert float(((ratio > 0.5) & (ratio < 3)).double().mean()) >= 0.9, ratio


@pytest.mark.parametrize("deviation", [3e-2, 3e-3, 3e-4, 1e-4])
@pytest.mark.parametrize("p", [path.Linear(), path.VariancePreserving()], ids=repr)
def test_structure_far_below_a_thousandth_is_resolved_and_its_error_estimated(p: Path, deviation: float) -> None:
    means = torch.tensor([[-1.0, 0.5], [0.7, -0.3]], dtype=F64)
    model = GaussianMixture([0.3, 0.7], means, deviation**2, p)
    x = data(model, 48)
    truth = model.log_prob(x)
    assert float((likelihood.log_prob(model, x) - truth).abs().max()) <= 1e-3 * 2
    few = likelihood.estimate(model, x, solver=likelihood.FixedSteps(32))
    honest(few.solver, truth - few.log_prob)


def test_the_error_of_a_trained_network_is_estimated() -> None:
    """A network smooth in time, of which no step count has the method's order."""
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(2000, 2, generator=generator) / 2
    x = torch.stack([z[:, 0], z[:, 0] ** 2 + z[:, 1] / 5], 1)
    network = MLP(2, width=32, depth=2, fourier=1.0)
    denoiser = NetworkDenoiser(network, path.Linear(), target.Velocity())
    rule, optimizer = Objective(path.Linear(), target.Velocity()), torch.optim.Adam(network.parameters(), 3e-3)
    for _ in range(300):
        batch = x[torch.randint(len(x), (128,), generator=generator)]
        rule.loss(denoiser.predict, batch, generator).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    network.double().requires_grad_(False)
    some = x[:32].double()
    truth = likelihood.log_prob(denoiser, some, solver=likelihood.FixedSteps(1000))
    assert float((likelihood.log_prob(denoiser, some) - truth).abs().max()) <= 1e-3 * 2
    found = likelihood.estimate(denoiser, some, solver=likelihood.FixedSteps(24))
    honest(found.solver, truth - found.log_prob)


def test_the_solver_part_tells_the_size_of_the_error() -> None:
    model = mixture(16, path.Linear())
    x = data(model, 16)
    found = likelihood.estimate(model, x, solver=likelihood.FixedSteps(24))
    error = model.log_prob(x) - found.log_prob
    assert torch.equal(found.probe, torch.zeros_like(found.probe))
    assert float(error.abs().mean()) > 1e-3  # few steps, so that there is something to tell
    honest(found.solver, error)
    assert torch.equal(found.log_prob, likelihood.log_prob(model, x, solver=likelihood.FixedSteps(24)))


def test_an_error_below_rounding_is_told_as_rounding() -> None:
    """In float32 and at the default number of steps finer ones differ by rounding alone."""
    model = mixture(16, path.Linear())
    x = data(model, 64)
    found = likelihood.estimate(model, x.float())
    error = (model.log_prob(x) - found.log_prob).abs()
    assert float(found.solver.abs().min()) > 1e-6
    assert float((error <= 3 * found.solver.abs()).double().mean()) >= 0.9
    fine = likelihood.estimate(model, x)
    assert float(fine.solver.abs().max()) < float(found.solver.abs().min())


def test_the_probe_part_tells_the_size_of_the_error() -> None:
    model = mixture(12, path.Linear())
    x = data(model, 64)
    found = likelihood.estimate(model, x, trace=likelihood.Hutchinson(16), solver=likelihood.FixedSteps(24))
    exact = likelihood.log_prob(model, x, solver=likelihood.FixedSteps(24))
    told, error = found.probe.square().mean().sqrt(), (found.log_prob - exact).square().mean().sqrt()
    assert 0.75 < float(error / told) < 1.3
    assert float(found.solver.abs().mean()) < 0.1  # no chance in it


def test_fresh_probes_at_every_step_beat_one_for_the_whole_way() -> None:
    model = mixture(12, path.Linear())
    x = data(model, 64)
    exact, errors = likelihood.log_prob(model, x, solver=likelihood.FixedSteps(24)), []
    flow = likelihood.ode.ProbabilityFlow(model, 0.0)
    for same in (False, True):
        solver, trace = likelihood.FixedSteps(24), likelihood.Hutchinson(1)
        y, divergence = solver.run(flow, flow.start(x), trace, PerSampleNoise(), same)
        errors.append(float((flow.log_prob(likelihood.known, y, divergence)[0] - exact).square().mean()))
    assert errors[0] < 0.8 * errors[1]


def test_adaptive_steps_agree() -> None:
    pytest.importorskip("torchdiffeq")
    model = mixture(2, path.VarianceExploding())
    x = data(model, 4)
    found = likelihood.estimate(model, x, solver=likelihood.Adaptive(1e-4, 1e-4))
    truth = model.log_prob(x)
    assert torch.allclose(found.log_prob, truth, rtol=0, atol=2e-2)
    assert torch.allclose(found.log_prob + found.solver, truth, rtol=0, atol=2e-4)
    probes, solver = likelihood.Hutchinson(8), likelihood.Adaptive(1e-3, 1e-3)
    flow = likelihood.ode.ProbabilityFlow(model, 0.0)
    y, divergence = solver.run(flow, flow.start(x), probes, PerSampleNoise())
    same = likelihood.FixedSteps(32).run(flow, flow.start(x), probes, PerSampleNoise(), same=True)
    assert torch.allclose(y, same[0], atol=0.05)
    assert torch.allclose(divergence, same[1], atol=0.3)  # the same one probe for the whole way


def test_a_row_depends_on_its_seed_and_not_on_its_batch() -> None:
    model = mixture(3, path.Cosine())
    x = data(model, 5)
    for trace in likelihood.TRACES:
        options = {"trace": trace, "solver": likelihood.FixedSteps(12)}
        whole = likelihood.log_prob(model, x, **options)
        part = likelihood.log_prob(model, x[2:4], **options, noise=PerSampleNoise(0, 2))
        assert torch.allclose(whole[2:4], part, rtol=0, atol=1e-10)
        other = likelihood.log_prob(model, x, **options, noise=PerSampleNoise(1))
        exact = trace.exact or isinstance(trace, likelihood.HutchPP)  # whose rank covers three dimensions
        assert exact == torch.allclose(whole, other, rtol=0, atol=1e-10)


def test_networks_in_float32_and_within_inference_mode() -> None:
    torch.manual_seed(0)
    network = UNet(1, width=8, multipliers=(1,), blocks=1, classes=3)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.15)
    denoiser = NetworkDenoiser(network.eval(), path.Linear(), target.Velocity())
    bound = denoiser.given(torch.tensor([0, 1, 2]))
    x = torch.randn(3, 1, 4, 4)
    found = likelihood.log_prob(bound, x, solver=likelihood.FixedSteps(12))
    assert found.dtype == torch.float32
    assert not found.requires_grad
    with torch.inference_mode():
        assert torch.allclose(likelihood.log_prob(bound, x, solver=likelihood.FixedSteps(12)), found)
    free = likelihood.log_prob(denoiser, x, solver=likelihood.FixedSteps(12))
    assert not torch.allclose(free, found)  # the condition counts
    network.double()
    fine = likelihood.log_prob(bound, x.double(), solver=likelihood.FixedSteps(12))
    assert torch.allclose(fine.float(), found, atol=1e-3)


@pytest.mark.parametrize("quantity", [target.Noise(), target.Clean(), target.V(), target.EDM(0.5)], ids=str)
def test_whatever_the_network_predicts(quantity: target.Target) -> None:
    p = path.VariancePreserving()
    model = mixture(2, p)

    def predict(x: Tensor, t: Tensor) -> Tensor:
        return model(x, t).of(quantity(p.at(t.clamp_min(1e-12), x)))

    x = data(model, 4)
    found = likelihood.log_prob(NetworkDenoiser(predict, p, quantity), x, prior=lambda _, y: model.log_prob(y, 1.0))
    assert torch.allclose(found, model.log_prob(x), rtol=0, atol=1e-5)


def test_the_quadrature_is_exact_up_to_degree_five() -> None:
    for steps in (6, 7, 12, 33):
        weights, nodes = torch.tensor(fixed.gregory(steps), dtype=F64), torch.arange(steps + 1, dtype=F64) / steps
        for degree in range(6):
            assert math.isclose(float(weights @ nodes**degree) / steps, 1 / (degree + 1), rel_tol=1e-11)
    assert fixed.DORMAND_PRINCE.order == 4  # as far as a tableau counts
    assert max(abs(d) for defects in fixed.DORMAND_PRINCE.defects().values() for d in defects) < 1e-14


def test_what_means_nothing_is_refused() -> None:
    model = mixture(1, path.Linear())
    x = data(model, 2)
    for t in (-0.1, 1.0):
        with pytest.raises(ValueError, match=r"must lie in \[0, 1\)"):
            likelihood.log_prob(model, x, t)
    with pytest.raises(ValueError, match="steps = 5"):
        likelihood.FixedSteps(5)
    with pytest.raises(ValueError, match="samples = 0"):
        likelihood.Hutchinson(0)
    with pytest.raises(ValueError, match="rank = 0"):
        likelihood.HutchPP(0)
    with pytest.raises(ValueError, match="must be positive"):
        likelihood.Adaptive(rtol=0)


@pytest.mark.slow
def test_standard_errors_cover_the_truth_in_95_percent_of_100_repeats() -> None:
    """Fresh data and probes each time; the truth is the entropy, by a million draws."""
    model = mixture(8, path.VariancePreserving())
    truth = -float(model.log_prob(data(model, 1_000_000)).mean())
    covered = 0
    for seed in range(100):
        x = model.draw(32, 0.0, torch.Generator().manual_seed(100 + seed))
        solver, trace = likelihood.FixedSteps(32), likelihood.Hutchinson(2)
        found = likelihood.estimate(model, x, solver=solver, trace=trace, noise=PerSampleNoise(seed))
        summary = likelihood.summarise(-found.log_prob, found.probe, found.solver)
        covered += abs(summary.mean - truth) < 2.04 * summary.total  # Student's t with 31 degrees of freedom
    assert 89 <= covered <= 99
