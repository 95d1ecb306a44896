"""Denoisers that hold a network: every target tells the same estimate, refusals, inputs, and what learning leads to."""

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from ornstein import NetworkDenoiser, exact, path, sample, solvers, target
from ornstein.denoiser import score, velocity
from ornstein.editing import DPS, Measurement
from ornstein.estimate import Estimate
from ornstein.guidance import ClassifierFree
from ornstein.path import Path, Time
from ornstein.preconditioning import Identity, Preconditioning, UnitVariance
from ornstein.solvers import Solver
from ornstein.target import Target, determinant

F64 = torch.float64
MEAN = torch.tensor([0.7, -0.4], dtype=F64)
COV = torch.tensor([[0.5, 0.3], [0.3, 0.4]], dtype=F64)


def invertible(p: Path, q: Target) -> bool:
    return abs(float(determinant(q, p.at(1.0, torch.zeros(1))))) > 1e-9


def perfect(denoiser: exact.Exact, q: Target) -> Callable[[Tensor, Tensor], Tensor]:
    """A network whose prediction of a target is the exact posterior mean."""

    def network(x: Tensor, t: Tensor) -> Tensor:
        return denoiser(x, t).of(q(denoiser.path.at(t, x)))

    return network


PAIRS = list(itertools.product(path.ALL, target.ALL))
USABLE = [(p, q) for p, q in PAIRS if invertible(p, q)]
REFUSED = [(p, q) for p, q in PAIRS if not invertible(p, q)]


@pytest.mark.parametrize("solver", solvers.ALL, ids=str)
@pytest.mark.parametrize("p", path.ALL, ids=str)
def test_a_perfect_network_samples_as_the_exact_denoiser_under_every_target(p: Path, solver: Solver) -> None:
    oracle = exact.Gaussian(MEAN, torch.tensor([0.5, 0.1], dtype=F64), p)
    start = torch.tensor([[0.3, -1.0], [2.0, 0.1]], dtype=F64) * p.sigma(torch.ones((), dtype=F64))
    times = solver.grid(p, 3)
    expected = sample(oracle, start=start, solver=solver, grid=times)
    for q in target.ALL:
        if invertible(p, q):
            denoiser = NetworkDenoiser(perfect(oracle, q), p, q)
            drawn = sample(denoiser, start=start, solver=solver, grid=times)
            assert float((drawn - expected).abs().max() / expected.abs().max().clamp_min(1)) < 1e-8


@pytest.mark.parametrize(("p", "q"), USABLE, ids=str)
def test_the_linear_network_learns_the_analytic_optimum(p: Path, q: Target) -> None:
    """Least squares of the target on x_t over a set with the exact moments of (x, ε), then inverted to the estimate."""
    oracle = exact.Gaussian(MEAN, COV, p)
    spread = 2 * torch.cat([torch.eye(4, dtype=F64), -torch.eye(4, dtype=F64)])  # mean 0, covariance 1, eight points
    x, noise = MEAN + spread[:, :2] @ torch.linalg.cholesky(COV).T, spread[:, 2:]
    for t in (0.02, 0.4, 0.97, 1.0):
        point = p.at(t, x)
        a, b = q(point)
        x_t = point.alpha * x + point.sigma * noise
        std = x_t.std()
        inputs = torch.cat([x_t / std, torch.ones(8, 1, dtype=F64)], 1)
        learned = torch.linalg.lstsq(inputs, a * x + b * noise).solution

        def network(y: Tensor, _: Tensor, scale: Tensor = std, weights: Tensor = learned) -> Tensor:
            return torch.cat([y / scale, torch.ones(len(y), 1, dtype=F64)], 1) @ weights

        probe = (MEAN * point.alpha + torch.randn(5, 2, dtype=F64) * std).double()
        estimate, truth = NetworkDenoiser(network, p, q)(probe, t), oracle(probe, t)
        scale = 1 / float(abs(determinant(q, point)).clamp(max=1))  # a small determinant magnifies rounding
        assert torch.allclose(network(probe, probe), truth.of((a, b)), rtol=1e-9, atol=1e-9 * scale)
        assert torch.allclose(estimate.clean, truth.clean, rtol=1e-9, atol=1e-12 * scale * float(1 + point.sigma**2))
        assert torch.allclose(estimate.noise, truth.noise, rtol=1e-9, atol=1e-12 * scale * float(1 + point.sigma**2))


