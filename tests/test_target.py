"""Every target on every path: one 2×2 solve takes a prediction back to data and noise, and the weights that go with it."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ornstein import path, target
from ornstein.estimate import Estimate
from ornstein.path import Path, Point
from ornstein.target import Target, determinant, reweigh

every_path = pytest.mark.parametrize("p", path.ALL, ids=repr)
every_target = pytest.mark.parametrize("q", target.ALL, ids=repr)


def solve(q: Target, point: Point, x_t: Tensor, prediction: Tensor) -> Estimate:
    """(clean, noise) by a dense solve, independent of the formulas in the library."""
    a, b = q(point)
    rows = torch.stack([torch.stack([point.alpha, point.sigma]), torch.stack([a, b])])
    clean, noise = torch.linalg.solve(rows, torch.stack([x_t, prediction]))
    return Estimate(clean, noise)


@every_path
@every_target
@settings(max_examples=6)
@given(t=st.floats(0.01, 0.99))
def test_round_trip(p: Path, q: Target, t: float) -> None:
    x, noise = torch.randn(2, 16, dtype=torch.float64)
    point = p.at(t, x)
    x_t = point.alpha * x + point.sigma * noise
    a, b = q(point)
    d = determinant(q, point)
    prediction = a * x + b * noise
    clean = (b * x_t - point.sigma * prediction) / d
    epsilon = (point.alpha * prediction - a * x_t) / d
    # 1e-10 in the units of x_t, whose own rounding is divided by alpha on the way to clean and by sigma to noise
    size = float(x_t.abs().max())
    assert float((point.alpha * (clean - x)).abs().max()) <= 1e-10 * size
    assert float((point.sigma * (epsilon - noise)).abs().max()) <= 1e-10 * size
    dense = solve(q, point, x_t, prediction)
    assert float((point.alpha * (clean - dense.clean)).abs().max()) <= 1e-10 * size
    assert float((Estimate(clean, epsilon).of((a, b)) - prediction).abs().max()) <= 1e-10 * float(
        prediction.abs().max()
    )


@every_path
@every_target
@pytest.mark.parametrize("end", [0.0, 1.0])
def test_round_trip_at_the_ends_where_the_determinant_allows(p: Path, q: Target, end: float) -> None:
    x, noise = torch.randn(2, 16, dtype=torch.float64)
    try:
        point = p.at(end, x)
    except ValueError as error:
        assert "infinite at t = 0" in str(error)  # noqa: PT017
        return
    a, b = q(point)
    d = determinant(q, point)
    if not math.isfinite(b) or float(d) == 0:
        refused = {(0.0, target.Clean), (0.0, target.Score), (1.0, target.Noise), (1.0, target.Score)}
        assert (end, type(q)) in refused
        return
    prediction = a * x + b * noise
    x_t = point.alpha * x + point.sigma * noise
    size = float(x_t.abs().max())
    clean = (b * x_t - point.sigma * prediction) / d
    epsilon = (point.alpha * prediction - a * x_t) / d
    assert float((point.alpha * (clean - x)).abs().max()) <= 1e-10 * size
    assert float((point.sigma * (epsilon - noise)).abs().max()) <= 1e-10 * size


@every_path
@every_target
@settings(max_examples=4)
@given(t=st.floats(0.02, 0.98))
def test_the_determinant_says_how_errors_spread(p: Path, q: Target, t: float) -> None:
    """δε̂ = (α/D)·δq̂ and δx̂ = −(σ/D)·δq̂, by differentiating the solve."""
    x_t, prediction = torch.randn(2, dtype=torch.float64)
    point = p.at(t, x_t)
    jacobian = torch.autograd.functional.jacobian(lambda v: torch.stack(solve(q, point, x_t, v)), prediction)
    d = determinant(q, point)
    assert math.isclose(jacobian[0], -point.sigma / d, rel_tol=1e-8)
    assert math.isclose(jacobian[1], point.alpha / d, rel_tol=1e-8)


@every_path
@pytest.mark.parametrize("to", target.ALL, ids=repr)
@every_target
def test_reweigh_carries_a_squared_error_from_one_target_to_another(p: Path, q: Target, to: Target) -> None:
    x, noise, guess = torch.randn(3, 8, dtype=torch.float64)
    for t in (0.05, 0.5, 0.95):
        point = p.at(t, x)
        x_t = point.alpha * x + point.sigma * noise
        truth = Estimate(x, noise)
        wrong = Estimate(guess, (x_t - point.alpha * guess) / point.sigma)  # a wrong estimate that agrees with x_t
        error_q = (wrong.of(q(point)) - truth.of(q(point))) ** 2
        error_to = (wrong.of(to(point)) - truth.of(to(point))) ** 2
        torch.testing.assert_close(reweigh(q, to, point) * error_to, error_q, rtol=1e-7, atol=1e-12)


@every_path
@given(t=st.floats(0.02, 0.98), sigma_data=st.floats(0.05, 5))
def test_edm_is_the_preconditioned_network_output(p: Path, t: float, sigma_data: float) -> None:
    """F in x_t = x_edm·α with Karras et al. 2022, table 1: D = c_skip·x_edm + c_out·F, and F has unit variance."""
    x, noise = torch.randn(2, 8, dtype=torch.float64)
    point = p.at(t, x)
    sigma = point.sigma / point.alpha
    c_skip = sigma_data**2 / (sigma**2 + sigma_data**2)
    c_out = sigma * sigma_data / (sigma**2 + sigma_data**2).sqrt()
    expected = (x - c_skip * (x + sigma * noise)) / c_out
    a, b = target.EDM(sigma_data)(point)
    torch.testing.assert_close(a * x + b * noise, expected, rtol=1e-7, atol=1e-7)
    assert math.isclose((a * sigma_data) ** 2 + b**2, 1, rel_tol=1e-12)


@every_path
@given(t=st.floats(0.02, 0.98))
def test_pairs_are_what_they_are_called(p: Path, t: float) -> None:
    x, noise = torch.randn(2, 5, dtype=torch.float64)
    point = p.at(t, x)
    truth = Estimate(x, noise)
    x_t = (point.alpha * x + point.sigma * noise).requires_grad_()
    log_density = -((x_t - point.alpha * x) ** 2).sum() / (2 * point.sigma**2)
    (score,) = torch.autograd.grad(log_density, x_t)
    torch.testing.assert_close(truth.of(target.Score()(point)), score, rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(truth.score(point), score, rtol=1e-7, atol=1e-9)
    at = torch.tensor(t, dtype=torch.float64)
    h = 1e-6
    moved = [p.alpha(at + d) * x + p.sigma(at + d) * noise for d in (h, -h)]
    velocity = (moved[0] - moved[1]) / (2 * h)
    torch.testing.assert_close(truth.of(target.Velocity()(point)), velocity, rtol=2e-3, atol=1e-5)
    torch.testing.assert_close(truth.velocity(point), truth.of(target.Velocity()(point)))
    torch.testing.assert_close(truth.of(target.Clean()(point)), x)
    torch.testing.assert_close(truth.of(target.Noise()(point)), noise)
    torch.testing.assert_close(truth.of(target.V()(point)), point.alpha * noise - point.sigma * x)


@given(t=st.floats(0.02, 0.98))
def test_on_the_trigonometric_path_v_is_the_velocity_by_angle(t: float) -> None:
    x, noise = torch.randn(2, 5, dtype=torch.float64)
    point = path.Trigonometric().at(t, x)
    truth = Estimate(x, noise)
    by_angle = truth.of(target.Velocity()(point)) / (math.pi / 2)
    torch.testing.assert_close(truth.of(target.V()(point)), by_angle)


def test_known_weights() -> None:
    """ε to x: the factor is the signal-to-noise ratio (Salimans and Ho 2022, section 4)."""
    x = torch.zeros(1, dtype=torch.float64)
    for p in path.ALL:
        point = p.at(0.4, x)
        snr = point.alpha**2 / point.sigma**2
        assert math.isclose(reweigh(target.Noise(), target.Clean(), point), snr, rel_tol=1e-12)
        assert math.isclose(reweigh(target.Score(), target.Noise(), point), 1 / point.sigma**2, rel_tol=1e-12)
    point = path.Linear().at(0.4, x)
    assert math.isclose(reweigh(target.Velocity(), target.Clean(), point), 1 / 0.4**2, rel_tol=1e-12)


def test_edm_refuses_data_without_spread() -> None:
    with pytest.raises(ValueError, match="sigma_data = 0 must be positive"):
        target.EDM(0)
