"""The objective: what it draws, what it weighs, and that its minimiser is the posterior mean under every target."""

import math

import pytest
import torch

from ornstein import objective, path, target
from ornstein.objective import Objective
from ornstein.target import determinant

PAIRS = [
    pytest.param(p, q, id=f"{p!r}-{q!r}")
    for p in path.ALL
    for q in target.ALL
    if not (
        float(p.alpha(torch.tensor(1.0, dtype=torch.float64))) < 1e-3 and isinstance(q, target.Noise | target.Score)
    )
]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("times", objective.TIMES, ids=repr)
@pytest.mark.parametrize("p", path.ALL, ids=repr)
def test_stratified_times_fill_every_slice_of_their_distribution(times: objective.Times, p: path.Path) -> None:
    n = 64
    draw = Objective(p, target.Clean(), times).draw(torch.zeros(n, 1), generator())
    edges = times(p, torch.arange(1, n, dtype=torch.float64) / n)
    counts = torch.bucketize(draw.t.double().sort().values, edges)
    assert (draw.t > 0).all()
    assert (draw.t <= 1).all()
    if edges.diff().min() > 1e-6:  # a clamped path piles the outer slices up at its end
        assert counts.tolist() == list(range(n))


@pytest.mark.parametrize(("p", "q"), PAIRS)
def test_a_draw_is_on_the_path_and_its_target_is_the_pair(p: path.Path, q: target.Target) -> None:
    x = torch.randn(32, 3, dtype=torch.float64)
    draw = Objective(p, q).draw(x, generator(1))
    noise_only = Objective(p, q).draw(torch.zeros_like(x), generator(1))  # same times, same noise
    point = p.at(draw.t, x)
    a, b = q(point)
    torch.testing.assert_close(draw.x_t - noise_only.x_t, point.alpha * x)
    torch.testing.assert_close(draw.q - noise_only.q, a * x)
    torch.testing.assert_close(noise_only.q * point.sigma, b * noise_only.x_t)


@pytest.mark.parametrize("weight", objective.WEIGHTS, ids=repr)
@pytest.mark.parametrize(("p", "q"), PAIRS)
def test_a_weight_means_the_same_for_every_target(weight: objective.Weight, p: path.Path, q: target.Target) -> None:
    """The same error of the clean estimate costs the same whatever is regressed, up to One, which is per target."""
    if weight.of is None:
        pytest.skip("states the error of the target itself")
    x = torch.randn(16, 2, dtype=torch.float64)
    one = Objective(p, q, weight=weight).draw(x, generator(2))
    reference = Objective(p, target.V(), weight=weight).draw(x, generator(2))
    point = p.at(one.t, x)
    error = one.weight / (determinant(target.Clean(), point) / determinant(q, point)).flatten() ** 2
    expected = reference.weight / (determinant(target.Clean(), point) / determinant(target.V(), point)).flatten() ** 2
    assert one.weight.isfinite().all()
    torch.testing.assert_close(error, expected, rtol=1e-8, atol=0)


def test_weights_are_those_of_their_papers() -> None:
    x = torch.zeros(5, 1, dtype=torch.float64)
    p = path.VariancePreserving()
    for q in (target.Noise(), target.Velocity(), target.V()):
        draw = Objective(p, q, weight=objective.MinSNR(5.0)).draw(x, generator())
        point = p.at(draw.t, x)
        snr = (point.alpha / point.sigma).flatten() ** 2
        if isinstance(q, target.Noise):
            torch.testing.assert_close(draw.weight, snr.clamp(max=5) / snr)  # Hang et al. 2023, section 3.4
        if isinstance(q, target.V):
            torch.testing.assert_close(draw.weight, snr.clamp(max=5) / (snr + 1))
    draw = Objective(p, target.Noise(), weight=objective.ELBO()).draw(x, generator())
    slope = torch.func.jvp(p._log_snr, (draw.t,), (torch.ones_like(draw.t),))[1]
    torch.testing.assert_close(draw.weight, -slope / 2)
    edm = Objective(path.EDM(), target.EDM(0.5), weight=objective.EDM(0.5)).draw(x, generator())
    torch.testing.assert_close(edm.weight, torch.ones_like(edm.weight))  # EDM's λ(σ)·c_out² = 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("weight", objective.WEIGHTS, ids=repr)