@pytest.mark.parametrize(("p", "q"), REFUSED, ids=str)
def test_a_target_that_says_nothing_of_the_data_is_refused(p: Path, q: Target) -> None:
    with pytest.raises(ValueError) as caught:
        NetworkDenoiser(lambda x, t: x, p, q)
    message = str(caught.value)
    assert str(q) in message
    assert str(p) in message
    assert "target.Velocity()" in message
    assert "\n" not in message


def test_exactly_noise_and_score_at_zero_snr_are_refused() -> None:
    zero_snr = [p for p in path.ALL if float(p.alpha(torch.ones((), dtype=F64))) == 0]
    assert len(zero_snr) >= 5
    assert {(str(p), str(q)) for p, q in REFUSED} == {
        (str(p), str(q)) for p in zero_snr for q in (target.Noise(), target.Score())
    }


@pytest.mark.parametrize(("p", "q"), USABLE, ids=str)
def test_times_for_each_row_agree_with_one_time_for_all(p: Path, q: Target) -> None:
    denoiser = NetworkDenoiser(lambda x, t: torch.sin(x) + t.reshape(-1, 1, 1), p, q)
    x, t = torch.randn(3, 2, 2, dtype=F64), torch.tensor([0.1, 0.6, 1.0], dtype=F64)
    together = denoiser(x, t)
    for i in range(3):
        alone = denoiser(x[i : i + 1], float(t[i]))
        assert torch.allclose(together.clean[i], alone.clean[0], rtol=1e-12, atol=1e-12)
        assert torch.allclose(together.noise[i], alone.noise[0], rtol=1e-12, atol=1e-12)
        same = denoiser(x[i : i + 1], t[i])
        assert torch.equal(same.clean, alone.clean)


@pytest.mark.parametrize(("p", "q"), USABLE, ids=str)
def test_an_estimate_always_explains_its_input(p: Path, q: Target) -> None:
    """α·clean + σ·noise = x_t whatever the network says, at both ends too."""
    denoiser = NetworkDenoiser(lambda x, t: torch.cos(5 * x), p, q)
    x, t = torch.randn(4, 3, dtype=F64), torch.tensor([0.0, 0.3, 0.9, 1.0], dtype=F64)
    alpha, sigma = p.levels(t, x)
    estimate = denoiser(x, t)
    size = (alpha * estimate.clean).abs() + (sigma * estimate.noise).abs()
    assert bool(((alpha * estimate.clean + sigma * estimate.noise - x).abs() <= 1e-12 * (1 + size)).all())


@pytest.mark.parametrize(("p", "q"), USABLE, ids=str)
def test_without_noise_the_input_is_the_data(p: Path, q: Target) -> None:
    if float(p.sigma(torch.zeros((), dtype=F64))) > 0:
        pytest.skip("this path keeps some noise at t = 0")
    x = torch.randn(2, 3, dtype=F64)
    for t in (0.0, torch.zeros(2, dtype=F64)):
        estimate = NetworkDenoiser(lambda x, t: torch.full_like(x, 7.0), p, q)(x, t)
        assert torch.allclose(estimate.clean, x, rtol=1e-15)
        assert not estimate.noise.any()


def heard(p: Path, inputs: Preconditioning, x_t: Tensor, t: Time) -> tuple[Tensor, Tensor]:
    """What a network is called with."""
    calls: list[tuple[Tensor, Tensor]] = []

    def network(x: Tensor, clock: Tensor) -> Tensor:
        calls.append((x, clock))
        return torch.zeros_like(x)

    NetworkDenoiser(network, p, target.V(), inputs).predict(x_t, t)
    return calls[0]


def test_raw_inputs_are_what_was_given() -> None:
    for t in (0.25, torch.tensor(0.25), torch.full((3,), 0.25, dtype=F64)):
        x_t, times = heard(path.Linear(), Identity(), torch.ones(3, 2), t)
        assert torch.equal(x_t, torch.ones(3, 2))
        assert times.tolist() == [0.25] * 3
        assert times.dtype == torch.float32