@pytest.mark.parametrize("q", target.ALL, ids=repr)
@pytest.mark.parametrize("p", path.ALL, ids=repr)
def test_every_weighted_loss_is_finite_on_all_of_the_path(
    p: path.Path, q: target.Target, weight: objective.Weight, dtype: torch.dtype
) -> None:
    """Both ends and their nearest numbers, for targets that say nothing there as well."""
    tiny = torch.finfo(dtype).eps
    u = torch.tensor([0.0, 1e-30, 1e-9, tiny, 0.3, 1 - 4 * tiny, 1 - tiny, 1.0], dtype=dtype)
    x = torch.ones(len(u), 2, dtype=dtype)
    for times in objective.TIMES:
        draw = Objective(p, q, times, weight).at(x, u, -x)
        assert draw.x_t.isfinite().all()
        assert (draw.weight * draw.q.square().mean(1)).isfinite().all()
        assert (draw.weight >= 0).all()


@pytest.mark.parametrize("weight", objective.WEIGHTS, ids=repr)
@pytest.mark.parametrize("q", [target.Clean(), target.Velocity(), target.V(), target.EDM(0.5)], ids=repr)
@pytest.mark.parametrize("p", [p for p in path.ALL if p.alpha(torch.ones(())) == 0], ids=repr)
def test_a_weight_at_zero_snr_is_the_limit_of_those_before(
    p: path.Path, q: target.Target, weight: objective.Weight
) -> None:
    t = torch.tensor([1 - 1e-4, 1.0], dtype=torch.float64)
    before, end = objective.weigh(weight, q, p.at(t, torch.zeros(2, 1))).flatten().tolist()
    assert end == pytest.approx(before, rel=2e-3, abs=2e-3)


def test_weights_at_the_ends_of_a_straight_path_have_their_closed_forms() -> None:
    """α = 1 − t, σ = t, and 1 for the determinant of the velocity."""
    point = path.Linear().at(torch.tensor([0.0, 1.0], dtype=torch.float64), torch.zeros(2, 1))
    ends = {
        objective.MinSNR(5.0): [0.0, 0.0],  # min(α², 5σ²)
        objective.Sigmoid(2.0): [0.0, 0.0],  # ασ/(σ² + α²/e²)
        objective.EDM(0.5): [1.0, 4.0],  # α² + σ²/σ_d²
        objective.One(): [1.0, 1.0],
    }
    for weight, expected in ends.items():
        found = objective.weigh(weight, target.Velocity(), point).flatten().tolist()
        assert found == pytest.approx(expected, abs=2e-5), weight
    assert float(objective.weigh(objective.MinSNR(5.0), target.Clean(), point)[0]) == pytest.approx(5)
    assert float(objective.weigh(objective.ELBO(), target.Velocity(), point)[1]) == pytest.approx(0, abs=2e-6)


@pytest.mark.parametrize(("p", "q"), PAIRS)
def test_a_linear_network_learns_the_analytic_optimum(p: path.Path, q: target.Target) -> None:
    """Data N(m, v): at each level the regression of q on (x_t, 1) is affine; least squares on the loss must find it."""
    m, v, n = 0.7, 0.4, 4096
    t = torch.full((n,), 0.6, dtype=torch.float64)
    # a quadrature instead of luck: x and ε on the product of two normal quantile grids
    normal = torch.special.ndtri((torch.arange(64, dtype=torch.float64) + 0.5) / 64)
    normal = normal / normal.std(unbiased=False)
    x = (m + math.sqrt(v) * normal).repeat_interleave(64)[:, None]
    noise = normal.repeat(64)[:, None]
    point = p.at(t, x)
    a, b = q(point)
    x_t = point.alpha * x + point.sigma * noise
    features = torch.cat([x_t / point.sigma, torch.ones_like(x_t)], 1)
    learned = features @ torch.linalg.lstsq(features, a * x + b * noise).solution
    residual = (x_t - point.alpha * m) / (point.alpha**2 * v + point.sigma**2)
    exact = a * (m + point.alpha * v * residual) + b * (point.sigma * residual)
    torch.testing.assert_close(learned, exact, rtol=1e-9, atol=1e-9 * float(exact.abs().max()))


def test_the_loss_is_the_weighted_mean_square_per_sample() -> None:
    x = torch.randn(6, 2, 3)
    rule = Objective(path.Linear(), target.Velocity(), weight=objective.Sigmoid())
    draw = rule.draw(x, generator(3))
    loss = rule.loss(lambda x_t, t: x_t * t.reshape(-1, 1, 1), x, generator(3))
    expected = draw.weight * ((draw.x_t * draw.t.reshape(-1, 1, 1) - draw.q) ** 2).mean((1, 2))
    torch.testing.assert_close(loss, expected)