@pytest.mark.parametrize("p", path.ALL, ids=str)
@pytest.mark.parametrize("t", [0.0, 0.3, 1.0])
def test_normalized_inputs_have_unit_variance_and_a_bounded_time(p: Path, t: Time) -> None:
    std, normalized = 0.37, UnitVariance(0.37)
    alpha, sigma = (float(c) for c in p.levels(t, torch.zeros(1)))
    x_t = torch.full((2, 1, 3), (alpha**2 * std**2 + sigma**2) ** 0.5)
    scaled, angle = heard(p, normalized, x_t, t)
    assert torch.allclose(scaled, torch.ones(2, 1, 3), rtol=1e-6)
    assert angle.shape == (2,)
    assert scaled.dtype == angle.dtype == torch.float32
    assert bool(((angle >= 0) & (angle <= 1)).all())
    assert torch.allclose(torch.sin(angle * torch.pi / 2) * alpha, torch.cos(angle * torch.pi / 2) * sigma, atol=1e-4)
    batched = heard(p, normalized, x_t, torch.full((2,), float(t), dtype=F64))
    assert torch.allclose(batched[0], scaled)
    assert torch.allclose(batched[1], angle)


def test_normalized_makes_one_network_serve_every_path() -> None:
    """At the same σ/α two paths give the network the same input."""
    seen = []
    for p in path.ALL:
        t = float(p.time(-2 * torch.tensor(0.8, dtype=F64).log()))
        scale = p.levels(t, torch.zeros(1))[0]
        inputs = heard(p, UnitVariance(0.5), torch.ones(1, 2, dtype=F64) * scale, t)
        seen.append(torch.cat([v.flatten() for v in inputs]))
    assert torch.allclose(torch.stack(seen), seen[0].expand(len(seen), -1), rtol=1e-9)


@pytest.mark.parametrize("inputs", [Identity(), UnitVariance(0.5)], ids=str)
@pytest.mark.parametrize("p", path.ALL, ids=str)
def test_predictors_are_predictions_made_ready(p: Path, inputs: Preconditioning) -> None:
    denoiser = NetworkDenoiser(lambda x, t: x * 2 + t[:, None], p, target.V(), inputs)
    x, times = torch.randn(3, 2, dtype=F64), torch.tensor([1.0, 0.6, 0.01], dtype=F64)
    for t, predict in zip(times, denoiser.predictors(times, x), strict=True):
        assert torch.allclose(predict(x), denoiser.predict(x, t), rtol=1e-12)


def test_a_condition_is_bound_before_solvers_see_the_denoiser() -> None:
    calls: list[tuple[object, ...]] = []

    def network(x: Tensor, t: Tensor, *condition: object) -> Tensor:
        calls.append(condition)
        return torch.zeros_like(x)

    plain = NetworkDenoiser(network, path.Linear(), target.Velocity())
    labels = torch.tensor([1, 2])
    bound = plain.given(labels)
    plain(torch.zeros(2, 3), 0.5)
    bound(torch.zeros(2, 3), 0.5)
    sample(bound, (2, 3), steps=2)
    assert calls[0] == ()
    assert all(condition == (labels,) or condition[0] is labels for condition in calls[1:])
    assert len(calls) == 4
    assert plain.condition is None
    assert bound.path == plain.path


@pytest.mark.parametrize("p", path.ALL, ids=str)
def test_score_and_velocity_of_every_denoiser(p: Path) -> None:
    """Of a network that knows the truth, of guidance, of a posterior and of a denoiser without methods: the closed form's."""
    truth = exact.Gaussian(torch.tensor([0.5, -1.0], dtype=F64), 0.3, p)

    class Bare:
        path = truth.path

        def __call__(self, x_t: Tensor, t: Time) -> Estimate:
            return truth(x_t, t)

    x, t = torch.randn(4, 2, dtype=F64), torch.tensor([0.2, 0.5, 0.7, 0.9], dtype=F64)
    network = NetworkDenoiser(lambda x, t: truth(x, t).of(target.V()(p.at(t, x))), p, target.V())
    measured = DPS(truth, Measurement(lambda x: x, torch.zeros(2, dtype=F64), 1e6), zeta=1e-12)
    for denoiser in (network, ClassifierFree(truth, truth, 2.0), measured):
        assert torch.allclose(denoiser.score(x, t), truth.score(x, t), rtol=1e-8, atol=1e-8)
        assert torch.allclose(denoiser.velocity(x, t), truth.velocity(x, t), rtol=1e-8, atol=1e-8)
    assert torch.allclose(score(Bare(), x, t), truth.score(x, t), rtol=1e-8)
    assert torch.allclose(velocity(Bare(), x, 0.5), truth.velocity(x, 0.5), rtol=1e-8)


def test_there_is_no_score_without_noise() -> None:
    with pytest.raises(ValueError, match="has no noise at t = 0, so no score; use t > 0"):
        score(
            NetworkDenoiser(lambda x, t: x, path.Linear(), target.Velocity()),
            torch.ones(2, 2),
            torch.tensor([0.5, 0.0]),
        )
